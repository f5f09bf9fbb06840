"""Grant tables of version 2, which Debian's Linux uses when its command line says so: dom0 with it, and domUs with either version,
share disks and networks as ever. Test kernels with it, in each page-table format and beside a dom0 of version 1: test_guest_io.py."""
import pytest

import rig

V2 = "grant_table.version=2"
MIB = 4


@pytest.fixture(scope="module")
def dom0_v2(images):
    with rig.Machine(name="grants", dom0_args=V2) as machine:
        machine.wait_for_dom0()
        yield machine


@pytest.fixture(scope="module")
def guests(dom0_v2):
    """{version: a running domU whose grants are of it}, each with a disk and a network card."""
    made = {}
    for number, words in ((1, ""), (2, V2)):
        disk = f"/tmp/disk{number}"
        dom0_v2.ok(f"dd if=/dev/urandom of={disk} bs=1M count={MIB} 2>/dev/null")
        made[number] = rig.Domain(dom0_v2, f"v{number}", disk=[f"{disk},raw,xvda,rw"], vif=["bridge=xenbr0"], memory=112,
                                  extra=f"rig.ip=10.0.2.2{number} {words}").create()
    yield made
    for domain in made.values():
        domain.destroy()


def version(where):
    return int(where.ok("dmesg | sed -n 's/.*Grant tables using version \\([0-9]\\).*/\\1/p'"))


def md5(where, path):
    return where.ok(f"dd if={path} bs=1M count={MIB} 2>/dev/null | md5sum", 120).split()[0]


def test_each_kernel_uses_what_it_asks_for(dom0_v2, guests):
    assert version(dom0_v2) == 2
    assert {number: version(guest) for number, guest in guests.items()} == {1: 1, 2: 2}


@pytest.mark.parametrize("number", [1, 2])
def test_disk_sums(dom0_v2, guests, number):
    guest, path = guests[number], f"/tmp/disk{number}"
    before = md5(dom0_v2, path)
    assert md5(guest, "/dev/xvda") == before
    guest.ok(f"dd if=/dev/urandom of=/dev/xvda bs=1M count={MIB}; sync; echo 3 > /proc/sys/vm/drop_caches", 180)
    dom0_v2.ok("sync; echo 3 > /proc/sys/vm/drop_caches")
    assert md5(guest, "/dev/xvda") == md5(dom0_v2, path) != before


@pytest.mark.parametrize("sender, receiver", [(1, 2), (2, 1)])
def test_tcp_sums(guests, sender, receiver):
    source, sink = guests[sender], guests[receiver]
    sink.ok("rm -f /tmp/got /tmp/sum; [ -p /tmp/never ] || mkfifo /tmp/never; "
            "(nc -l -p 5001 <> /tmp/never > /tmp/got; md5sum < /tmp/got > /tmp/sum) > /dev/null 2>&1 &")
    source.ok(f"dd if=/dev/urandom of=/tmp/data bs=1M count={MIB} 2>/dev/null; sleep 1; nc 10.0.2.2{receiver} 5001 < /tmp/data",
              120)
    got = sink.ok("for i in $(seq 60); do [ -s /tmp/sum ] && break; sleep 0.5; done; cat /tmp/sum; rm -f /tmp/sum /tmp/got")
    assert got.split()[0] == source.ok("md5sum < /tmp/data").split()[0]


def test_save_and_restore(dom0_v2, guests):
    """A domain's new life begins with a table of version 1: its kernel asks for version 2 again."""
    guest = guests[2]
    dom0_v2.ok("xl save v2 /tmp/saved", 120)
    dom0_v2.wait_until("! xl domid v2 2>/dev/null", 60)
    dom0_v2.ok("xl restore /tmp/saved; rm /tmp/saved", 120)
    assert md5(guest, "/dev/xvda") == md5(dom0_v2, "/tmp/disk2")
    guest.ok("ping -c 2 10.0.2.15")
    dom0_v2.ok("xl dmesg -c > /dev/null; xl debug-keys g")
    dom0_v2.ok(f"xl dmesg | grep -q 'd{guest.domid()}: grant table, version 2'")


def test_the_toolstack_can_refuse_it(dom0_v2):
    domain = rig.Domain(dom0_v2, "limited", max_grant_version=1, extra=V2, disk=["/tmp/disk1,raw,xvda,r"])
    dom0_v2.ok("[ -e /tmp/disk1 ] || truncate -s 1M /tmp/disk1")
    domain.create()
    try:
        assert version(domain) == 1
        domain.ok("dd if=/dev/xvda of=/dev/null bs=64k count=4")
    finally:
        domain.destroy()
