"""dom0 drives the physical machine: SATA, NVMe and virtio disks, an e1000e card with MSI, on QEMU's q35 and pc."""
import hashlib
import os

import pytest

import rig

DISK_MIB = 16
DISKS = {"ahci": "sda", "nvme": "nvme0n1", "virtio": "vda"}


@pytest.fixture(scope="module", params=["q35", "pc"])
def machine(request, images, tmp_path_factory):
    """One machine with a disk of each kind, filled with data that only the host knows."""
    directory = tmp_path_factory.mktemp("disks")
    disks = []
    for kind in DISKS:
        path = directory / kind
        path.write_bytes(os.urandom(DISK_MIB << 20))
        disks.append(rig.Disk(path, kind))
    with rig.Machine(name=f"hardware-{request.param}", machine=request.param, disks=disks) as vm:
        vm.wait_for_dom0()
        vm.host_files = {disk.kind: disk.path for disk in disks}
        yield vm


@pytest.mark.parametrize("kind", DISKS)
def test_disk_reads_what_the_host_wrote(machine, kind):
    expected = hashlib.md5(machine.host_files[kind].read_bytes()).hexdigest()
    assert expected in machine.ok(f"dd if=/dev/{DISKS[kind]} bs=1M iflag=direct 2>/dev/null | md5sum")


@pytest.mark.parametrize("kind", DISKS)
def test_disk_writes_reach_the_host(machine, kind):
    disk = DISKS[kind]
    machine.ok(f"dd if=/dev/urandom of=/tmp/data bs=1M count=4; dd if=/tmp/data of=/dev/{disk} bs=1M oflag=direct; sync")
    expected = machine.ok("md5sum < /tmp/data").split()[0]
    with open(machine.host_files[kind], "rb") as stream:
        assert hashlib.md5(stream.read(4 << 20)).hexdigest() == expected


def interrupts(machine, device):
    """Counts by line of /proc/interrupts that names the device: {line's type: count}."""
    lines = [line.split() for line in machine.ok(f"grep -w '{device}' /proc/interrupts").splitlines()]
    return {" ".join(words[2:]): int(words[1]) for words in lines}


@pytest.mark.parametrize("device", ["eth0", "nvme0q[01]", "virtio[0-9]*-req.0"])
def test_device_interrupts_by_msi(machine, device):
    machine.ok("ping -c 1 10.0.2.2; for d in nvme0n1 vda; do dd if=/dev/$d of=/dev/null bs=4k count=8 iflag=direct; done")
    counts = interrupts(machine, device + ".*")
    assert counts, f"{device} has no interrupt"
    assert all("msi" in kind for kind in counts), counts
    assert sum(counts.values()) > 0, counts


def test_e1000e_moves_data_both_ways_with_the_host(machine):
    payload = os.urandom(4 << 20)
    received = bytearray()

    def serve(connection):
        connection.sendall(payload)
        while chunk := connection.recv(65536):
            received.extend(chunk)

    with rig.Outside() as outside:
        port, thread = outside.listen(serve)
        machine.ok(f"dd if=/dev/urandom of=/tmp/up bs=1M count=4 2>/dev/null; nc 10.0.2.2 {port} < /tmp/up | "
                   f"dd of=/tmp/down bs=4k count={len(payload) // 4096} iflag=fullblock 2>/dev/null", 120)
        thread.join(60)
    assert machine.ok("md5sum < /tmp/down").split()[0] == hashlib.md5(payload).hexdigest()
    assert machine.ok("md5sum < /tmp/up").split()[0] == hashlib.md5(bytes(received)).hexdigest()


def test_pci_configuration_space_reads(machine):
    """The vendor and device numbers of the card, from the configuration space itself."""
    assert machine.ok("cat /sys/class/net/eth0/device/vendor /sys/class/net/eth0/device/device").split() == ["0x8086", "0x10d3"]
    assert machine.ok("od -An -tx2 -N4 /sys/class/net/eth0/device/config").split() == ["8086", "10d3"]


def test_extended_configuration_space_where_there_is_mcfg(machine):
    size = int(machine.ok("stat -c %s /sys/class/net/eth0/device/config"))
    assert size == (4096 if machine.machine == "q35" else 256) or size == 4096


def test_acpi_power_button_interrupts_dom0(machine):
    """The button raises the SCI, an IO-APIC interrupt that dom0 owns."""
    before = sum(interrupts(machine, "acpi").values())
    machine.monitor("system_powerdown")
    machine.wait_until(f"[ $(awk '/acpi/ {{ print $2 }}' /proc/interrupts) -gt {before} ]", 30)


def test_nmi_leaves_the_machine_alive(machine):
    machine.monitor("inject-nmi")
    assert machine.ok("echo alive") == "alive"


def test_clocks_run(machine):
    """Wall clock, uptime and sleep all go forwards."""
    first = machine.ok("date +%s; cut -d. -f1 /proc/uptime").split()
    machine.ok("sleep 2")
    second = machine.ok("date +%s; cut -d. -f1 /proc/uptime").split()
    assert all(int(b) > int(a) for a, b in zip(first, second))
    assert "xen" in machine.ok("cat /sys/devices/system/clocksource/clocksource0/available_clocksource")
