"""Machines with an IOMMU: found and used, or, when told, left alone.

A device of QEMU's for teaching, edu, copies between its own memory and any machine address that it is told, and sends the message that
its configuration space has. dom0 is its owner here, and has it reach for what is not dom0's.
"""
import contextlib
import re
import subprocess

import pytest

import rig

NAMES = {"intel-iommu": "VT-d", "amd-iommu": "AMD-Vi"}
FORMATS = {"intel-iommu": "VT-d second stage", "amd-iommu": "AMD v1"}
DEVICES = {"intel-iommu": "intel-iommu,intremap=on", "amd-iommu": "amd-iommu,intremap=on"}
EDU = ["-device", "edu,dma_mask=0xffffffffffff"]

COMMAND, TO_MEMORY, BUSY = 0x98, 2, 1
SOURCE, TARGET, COUNT, BUFFER = 0x80, 0x88, 0x90, 0x40000
RAISE, LOWER = 0x60, 0x64
# In configuration space; the capability is of 64 bits, without masks.
CAPABILITIES, MSI, MSI_CONTROL, MSI_ADDRESS, MSI_DATA = 0x34, 5, 2, 4, 12


class Edu:
    """The device as dom0's root sees it."""

    def __init__(self, vm):
        self.vm = vm
        self.name = vm.ok("grep -l 0x11e8 /sys/bus/pci/devices/*/device").split("/")[-2]
        self.folder = f"/sys/bus/pci/devices/{self.name}"
        self.base = int(vm.ok(f"head -n 1 {self.folder}/resource").split()[0], 16)
        self.configure(4, b"\006\000")

    def configure(self, offset, data):
        text = "".join(f"\\{byte:03o}" for byte in data)
        self.vm.ok(f"printf '{text}' | dd of={self.folder}/config bs={len(data)} seek={offset} oflag=seek_bytes conv=notrunc 2>/dev/null")

    def configured(self, offset):
        return int(self.vm.ok(f"od -An -tu1 -j {offset} -N 1 {self.folder}/config"))

    @contextlib.contextmanager
    def messages(self):
        """send(address, data) has it send a message of its own, which none of the hypervisor's drivers has asked for."""
        at = self.configured(CAPABILITIES)
        while self.configured(at) != MSI:
            at = self.configured(at + 1)

        def send(address, data):
            self.configure(at + MSI_ADDRESS, address.to_bytes(8, "little"))
            self.configure(at + MSI_DATA, data.to_bytes(2, "little"))
            self.vm.ok(f"busybox devmem {self.base + RAISE:#x} 32 1; busybox devmem {self.base + LOWER:#x} 32 1")

        self.configure(at + MSI_CONTROL, b"\001\000")
        yield send
        self.configure(at + MSI_CONTROL, b"\000\000")

    def write(self, register, value):
        self.vm.ok(f"busybox devmem {self.base + register:#x} 64 {value:#x}")

    def read(self, register):
        return int(self.vm.ok(f"busybox devmem {self.base + register:#x} 64"), 16)

    def copy(self, source, target, count, direction):
        self.write(SOURCE, source)
        self.write(TARGET, target)
        self.write(COUNT, count)
        self.write(COMMAND, direction | BUSY)
        self.vm.ok(f"while [ $(( $(busybox devmem {self.base + COMMAND:#x} 32) & 1 )) = 1 ]; do sleep 0.1; done")

    def copy_out(self, address, count=16):
        self.copy(BUFFER, address, count, TO_MEMORY)

    def copy_in(self, address, count=16):
        self.copy(address, BUFFER, count, 0)


def machine_with(iommu, cmdline, **settings):
    return rig.Machine(name=iommu, cmdline=cmdline, extra=["-device", DEVICES[iommu], *EDU], **settings)


@pytest.fixture(scope="module", ids="-".join,
                params=[("intel-iommu", ""), ("intel-iommu", "iommu=dom0-strict"), ("amd-iommu", "iommu=dom0-strict")])
