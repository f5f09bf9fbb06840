"""Debian 13's kernel, as its package has it, below Debian 12's tools: as dom0, and in a domU with a disk and a network card."""
import pytest

import rig

KERNEL = rig.CACHE / "trixie/kernel/vmlinuz"


@pytest.fixture(scope="module")
def debian13(images):
    rig.build_images("trixie-dom0.cpio", "trixie-domu.cpio", "trixie/kernel/vmlinuz")
    with rig.Machine(name="debian13", kernel=KERNEL, initrd=rig.CACHE / "trixie-dom0.cpio") as machine:
        machine.wait_for_dom0()
        yield machine


def test_debian_13_kernel_is_dom0(debian13):
    assert debian13.ok("uname -r").startswith("6.12")
    assert "Domain-0" in debian13.ok("xl list")
    assert "cannot map" not in debian13.transcript()


def test_debian_13_kernel_is_a_domu_with_disk_and_network(debian13):
    rig.put(debian13, KERNEL, "/tmp/vmlinuz")
    rig.put(debian13, rig.CACHE / "trixie-domu.cpio", "/tmp/initrd")
    debian13.ok("truncate -s 16M /tmp/disk")
    domain = rig.Domain(debian13, kernel="/tmp/vmlinuz", ramdisk="/tmp/initrd", memory=192, disk=["/tmp/disk,raw,xvda,rw"],
                        vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()
    assert domain.ok("uname -r").startswith("6.12")
    domain.ok("dd if=/dev/urandom of=/tmp/f bs=64k count=8; dd if=/tmp/f of=/dev/xvda bs=64k; sync")
    domain.ok("echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda bs=64k count=8 | cmp - /tmp/f")
    domain.ok("ping -c 2 10.0.2.15")
    domain.destroy()
