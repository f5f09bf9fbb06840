"""Whole Debian installations, made by mmdebstrap: a dom0 with systemd, its own kernel and tools and libvirt, and in it a domU with systemd
that pygrub starts from its own disk. One boot of each release serves its tests, in this order. They take some minutes to make and to boot, so
they run by name: make test T=installed.
"""
import re

import pytest

import rig

DISK = "/dev/vdb"
FIRST_BOOT = 600
# The words that tell pygrub what to start, since no boot loader is installed.
PYGRUB = {"bootloader": "pygrub", "bootloader_args": ["--kernel=/vmlinuz", "--ramdisk=/initrd.img", "--args=root=/dev/xvda console=hvc0"]}


@pytest.fixture(scope="module", params=["bookworm"])
def dom0(request):
    rig.build_images(f"debian-{request.param}/root.ext4")
    place = rig.CACHE / f"debian-{request.param}"
    disks = [rig.Disk(place / "root.ext4"), rig.Disk(place / "guest.ext4")]
    with rig.Machine(name=f"installed-{request.param}", kernel=place / "vmlinuz", initrd=place / "initrd.img", memory=2560, disks=disks,
                     extra=["-snapshot"], cmdline="dom0_mem=1024M,max:1024M",
                     dom0_args="root=LABEL=root net.ifnames=0 mitigations=off") as machine:
        machine.expect("root: ready", FIRST_BOOT)
        rig.put(machine, rig.TOP / "tools/image/guest-run", "/usr/bin/guest-run")
        machine.ok("chmod +x /usr/bin/guest-run; dmesg -n 1; export PAGER=cat SYSTEMD_PAGER=")
        yield machine


@pytest.fixture(scope="module")
def guest(dom0):
    domain = rig.Domain(dom0, "guest", kernel=None, ramdisk=None, extra=None, memory=512, vcpus=2, disk=[f"phy:{DISK},xvda,w"],
                        vif=["bridge=xenbr0"], **PYGRUB)
    domain.settings.pop("extra")
    domain.create(wait=False, timeout=300)
    domain.wait_ready(timeout=FIRST_BOOT)
    return domain


def test_all_services_start(dom0):
    dom0.run("systemctl is-system-running --wait", FIRST_BOOT)
    assert dom0.ok("systemctl --failed --no-legend --plain") == ""
    assert re.search(r"^active$", dom0.ok("systemctl is-active libvirtd.service || systemctl start libvirtd && systemctl is-active libvirtd", 120), re.M)


def test_the_journal_has_no_complaints(dom0):
    """Of what the kernel says about the machine that the hypervisor shows it."""
    journal = dom0.ok("journalctl -b -k -p err --no-pager -o cat", 120)
    assert journal.strip() in ("", "-- No entries --"), journal


def test_xl_knows_the_machine(dom0):
    assert re.search(r"^xen_version +: 4\.", dom0.ok("xl info"), re.M)
    assert "Domain-0" in dom0.ok("xl list")


def test_the_domu_starts_from_its_own_disk(dom0, guest):
    assert guest.ok("nproc") == "2"
    guest.run("systemctl is-system-running --wait", FIRST_BOOT)
    assert guest.ok("systemctl --failed --no-legend --plain") == ""
    assert " 0% packet loss" in guest.ok("ping -c 3 10.0.2.15")


def test_the_domu_is_saved_and_restored(dom0, guest):
    guest.ok("echo kept > /run/mark")
    dom0.ok("xl save guest /root/guest.save && xl restore /root/guest.save && rm /root/guest.save", 600)
    assert guest.ok("cat /run/mark", 120) == "kept"
    assert " 0% packet loss" in guest.ok("ping -c 3 10.0.2.15", 120)


def test_the_domu_reboots_and_shuts_down(dom0, guest):
    dom0.ok("xl reboot -w guest", 300)
    guest.wait_ready(times=2, timeout=FIRST_BOOT)
    dom0.ok("xl shutdown -w guest", 300)
    dom0.wait_until("! xl domid guest 2>/dev/null", 120)


