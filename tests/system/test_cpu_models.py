"""dom0 and a domU on CPUs of today, Intel's and AMD's; a CPU that was taken off- and online does all its work again."""
import pytest

import rig
from smp import HPTOOL, no_complaints, storm

CPUS = 2


@pytest.fixture(scope="module", params=[rig.INTEL, rig.AMD], ids=["intel", "amd"])
def machine(request, images):
    with rig.Machine(name=f"cpu-{request.param.split('-')[0]}", cpus=CPUS, cpu=request.param) as vm:
        vm.wait_for_dom0(400)
        yield vm


def test_all_work_that_came_back(machine):
    """Each vCPU of dom0 on a CPU of its own, all but the first of which were offline."""
    for cpu in range(CPUS):
        machine.ok(f"xl vcpu-pin 0 {cpu} {cpu}")
    assert f"{CPUS} of {CPUS}" in machine.ok("cpu-check", 120)
    for cpu in range(1, CPUS):
        machine.ok(f"xl vcpu-pin 0 {cpu} all")
        machine.ok(f"{HPTOOL} cpu-offline {cpu}; {HPTOOL} cpu-online {cpu}; xl vcpu-pin 0 {cpu} {cpu}", 120)
    assert f"{CPUS} of {CPUS}" in machine.ok("cpu-check", 120)
    machine.ok("xl vcpu-pin 0 all all")
    no_complaints(machine)


def test_a_domu_lives(machine):
    guest = rig.Domain(machine, vcpus=2, disk=["/tmp/disk,raw,xvda,rw"], vif=["bridge=xenbr0"])
    machine.ok("truncate -s 16M /tmp/disk")
    guest.create()
    storm(guest, 2)
    guest.ok("dd if=/dev/urandom of=/dev/xvda bs=64k count=16 && sync && md5sum /dev/xvda")
    guest.destroy()
    no_complaints(machine)
