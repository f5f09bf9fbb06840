"""What xl does, again with Debian 13 in dom0 and the domUs: the tools of Xen 4.20, Linux 6.12. Besides what only its xl has.
test_debian13_more.py has the rest."""
import gzip

import pytest

import rig
from test_save import *          # noqa: F401, F403
from test_toolstack import *     # noqa: F401, F403


@pytest.fixture
def dom0(debian13_dom0):
    return debian13_dom0


def test_tools_of_that_release_see_what_there_is(dom0):
    info = dom0.ok("xl info")
    assert "(null)" not in info
    assert dom0.ok("cat /sys/hypervisor/version/major /sys/hypervisor/version/minor").split() == dom0.release.xen.split(".")
    assert dom0.ok("uname -r").startswith("6.12")


def test_suspend_and_resume(dom0, domu):
    """xl of 4.20 has a domain suspend itself and stay where it is, and go on."""
    domain = domu("sleeper").create()
    domain.ok("echo kept > /tmp/word")
    dom0.ok("xl suspend sleeper")
    assert "s" in domain.state()
    dom0.ok("xl resume sleeper")
    dom0.wait_until("xl list sleeper | tail -n 1 | awk '{ print $5 }' | grep -qv s", 30)
    assert domain.ok("cat /tmp/word") == "kept"


def test_a_domu_of_the_other_release(dom0, domu):
    rig.put(dom0, rig.DEBIAN12.kernels / "vmlinux.gz", "/tmp/vmlinux.gz")
    rig.put(dom0, rig.DEBIAN12.domu, "/tmp/initrd")
    domain = domu("older", kernel="/tmp/vmlinux.gz", ramdisk="/tmp/initrd").create()
    assert domain.ok("uname -r").startswith("6.1.")
    domain.destroy()
    dom0.ok("rm /tmp/vmlinux.gz /tmp/initrd")


def said_by_the_loader(dom0, domu, scratch, name, pack):
    """What the log says of a domain of the least kernel without PAE, packed by pack(); the kernel says one line, and ends."""
    kernel = rig.bare_kernel("pt32", scratch)
    kernel.write_bytes(pack(kernel.read_bytes()))
    rig.build_images("i386/usr/lib/i386-linux-gnu/liblzma.a")
    rig.make("loader")
    for path in (kernel, rig.LOADER):
        rig.put(dom0, path, f"/tmp/{path.name}")
    dom0.ok("xl dmesg -c > /dev/null")
    domu(name, extra=None, memory=32, on_poweroff="preserve", on_crash="preserve",
         **rig.kernel_settings(f"/tmp/{kernel.name}", "pt32")).create(wait=False)
    dom0.wait_until(f"xl list {name} | tail -n 1 | awk '{{ print $5 }}' | grep -q '[sc]'", 60)
    return dom0.hypervisor_log()


def test_the_loader_starts_a_kernel_that_is_not_packed(dom0, domu, scratch):
    assert rig.BARE_RUNS in said_by_the_loader(dom0, domu, scratch, "bare", bytes)


def test_the_loader_unpacks_a_kernel(dom0, domu, scratch):
    """xl of 4.20 unpacks no ramdisk any more."""
    assert rig.BARE_RUNS in said_by_the_loader(dom0, domu, scratch, "packed", gzip.compress)