# --- libvirt -------------------------------------------------------------------------------------------

XML = """<domain type="xen">
  <name>virt</name><memory unit="MiB">512</memory><vcpu>1</vcpu>
  <bootloader>pygrub</bootloader><bootloader_args>--kernel=/vmlinuz --ramdisk=/initrd.img</bootloader_args>
  <os><type arch="x86_64" machine="xenpv">linux</type><cmdline>root=/dev/xvda console=hvc0</cmdline></os>
  <devices>
    <disk type="block" device="disk"><driver name="phy"/><source dev="/dev/vdb"/><target dev="xvda" bus="xen"/></disk>
    <interface type="bridge"><source bridge="xenbr0"/></interface>
    <console type="pty"><target type="xen"/></console>
  </devices>
</domain>
"""


def virsh(dom0, command, timeout=120):
    return dom0.ok(f"virsh -q -c xen:///system {command}", timeout)


def state(dom0):
    return virsh(dom0, "domstate virt").strip()


@pytest.fixture(scope="module")
def virt(dom0):
    """A domain of libvirt's, running."""
    dom0.ok("cat > /root/virt.xml <<'END'\n" + XML + "END")
    virsh(dom0, "define /root/virt.xml")
    virsh(dom0, "start virt", 300)
    domain = rig.Domain(dom0, "virt")
    domain.wait_ready(timeout=FIRST_BOOT)
    return domain


def test_virsh_knows_the_machine(dom0):
    assert "<os_type>xen</os_type>" in virsh(dom0, "capabilities")
    assert re.search(r"CPU\(s\): +1", virsh(dom0, "nodeinfo"))
    assert "Domain-0" in virsh(dom0, "list")


def test_virsh_starts_a_domain(dom0, virt):
    assert state(dom0) == "running"
    assert re.search(r"Max memory: +5\d\d\d\d\d KiB", virsh(dom0, "dominfo virt"))
    assert "vcpu.current=1" in virsh(dom0, "domstats virt")
    assert "xvda" in virsh(dom0, "domblklist virt")
    assert "bridge" in virsh(dom0, "domiflist virt")


def test_virsh_suspends_and_resumes(dom0, virt):
    virsh(dom0, "suspend virt")
    assert state(dom0) == "paused"
    virsh(dom0, "resume virt")
    assert virt.ok("uname -s", 120) == "Linux"


def test_virsh_saves_and_restores(dom0, virt):
    virt.ok("echo kept > /run/mark")
    virsh(dom0, "save virt /root/virt.save", 600)
    assert state(dom0) == "shut off"
    virsh(dom0, "restore /root/virt.save", 600)
    assert virt.ok("cat /run/mark", 120) == "kept"


def test_virsh_dumps_a_core(dom0, virt):
    virsh(dom0, "dump virt /root/core --live", 600)
    assert dom0.ok("head -c 4 /root/core | tail -c 3; rm /root/core") == "ELF"


def test_virsh_attaches_and_detaches(dom0, virt):
    dom0.ok("truncate -s 8M /root/small.img")
    virsh(dom0, "attach-disk virt /root/small.img xvdb --driver qemu --subdriver raw --targetbus xen || "
                "virsh -q -c xen:///system attach-disk virt /root/small.img xvdb --targetbus xen", 120)
    dom0.wait_until("virsh -q -c xen:///system domblklist virt | grep -q xvdb", 60)
    virsh(dom0, "detach-disk virt xvdb", 120)


def test_virsh_reboots_shuts_down_and_destroys(dom0, virt):
    virsh(dom0, "reboot virt", 120)
    virt.wait_ready(times=2, timeout=FIRST_BOOT)
    virsh(dom0, "shutdown virt", 120)
    dom0.wait_until("[ \"$(virsh -q -c xen:///system domstate virt)\" = 'shut off' ]", 300)
    virsh(dom0, "start virt", 300)
    virsh(dom0, "destroy virt", 120)
    assert state(dom0) == "shut off"
    virsh(dom0, "undefine virt")
