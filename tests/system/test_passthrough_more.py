"""More kinds of devices in domUs, with Linux 6.1 and 6.12 there: modern virtio, a disk of AHCI's, a USB controller with a stick, and a
virtual function of a card (SR-IOV); and edu with small kernels of ours. By name only: make test T=passthrough_more.

virtio's devices go by the IOMMU if they are told (iommu_platform=on); as hypervisors have them for guests of their own they do not.
"""
import hashlib
import re

import pytest

import rig
from test_iommu import DEVICES, hypervisor_address, machine_memory
from test_passthrough import EDU, WORDS, fetch, interrupts, ping

pytestmark = pytest.mark.long

# Not 00:14.0, by which AMD's IO-APIC is known.
CARD, AHCI, USB, BLOCK = "00:11.0", "00:12.0", "00:13.0", "00:15.0"
MODERN = "disable-legacy=on,iommu_platform=on"
NAMES = {"ahci": "sda", "usb": "sdb", "virtio": "vda"}
DISK_BYTES = 8 << 20
RELEASES = {"6.1.": (rig.DEBIAN12, rig.CACHE / "devices.cpio"), "6.12.": (rig.DEBIAN13, rig.CACHE / "trixie/devices.cpio")}


def devices(disks):
    drives = [arg for name, path in disks.items() for arg in ("-drive", f"file={path},if=none,id={name},format=raw,cache=unsafe")]
    return ["-netdev", "user,id=given", "-device", f"virtio-net-pci,netdev=given,{MODERN},addr={CARD[3:5]}", *drives,
            "-device", f"ich9-ahci,id=given,addr={AHCI[3:5]}", "-device", "ide-hd,drive=ahci,bus=given.0",
            "-device", f"qemu-xhci,id=usbs,addr={USB[3:5]}", "-device", "usb-storage,drive=usb,bus=usbs.0",
            "-device", f"virtio-blk-pci,drive=virtio,{MODERN},addr={BLOCK[3:5]}",
            "-device", f"edu,dma_mask=0xffffffffffff,addr={EDU[3:5]}"]


