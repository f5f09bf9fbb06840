"""PCI functions in domUs, behind QEMU's two IOMMUs and without any: cards and disks that a domU drives, and a device that is told to reach
for what is not its domain's. Which frames that are is the machine's to say; what is there is looked at from outside.
"""
import hashlib

import pytest

import rig
from test_iommu import DEVICES, Edu, attack, forge, hypervisor_address, needs_reports

EDU, CARD, DISK, OLD_CARD = "00:10.0", "00:11.0", "00:12.0", "00:13.0"
DISK_BYTES = 16 << 20
# A domU that has devices needs memory below 4 GiB for what they reach; the default is more than it has.
WORDS = "swiotlb=8192"


def devices(disk):
    """The card with messages is hidden from dom0 at boot, with the disk; the other one has a line."""
    return ["-device", "edu,dma_mask=0xffffffffffff,addr=0x10",
            "-netdev", "user,id=given", "-device", "e1000e,netdev=given,addr=0x11",
            "-drive", f"file={disk},if=none,id=given,format=raw,cache=unsafe", "-device", "nvme,drive=given,serial=given,addr=0x12",
            "-netdev", "user,id=old", "-device", "e1000,netdev=old,addr=0x13"]


def start(iommu, disk, cmdline, release=rig.DEBIAN12):
    unit = ["-device", DEVICES[iommu]] if iommu else []
    disk.write_bytes(bytes(range(256)) * (DISK_BYTES // 256))
    return rig.Machine(name=f"passthrough-{iommu}-{release.xen}", release=release, cmdline=f"xen-version={release.xen} {cmdline}",
                       extra=unit + devices(disk), nic=None, dom0_args=f"xen-pciback.hide=(0000:{CARD})(0000:{DISK})")


def domain(vm, name, functions):
    return rig.Domain(vm, name, memory=256, pci=functions, extra=WORDS)


# With Debian 12 in dom0 and the domUs, and, by name, with Debian 13: xl of 4.20, and Linux 6.12.
MACHINES = [pytest.param((iommu, rig.DEBIAN12), id=iommu) for iommu in DEVICES]
MACHINES.append(pytest.param(("intel-iommu", rig.DEBIAN13), id="debian13", marks=pytest.mark.long))


@pytest.fixture(scope="module", params=MACHINES)
def machine(request, tmp_path_factory):
    iommu, release = request.param
    rig.build_images(*(path.relative_to(rig.CACHE) for path in (release.dom0, release.domu)))
    disk = tmp_path_factory.mktemp("passthrough") / "disk"
    with start(iommu, disk, "", release) as vm:
        vm.wait_for_dom0()
        vm.iommu, vm.disk = iommu, disk
        yield vm


@pytest.fixture(scope="module")
def owner(machine):
    """A domU with the card and the disk."""
    owner = domain(machine, "owner", [CARD, DISK]).create()
    yield owner
    owner.destroy()


def assignable(vm):
    return vm.ok("xl pci-assignable-list").split()


def ping(owner):
    """By the only card that the domU has."""
    owner.ok("n=$(ls /sys/class/net | grep -v lo); ip link set $n up; ip address add 10.0.2.15/24 dev $n; "
             "for i in $(seq 20); do ping -c 1 -W 1 10.0.2.2 >/dev/null && break; sleep 0.5; done; ping -c 3 10.0.2.2", 90)


def interrupts(owner, pattern):
    """Lines of /proc/interrupts that have the pattern, by how many came."""
    lines = owner.ok(f"grep -E '{pattern}' /proc/interrupts || true").splitlines()
    return [int(line.split()[1]) for line in lines]


def test_what_is_hidden_at_boot_can_be_given(machine):
    assert "pv_directio" in machine.ok("xl info virt_caps")
    assert {f"0000:{CARD}", f"0000:{DISK}"} <= set(assignable(machine))


def fetch(owner, directory):
    """A file of 4 MiB comes by the only card that the domU has, as it is."""
    data = hashlib.sha256(b"seed").digest() * (4 << 15)
    (directory / "file").write_bytes(data)
    ping(owner)
    with rig.Outside() as outside:
        summed = owner.ok(f"wget -q -O - {outside.serve_file(directory / 'file')} | md5sum", 120)
    assert summed.split()[0] == hashlib.md5(data).hexdigest()


def test_traffic_of_a_card(machine, owner, tmp_path):
    """With messages, of which an e1000e has several."""
    fetch(owner, tmp_path)
    counts = interrupts(owner, "pcifront-msi-x.*eth")
    assert len(counts) >= 3 and sum(count > 0 for count in counts) >= 2, counts


def test_traffic_of_a_disk(machine, owner):
    want = hashlib.md5(machine.disk.read_bytes()).hexdigest()
    assert owner.ok("md5sum </dev/nvme0n1", 90).split()[0] == want
    owner.ok(f"head -c {DISK_BYTES} /dev/zero | tr '\\0' 'x' >/dev/nvme0n1 && sync", 120)
    assert machine.disk.read_bytes() == b"x" * DISK_BYTES
    assert sum(interrupts(owner, "pcifront.*nvme")) > 0


def test_a_card_with_a_line_comes_and_goes(machine):
    machine.ok(f"xl pci-assignable-add {OLD_CARD}", 90)
    other = domain(machine, "other", [OLD_CARD]).create()
    ping(other)
    assert sum(interrupts(other, "pcifront +eth")) > 0
    machine.ok(f"xl pci-detach other {OLD_CARD}", 120)
    assert not other.ok("ls /sys/bus/pci/devices").split()
    machine.ok(f"xl pci-assignable-remove {OLD_CARD}", 90)
    assert f"0000:{OLD_CARD}: domain {other.domid()}, which had it, keeps what it has mapped" in machine.transcript()
    machine.ok(f"xl pci-assignable-add {OLD_CARD}", 90)
    machine.ok(f"xl pci-attach other {OLD_CARD}", 120)
    other.ok("for i in $(seq 20); do [ -e /sys/class/net/eth0 ] && break; sleep 0.5; done", 60)
    ping(other)
    assert OLD_CARD in machine.ok("xl pci-list other")
    other.destroy()
    machine.wait_until(f"xl pci-assignable-list | grep -q {OLD_CARD}")
    machine.ok(f"xl pci-assignable-remove -r {OLD_CARD}", 90)
    assert "e1000" in machine.ok(f"readlink /sys/bus/pci/devices/0000:{OLD_CARD}/driver")


def test_one_function_has_one_owner(machine, owner):
    result = domain(machine, "second", [CARD]).try_create()
    assert result.status != 0
    machine.run("xl destroy second")
    assert CARD in machine.ok("xl pci-list owner")


@pytest.fixture(scope="module")
def attacker(machine):
    """A domU that has edu. dom0's root reaches its registers too, and has it do what the domU might."""
    machine.ok(f"xl pci-assignable-add {EDU}", 90)
    attacker = domain(machine, "attacker", [EDU]).create()
    machine.edu = Edu(machine)
    yield attacker
    attacker.destroy()


def root_table(machine, name):
    """The machine address of the page table that a vCPU of the domain has loaded."""
    text = machine.ok(f"{machine.tool('xenctx')} -a $(xl domid {name}) | grep -i cr3")
    return int(text.split("cr3:")[1].split()[0], 16) & ~0xfff


def test_forbidden_frames_are_out_of_reach(machine, attacker):
    targets = [hypervisor_address(), root_table(machine, "attacker") + 0x7e0, root_table(machine, "owner") + 0x7e0]
    for target in targets:
        assert not attack(machine, target), hex(target)
    machine.ok("sleep 1; xl list")
    attacker.ok("true")
    if machine.iommu == "intel-iommu":
        for target in targets:
            line = f"IOMMU: 0000:{EDU} of domain {attacker.domid()}: write of {target & ~0xfff:#x} refused: it may not be written"
            assert line in machine.transcript()


def test_others_interrupts_are_out_of_reach(machine, owner, attacker):
    """No message of the attacker's device comes as one of the disk's, whichever number it has."""
    before = interrupts(owner, "pcifront.*nvme")
    assert sum(before) > 0
    forge(machine)
    assert interrupts(owner, "pcifront.*nvme") == before


# RAM that is free, or dom0's: what a device of dom0's reaches. It is read alone.
SOMEBODYS = 0x8000000


def refusals(vm):
    """Of what edu asked for there, when it was nobody's."""
    vm.edu = Edu(vm)
    vm.edu.copy_in(SOMEBODYS)
    vm.ok("sleep 1")
    return vm.transcript().count(f"IOMMU: 0000:{EDU} of nobody: read of {SOMEBODYS:#x} refused")


def test_nobodys_device_reaches_nothing(machine, attacker):
    """Until it is dom0's again."""
    attacker.destroy()
    machine.wait_until(f"xl pci-assignable-list | grep -q {EDU}")
    needs_reports(machine)
    found = refusals(machine)
    assert found
    machine.ok(f"xl pci-assignable-remove {EDU}", 90)
    assert refusals(machine) == found


# --- Without an IOMMU ---

@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with start(None, tmp_path_factory.mktemp("plain") / "disk", f"pci-unsafe=({CARD})") as vm:
        vm.wait_for_dom0()
        yield vm


def test_what_is_named_works_without_an_iommu(plain):
    owner = domain(plain, "owner", [CARD]).create()
    ping(owner)
    log = plain.transcript()
    assert "can read and write ALL memory of this machine" in log
    assert f"0000:{CARD}: domain {owner.domid()} can read and write ALL memory through it" in log
    owner.destroy()


def test_what_is_not_named_is_refused_with_a_reason(plain):
    result = domain(plain, "other", [DISK]).try_create()
    assert result.status != 0
    assert f"0000:{DISK} cannot be given away: no IOMMU is used" in plain.transcript()


def test_without_any_word_the_log_says_what_to_do(tmp_path):
    with start(None, tmp_path / "disk", "") as vm:
        vm.wait_for_dom0()
        result = domain(vm, "other", [CARD]).try_create()
        assert result.status != 0
        assert "PCI devices cannot be given to domains: that takes an IOMMU in use, or pci-unsafe=" in vm.transcript()
