"""Split block devices: a partition of the machine's disk (phy:) and a file through loop, sums compared both ways."""
import pytest

import rig

PARTITION = "/dev/vda2"
MIB = 16


@pytest.fixture(params=["partition", "file"])
def disk(request, dom0):
    """(path in dom0, xl's disk setting) of one backing store, filled with random data."""
    if request.param == "partition":
        path, setting = PARTITION, f"phy:{PARTITION},xvda,w"
    else:
        path, setting = "/tmp/disk.img", "format=raw, vdev=xvda, access=rw, target=/tmp/disk.img"
    dom0.ok(f"dd if=/dev/urandom of={path} bs=1M count={MIB} 2>/dev/null; sync", 120)
    yield path, setting
    dom0.run("rm -f /tmp/disk.img")


def md5(where, path):
    return where.ok(f"dd if={path} bs=1M count={MIB} 2>/dev/null | md5sum", 120).split()[0]


def test_domu_reads_what_dom0_wrote(dom0, domu, disk):
    path, setting = disk
    domain = domu(disk=[setting]).create()
    assert md5(domain, "/dev/xvda") == md5(dom0, path)


def test_dom0_reads_what_the_domu_wrote(dom0, domu, disk):
    path, setting = disk
    before = md5(dom0, path)
    domain = domu(disk=[setting]).create()
    domain.ok(f"dd if=/dev/urandom of=/dev/xvda bs=1M count={MIB}; sync; echo 3 > /proc/sys/vm/drop_caches", 180)
    written = md5(domain, "/dev/xvda")
    dom0.ok("xl shutdown -w domu", 120)
    dom0.wait_until("! xl domid domu 2>/dev/null")
    dom0.ok(f"blockdev --flushbufs {path} 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches")
    assert md5(dom0, path) == written != before


def test_small_and_odd_sized_requests(dom0, domu, disk):
    """Single sectors at odd places, as no page-sized request would hit them."""
    path, setting = disk
    domain = domu(disk=[setting]).create()
    for sector in (1, 7, 4095):
        domain.ok(f"echo sector {sector} here | dd of=/dev/xvda bs=512 seek={sector} conv=notrunc,sync; sync")
    domain.destroy()
    dom0.ok(f"blockdev --flushbufs {path} 2>/dev/null; true")
    for sector in (1, 7, 4095):
        assert f"sector {sector} here" in dom0.ok(f"dd if={path} bs=512 skip={sector} count=1 2>/dev/null | tr -d '\\0'")


def test_read_only_disk_refuses_writes(dom0, domu):
    domain = domu(disk=[f"phy:{PARTITION},xvda,r"]).create()
    assert domain.ok("cat /sys/block/xvda/ro") == "1"
    assert domain.run("dd if=/dev/zero of=/dev/xvda bs=512 count=1").status != 0


def test_two_disks(dom0, domu):
    dom0.ok("truncate -s 8M /tmp/second")
    domain = domu(disk=[f"phy:{PARTITION},xvda,w", "/tmp/second,raw,xvdb,rw"]).create()
    sizes = domain.ok("cat /sys/block/xvda/size /sys/block/xvdb/size").split()
    assert sizes == [str(32 * 2048), str(8 * 2048)]


def test_disk_attached_and_detached_while_running(dom0, domu):
    domain = domu().create()
    dom0.ok("truncate -s 8M /tmp/later; xl block-attach domu /tmp/later,raw,xvdb,rw")
    domain.ok("for i in $(seq 40); do [ -b /dev/xvdb ] && break; sleep 0.5; done; dd if=/dev/xvdb of=/dev/null bs=1M")
    dom0.ok("xl block-detach domu xvdb")
    domain.ok("for i in $(seq 40); do [ -b /dev/xvdb ] || break; sleep 0.5; done; [ ! -b /dev/xvdb ]")