@pytest.fixture(scope="module", params=DEVICES)
def machine(request, tmp_path_factory):
    rig.build_images("devices.cpio", "trixie/devices.cpio")
    place = tmp_path_factory.mktemp("devices")
    disks = {name: place / name for name in NAMES}
    for name, path in disks.items():
        path.write_bytes(hashlib.sha256(name.encode()).digest() * (DISK_BYTES // 32))
    hidden = "".join(f"(0000:{function})" for function in (CARD, AHCI, USB, BLOCK))
    with rig.Machine(name=f"passthrough-more-{request.param}", extra=["-device", DEVICES[request.param], *devices(disks)],
                     dom0_args=f"xen-pciback.hide={hidden}", memory=2048) as vm:
        vm.wait_for_dom0()
        vm.iommu, vm.disks = request.param, disks
        yield vm


@pytest.fixture(scope="module", params=RELEASES)
def owner(machine, request):
    """A domU that has them all, after another one had them."""
    release, ramdisk = RELEASES[request.param]
    rig.put(machine, release.kernels / "vmlinux.gz", "/tmp/vmlinux.gz")
    rig.put(machine, ramdisk, "/tmp/devices")
    owner = rig.Domain(machine, "owner", memory=256, kernel="/tmp/vmlinux.gz", ramdisk="/tmp/devices", pci=[CARD, AHCI, USB, BLOCK],
                       extra=WORDS).create()
    assert owner.ok("uname -r").startswith(request.param)
    yield owner
    owner.destroy()
    for function in (CARD, AHCI, USB, BLOCK):
        machine.wait_until(f"xl pci-assignable-list | grep -q {function}", 30)


def test_traffic_of_a_virtio_card(owner, tmp_path):
    fetch(owner, tmp_path)
    assert sum(interrupts(owner, "pcifront.*virtio[0-9]+-input")) > 0


@pytest.mark.parametrize("kind", NAMES)
def test_traffic_of_a_disk(machine, owner, kind):
    """What is there is read; what is written is there, on the host."""
    disk, name = machine.disks[kind], NAMES[kind]
    owner.ok(f"for i in $(seq 40); do [ -e /dev/{name} ] && break; sleep 0.5; done")
    assert owner.ok(f"md5sum < /dev/{name}", 120).split()[0] == hashlib.md5(disk.read_bytes()).hexdigest()
    letter = "a" if disk.read_bytes()[:1] != b"a" else "b"
    owner.ok(f"head -c {DISK_BYTES} /dev/zero | tr '\\0' {letter} > /dev/{name} && sync", 120)
    assert disk.read_bytes() == letter.encode() * DISK_BYTES


def test_their_interrupts_are_their_own(owner):
    for pattern in ("pcifront.*ahci", "pcifront.*xhci", "pcifront.*virtio[0-9]+-req"):
        assert sum(interrupts(owner, pattern)) > 0, pattern


# --- A small kernel of ours that drives edu: tests/guests/domu/edu.c ------------------------------------

FORMATS = ["pt64", *(pytest.param(form, marks=pytest.mark.pvisor_only) for form in ("pt32p", "pt32"))]
EDU_FILES = "/tmp/edu"


@pytest.fixture(scope="module")
def kernels(machine):
    rig.make("-C", "tests/guests", "S=edu")
    rig.make("loader")
    machine.ok(f"mkdir {EDU_FILES}")
    for path in [rig.LOADER, *(rig.TOP / f"build/guests/edu-{form}" for form in ("pt64", "pt32p", "pt32"))]:
        rig.put(machine, path, f"{EDU_FILES}/{path.name}")


@pytest.mark.parametrize("form", FORMATS)
def test_a_kernel_of_ours_drives_a_device(machine, kernels, form):
    """It does all that it can for its domain; what the hypervisor has stays as it is, and the log says who wanted to write there."""
    target = hypervisor_address()
    machine.ok(f"xl pci-assignable-add {EDU}", 90)
    before = machine_memory(machine, target)
    guest = rig.Domain(machine, f"edu-{form}", **rig.kernel_settings(f"{EDU_FILES}/edu-{form}", form), memory=32, pci=[EDU],
                       extra=f"target={target}", on_poweroff="preserve", on_crash="preserve").create(wait=False)
    machine.wait_until(f"grep -aqE 'PVTEST (.* passed|panic)' {guest.console_log}", 90)
    said = machine.ok(f"cat {guest.console_log}")
    assert "PVTEST 7 passed, 0 failed" in said, said
    assert machine_memory(machine, target) == before
    if machine.iommu == "intel-iommu":
        line = f"IOMMU: 0000:{EDU} of domain {guest.domid()}: write of {target & ~0xfff:#x} refused: it may not be written"
        assert line in machine.transcript()
    guest.destroy()
    machine.wait_until(f"xl pci-assignable-list | grep -q {EDU}")
    machine.ok(f"xl pci-assignable-remove {EDU}", 90)


# --- A function that a card makes of itself --------------------------------------------------------------

PARENT_DRIVER = ["drivers/dca/dca.ko", "drivers/i2c/algos/i2c-algo-bit.ko", "drivers/net/ethernet/intel/igb/igb.ko"]


@pytest.fixture(scope="module")
def virtual(tmp_path_factory):
    """A machine whose card's driver in dom0 has made a function, for which nobody has a driver there. QEMU's igb is in its version 10."""
    rig.build_images("qemu/run", "devices.cpio")
    with rig.Machine(name="passthrough-virtual", qemu=rig.CACHE / "qemu/run", memory=2048,
                     extra=["-device", "intel-iommu,intremap=on", "-device", "pcie-root-port,id=root,addr=0x10",
                            "-netdev", "user,id=card", "-device", "igb,netdev=card,bus=root"]) as vm:
        vm.wait_for_dom0()
        (modules,) = rig.CACHE.glob("root/lib/modules/*/kernel")
        for path in PARENT_DRIVER:
            if (modules / path).exists():
                rig.put(vm, modules / path, "/tmp/module.ko")
                vm.ok("insmod /tmp/module.ko")
        rig.put(vm, rig.CACHE / "devices.cpio", "/tmp/devices")
        yield vm


def make_function(vm):
    """The card, its function, and a domU that has the function."""
    card = vm.ok("basename /sys/bus/pci/drivers/igb/0000:*")
    folder = f"/sys/bus/pci/devices/{card}"
    vm.ok(f"ip link set $(ls {folder}/net) up && echo 1 > {folder}/sriov_numvfs")
    function = vm.ok(f"basename $(readlink {folder}/virtfn0)")
    assert vm.ok("xl pci-assignable-list").split() == []
    vm.ok(f"xl pci-assignable-add {function}", 90)
    return card, function, rig.Domain(vm, "owner", memory=256, ramdisk="/tmp/devices", pci=[function], extra=WORDS).create()


def test_a_virtual_function_is_a_domus(virtual):
    card, function, owner = make_function(virtual)
    ping(owner)
    assert sum(interrupts(owner, "pcifront-msi-x.*eth")) > 0
    owner.destroy()
    virtual.wait_until(f"xl pci-assignable-list | grep -q {function}", 30)
    virtual.ok(f"xl pci-assignable-remove {function} && echo 0 > /sys/bus/pci/devices/{card}/sriov_numvfs", 90)
    assert virtual.ok(f"ls -d /sys/bus/pci/devices/{function} 2>/dev/null; true") == ""


def test_its_card_is_not_anothers(virtual):
    """The last one: dom0's driver leaves the card, and has to leave the function as it is."""
    card, function, owner = make_function(virtual)
    virtual.ok(f"xl pci-assignable-add {card}", 90)
    second = rig.Domain(virtual, "second", memory=256, ramdisk="/tmp/devices", pci=[card], extra=WORDS)
    assert second.try_create().status != 0
    assert re.search(rf"{card} cannot be domain \d+'s: {function}, which it makes, is domain {owner.domid()}'s", virtual.transcript())
