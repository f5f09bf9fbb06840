"""xl save and restore: the domain goes on where it was, and leaves nothing behind."""


def disk_domain(dom0, domu):
    dom0.ok("truncate -s 8M /tmp/disk")
    return domu(disk=["/tmp/disk,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()


def test_save_and_restore_keep_memory_and_devices(dom0, domu):
    domain = disk_domain(dom0, domu)
    domain.ok("head -c 2000000 /dev/urandom > /tmp/data; sha256sum /tmp/data > /tmp/sum")
    dom0.ok("xl save domu /tmp/saved", 120)
    dom0.wait_until("! xl domid domu 2>/dev/null", 60)
    dom0.ok("xl restore /tmp/saved; rm /tmp/saved", 120)
    assert "OK" in domain.ok("sha256sum -c /tmp/sum")
    domain.ok("ping -c 2 10.0.2.15")
    domain.ok("dd if=/tmp/data of=/dev/xvda; sync")
    assert dom0.ok("head -c 1999872 /tmp/disk | sha256sum").split() == domain.ok("head -c 1999872 /tmp/data | sha256sum").split()


def test_a_checkpoint_leaves_the_domain_running_and_is_restored_paused(dom0, domu):
    domain = disk_domain(dom0, domu)
    domid = domain.domid()
    domain.ok("echo before > /tmp/when")
    dom0.ok("xl save -c domu /tmp/saved", 120)
    assert domain.domid() == domid
    domain.ok("echo after > /tmp/when")
    domain.destroy()
    dom0.ok("xl restore -p /tmp/saved; rm /tmp/saved", 120)
    assert domain.state() == "p"
    dom0.ok("xl unpause domu")
    assert domain.ok("cat /tmp/when").split()[-1] == "before"