def machine(request, tmp_path_factory):
    iommu, words = request.param
    disk = tmp_path_factory.mktemp("iommu") / "disk"
    disk.write_bytes(bytes(range(256)) * 4096 * 16)
    with machine_with(iommu, words, disks=[rig.Disk(disk, "nvme")]) as vm:
        vm.wait_for_dom0()
        vm.iommu, vm.strict = iommu, "strict" in words
        vm.edu = Edu(vm)
        yield vm


def test_it_is_used(machine):
    log = machine.transcript()
    assert f"IOMMU: {NAMES[machine.iommu]}, 1 unit(s)" in log
    assert re.search(rf"IOMMU: on; {FORMATS[machine.iommu]}, [34] levels", log)
    assert "interrupts are remapped" in log
    assert ("exactly dom0's frames" in log) == machine.strict


def test_dom0_finds_none(machine):
    assert "0" == machine.ok("ls /sys/class/iommu 2>/dev/null | wc -l").strip()


def test_network_and_disk_work(machine):
    machine.ok("ping -c 3 10.0.2.2")
    want = machine.ok("head -c 16M /dev/zero | tr '\\0' 'x' | md5sum")
    machine.ok("head -c 16M /dev/zero | tr '\\0' 'x' >/dev/nvme0n1 && sync && echo 3 >/proc/sys/vm/drop_caches", timeout=120)
    assert want == machine.ok("head -c 16M /dev/nvme0n1 | md5sum", timeout=120)


# --- A device that is told to reach for the hypervisor's memory ---

# Of the hypervisor's image, and read by nobody after boot.
TARGET_SYMBOL = "idle_words"
IMAGE_START = 0xffff82d040000000


def hypervisor_address():
    symbols = subprocess.run(["nm", rig.TOP / "build/xen-syms"], check=True, capture_output=True, text=True).stdout
    return int(re.search(rf"^(\w+) . {TARGET_SYMBOL}$", symbols, re.M).group(1), 16) - IMAGE_START


def machine_memory(vm, address, count=16):
    """What is there, as nobody inside the machine sees it."""
    return vm.monitor("human-monitor-command", **{"command-line": f"xp /{count}xb {address:#x}"})


def attack(vm, address):
    """Has the device write there; whether it did."""
    before = machine_memory(vm, address)
    vm.edu.copy_out(address)
    return machine_memory(vm, address) != before


def test_the_hypervisors_memory_is_out_of_reach(machine):
    assert not attack(machine, hypervisor_address())
    machine.ok("xl list")


def needs_reports(machine):
    """QEMU's AMD unit refuses what an empty entry forbids without a word in its log."""
    if machine.iommu == "amd-iommu":
        pytest.skip("the emulated unit writes no event of this")


def test_the_attack_is_named(machine):
    needs_reports(machine)
    address = hypervisor_address()
    assert not attack(machine, address)
    machine.ok("sleep 1")
    line = f"IOMMU: {machine.edu.name} of domain 0: write of {address & ~0xfff:#x} refused: it may not be written"
    assert line in machine.transcript()


def test_what_firmware_reserves_is_within_reach_unless_dom0_is_kept_strictly(machine):
    """Behind RAM, where the emulated firmware has its tables."""
    needs_reports(machine)
    address = next(a for a in (int(s, 16) for s in re.findall(r"\[(\w{16}), \w{16}\] \(reserved\)", machine.transcript())) if a > 1 << 20)
    machine.edu.copy_in(address)
    machine.ok("sleep 1")
    assert (f"read of {address:#x} refused" in machine.transcript()) == machine.strict


def test_page_tables_are_out_of_reach_where_dom0_is_kept_strictly(machine):
    """The root that the CPU has loaded: dom0's, or the hypervisor's."""
    registers = machine.monitor("human-monitor-command", **{"command-line": "info registers"})
    root = int(re.search(r"CR3=(\w+)", registers)[1], 16) & ~0xfff
    if machine.strict:
        assert not attack(machine, root + 0x7e0)


