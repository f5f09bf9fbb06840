"""Driver domains: domUs that have a card or a disk controller of the machine's, and serve other domUs with it, as dom0 does otherwise.

Each has the driver of its function, a backend, and `xl devd`, which runs the hotplug scripts. Minutes of emulation: run by name
(`make test T=driver_domains`).
"""
import hashlib

import pytest

import rig
from test_iommu import DEVICES

pytestmark = pytest.mark.long

CARD, DISK = "00:11.0", "00:12.0"
DISK_BYTES = 16 << 20
# Frames that a backend maps by grants are out of its devices' reach (docs/pci.md): all that its kernel gives to devices goes by a buffer.
WORDS = "swiotlb=8192,force"
RAMDISK = "/tmp/driver"


@pytest.fixture(scope="module", params=DEVICES)
def machine(request, tmp_path_factory):
    rig.build_images("driver.cpio")
    disk = tmp_path_factory.mktemp("driver") / "disk"
    disk.write_bytes(hashlib.sha256(b"disk").digest() * (DISK_BYTES // 32))
    given = ["-device", DEVICES[request.param],
             "-netdev", "user,id=given", "-device", "e1000e,netdev=given,addr=0x11",
             "-drive", f"file={disk},if=none,id=given,format=raw,cache=unsafe", "-device", "nvme,drive=given,serial=given,addr=0x12"]
    with rig.Machine(name=f"driver-domains-{request.param}", extra=given, memory=2048,
                     dom0_args=f"xen-pciback.hide=(0000:{CARD})(0000:{DISK})") as vm:
        vm.wait_for_dom0()
        vm.disk, vm.iommu = disk, request.param
        rig.put(vm, rig.CACHE / "driver.cpio", RAMDISK)
        yield vm


def driver_domain(vm, name, function):
    return rig.Domain(vm, name, memory=256, ramdisk=RAMDISK, driver_domain=1, pci=[function], extra=WORDS, on_crash="restart").create()


@pytest.fixture(scope="module")
def network(machine):
    network = driver_domain(machine, "network", CARD)
    yield network
    network.destroy()


@pytest.fixture(scope="module")
def storage(machine):
    storage = driver_domain(machine, "storage", DISK)
    yield storage
    storage.destroy()


def vif(backend):
    return f"mac=00:16:3e:00:00:16,bridge=xenbr0,backend={backend}"


def disk(backend):
    return f"format=raw,backendtype=phy,vdev=xvda,access=rw,backend={backend},target=/dev/nvme0n1"


def attach_disk(machine, guest):
    machine.ok(f"xl block-attach guest {disk('storage')}", 120)
    guest.ok("for i in $(seq 60); do [ -e /dev/xvda ] && break; sleep 0.5; done; [ -e /dev/xvda ]", 120)


@pytest.fixture(scope="module")
def guest(machine, network, storage):
    """
    A domU without a device of the machine's, and nothing of dom0's but its console. Its disk comes later: a script that has not done in
    40 s is given up, and two of them that share an emulated CPU with the guest's start take nearly as long.
    """
    guest = rig.Domain(machine, "guest", vif=[vif("network")], extra="rig.ip=10.0.2.16").create()
    attach_disk(machine, guest)
    yield guest
    guest.destroy()


def backend_of(machine, guest, kind, number):
    return int(machine.ok(f"xenstore-read /local/domain/{guest.domid()}/device/{kind}/{number}/backend-id"))


def test_traffic_goes_by_the_network_driver_domain(machine, network, guest, tmp_path):
    assert backend_of(machine, guest, "vif", 0) == network.domid()
    data = hashlib.sha256(b"net").digest() * (4 << 15)
    (tmp_path / "file").write_bytes(data)
    guest.ok("for i in $(seq 20); do ping -c 1 -W 1 10.0.2.2 >/dev/null && break; sleep 0.5; done; ping -c 3 10.0.2.2", 90)
    with rig.Outside() as outside:
        summed = guest.ok(f"wget -q -O - {outside.serve_file(tmp_path / 'file')} | md5sum", 180)
    assert summed.split()[0] == hashlib.md5(data).hexdigest()
    # What the guest sends lies in frames that the driver domain has mapped.
    guest.ok("ping -c 3 -s 1400 10.0.2.2", 60)


def test_a_disk_is_the_storage_driver_domains(machine, storage, guest):
    assert backend_of(machine, guest, "vbd", 51712) == storage.domid()
    want = hashlib.md5(machine.disk.read_bytes()).hexdigest()
    assert guest.ok("md5sum </dev/xvda", 180).split()[0] == want
    guest.ok(f"head -c {DISK_BYTES} /dev/zero | tr '\\0' 'x' >/dev/xvda && sync", 180)
    assert machine.disk.read_bytes() == b"x" * DISK_BYTES


def test_no_device_is_told_to_reach_for_others_memory(machine, guest):
    assert "refused: it may not be" not in machine.transcript()


def assignable_again(machine, function):
    machine.wait_until(f"xl pci-assignable-list | grep -q {function}")


def test_who_uses_a_crashed_network_domain_goes_on_with_the_next(machine, network, guest):
    """xl starts it again, with its card. The guest keeps its memory, its processes and its disk; its network is attached anew."""
    before = network.domid()
    guest.ok("echo kept >/tmp/kept")
    network.start_command("echo c >/proc/sysrq-trigger")
    machine.wait_until(f"[ $(xl domid network 2>/dev/null || echo {before}) -ne {before} ]", 120)
    network.wait_ready(times=2)
    assert guest.ok("cat /tmp/kept; dd if=/dev/xvda of=/dev/null bs=64k count=16 iflag=direct 2>&1", 60).startswith("kept")
    machine.ok("xl network-detach guest 0", 120)
    machine.ok(f"xl network-attach guest {vif('network').replace(',', ' ')}", 120)
    assert backend_of(machine, guest, "vif", 0) == network.domid() != before
    guest.ok("for i in $(seq 20); do [ -e /sys/class/net/eth0 ] && break; sleep 0.5; done; ip link set eth0 up; "
             "ip address add 10.0.2.16/24 dev eth0; "
             "for i in $(seq 20); do ping -c 1 -W 1 10.0.2.2 >/dev/null && break; sleep 0.5; done; ping -c 3 10.0.2.2", 120)


def test_who_uses_a_destroyed_storage_domain_goes_on_with_the_next(machine, storage, guest):
    storage.destroy()
    assignable_again(machine, DISK)
    machine.run("xl block-detach guest xvda", 120)
    storage.create()
    attach_disk(machine, guest)
    want = hashlib.md5(machine.disk.read_bytes()).hexdigest()
    assert guest.ok("md5sum </dev/xvda", 180).split()[0] == want


def test_dom0s_calls_are_refused_to_a_driver_domain(machine, network):
    """tests/guests/hostile.c in place of a driver domain's kernel: it has its card and no right more than others, but to bind its line."""
    network.destroy()
    assignable_again(machine, CARD)
    line = machine.ok(f"cat /sys/bus/pci/devices/0000:{CARD}/irq")
    rig.subprocess.run(["make", "-s", "-C", rig.TOP / "tests/guests", "S=hostile"], check=True)
    rig.put(machine, rig.TOP / "build/guests/hostile-pt64", "/tmp/kernel")
    hostile = rig.Domain(machine, "hostile", kernel="/tmp/kernel", ramdisk=None, memory=64, vcpus=2, driver_domain=1, pci=[CARD],
                         extra=f"line={line}", on_poweroff="preserve", on_crash="preserve").create(wait=False)
    machine.wait_until(f"grep -aqE 'PVTEST (.* passed|panic)' {hostile.console_log} || xl list hostile | grep -q -- c-", 240)
    assert " 0 failed" in machine.ok(f"grep -aE 'PVTEST|FAIL' {hostile.console_log}")
    assert CARD in machine.ok("xl pci-list hostile")
    hostile.destroy()
