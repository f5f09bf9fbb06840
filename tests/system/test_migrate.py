"""xl migrate: a domain goes on elsewhere while it runs, with all that it has written until then."""
import time


def migrate(dom0, name="domu", seconds=240):
    """To the same host: the receiving end is a command of it."""
    return dom0.ok(f"xl migrate -s '' {name} 'xl migrate-receive' 2>&1", seconds)


def test_migration_keeps_memory_and_devices(dom0, domu):
    dom0.ok("truncate -s 8M /tmp/disk")
    domain = domu(disk=["/tmp/disk,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()
    domid = domain.domid()
    domain.ok("head -c 2000000 /dev/urandom > /tmp/data; sha256sum /tmp/data > /tmp/sum")
    # Somebody writes all the time: files whose sums are kept beside them.
    domain.ok("(i=0; while :; do head -c 300000 /dev/urandom > /tmp/w$((i % 8)); sha256sum /tmp/w$((i % 8)) > /tmp/s$((i % 8)); "
              "i=$((i + 1)); echo $i > /tmp/count; done) > /dev/null 2>&1 &")
    print(migrate(dom0))
    assert domain.domid() != domid
    assert "OK" in domain.ok("sha256sum -c /tmp/sum")
    first = int(domain.ok("cat /tmp/count").split()[-1])
    time.sleep(3)
    assert int(domain.ok("cat /tmp/count").split()[-1]) > first
    domain.ok("kill $!; sleep 1; n=$(($(cat /tmp/count) % 8)); "
              "for i in 0 1 2 3 4 5 6 7; do [ $i = $n ] || sha256sum -c /tmp/s$i || exit 1; done")
    domain.ok("ping -c 2 10.0.2.15")
    domain.ok("dd if=/tmp/data of=/dev/xvda; sync")
    assert dom0.ok("head -c 1999872 /tmp/disk | sha256sum").split() == domain.ok("head -c 1999872 /tmp/data | sha256sum").split()
