"""grub-x86_64-xen.bin as a domU's kernel: it reads its menu from the domU's disk and boots Linux from there."""
import rig

GRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"


def test_pv_grub_boots_linux_from_its_disk(dom0, domu):
    domain = domu(kernel=GRUB, ramdisk=None, extra=None, memory=160, disk=["phy:/dev/sda,xvda,r"]).create(wait=False)
    dom0.wait_until(f"grep -aq 'viagrub: ready' {domain.console_log}", 240)
    assert "rig.name=viagrub" in domain.ok("cat /proc/cmdline")


def test_pv_grub_without_a_disk_offers_its_prompt(dom0, domu):
    domain = domu(kernel=GRUB, ramdisk=None, extra=None, memory=64).create(wait=False)
    dom0.wait_until(f"grep -aq 'grub' {domain.console_log}", 60)
    assert domain.state() is not None