def test_a_storm_of_faults_is_turned_off(machine):
    needs_reports(machine)
    write, address = f"busybox devmem {machine.edu.base + COMMAND:#x} 64 3", hypervisor_address()
    machine.edu.copy_out(address)
    machine.ok(f"for i in $(seq 100); do {write}; sleep 0.12; done", timeout=120)
    name = machine.edu.name
    # How many come before that is the host's to say: it is their rate that counts.
    _, silenced, after = machine.transcript().partition(f"IOMMU: {name}: no more is said of what it does wrong")
    assert silenced and f"IOMMU: {name} of domain 0: " not in after
    assert not attack(machine, address)


# --- A device that is told to send others' interrupts ---

# No device has this one: the hypervisor says so when it comes.
NO_ONES_VECTOR = 0xee


def comes_through(vm):
    """A message that names a CPU and a vector itself."""
    text = f"interrupt with unused vector {NO_ONES_VECTOR:#x}"
    before = vm.transcript().count(text)
    with vm.edu.messages() as send:
        send(0xfee00000, NO_ONES_VECTOR)
    vm.ok("sleep 1")
    return vm.transcript().count(text) > before


def test_no_message_names_a_cpu(machine):
    if machine.iommu == "intel-iommu":
        pytest.skip("the emulated unit lets them pass, whatever it is told")
    assert not comes_through(machine)


def forge(vm):
    """Messages for all entries that others' interrupts could have."""
    with vm.edu.messages() as send:
        for number in range(48):
            if vm.iommu == "intel-iommu":
                send(0xfee00010 | number << 5, 0)
            else:
                send(0xfee00000, number)
    vm.ok("sleep 1")


def test_no_message_is_anothers(machine):
    def interrupts():
        return [line.split()[1:-1] for line in machine.ok("grep nvme /proc/interrupts").splitlines()]

    before = interrupts()
    assert before
    forge(machine)
    assert interrupts() == before


@pytest.mark.parametrize("iommu, words", [("intel-iommu", "iommu=off"), ("amd-iommu", "iommu=no-intremap")])
def test_without_it_the_same_device_writes_and_interrupts(iommu, words):
    """So that the tests above test something."""
    with machine_with(iommu, words, nic=None) as vm:
        vm.wait_for_dom0()
        vm.edu = Edu(vm)
        assert comes_through(vm)
        if words == "iommu=off":
            assert "IOMMU: it is not used, by the command line: devices reach all memory" in vm.transcript()
            assert attack(vm, hypervisor_address())
        else:
            assert "interrupts are not remapped: by the command line" in vm.transcript()


# --- CPUs in x2APIC mode, where entries of interrupts name CPUs by 32 bits: Debian 12's QEMU has none ---

@pytest.mark.pvisor_only
def test_interrupts_in_x2apic_mode(images, tmp_path):
    """VT-d's. Behind the AMD unit of that QEMU (10.0) no interrupt of an IO-APIC gets to a CPU, remapped or not."""
    rig.build_images("qemu/run")
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    with rig.Machine(name="iommu-x2apic", qemu=rig.CACHE / "qemu/run", cpu="Nehalem,+x2apic", cmdline="x2apic", cpus=2,
                     disks=[rig.Disk(disk, "nvme")], extra=["-device", "intel-iommu,intremap=on,eim=on"]) as vm:
        vm.wait_for_dom0(400)
        log = vm.transcript()
        assert "Local APIC: id 0, x2APIC" in log
        assert "interrupts are remapped" in log
        vm.ok("ping -c 3 10.0.2.2")
        vm.ok("head -c 1048576 </dev/nvme0n1 >/dev/null")
        assert vm.ok("grep nvme /proc/interrupts")
