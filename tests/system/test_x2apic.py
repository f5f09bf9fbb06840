"""x2APIC mode, and CPUs whose APIC ids do not fit in eight bits, which it takes.

Debian 12's QEMU emulates no x2APIC; that of its backports does, fetched by tools/image/qemu.
"""
import pytest

import rig
from smp import HPTOOL, answered, build, irq_cpus, no_complaints, storm

MODEL = "Nehalem"
# Sockets of 128 ids each: two CPUs in the first, one in the second, one in the fourth.
TOPOLOGY = ",sockets=4,cores=65,threads=1,maxcpus=260"
FAR = [arg for socket, core in ((1, 0), (3, 5))
       for arg in ("-device", f"{MODEL}-x86_64-cpu,x2apic=on,socket-id={socket},core-id={core},thread-id=0")]
IDS = {1: 1, 2: 128, 3: 3 * 128 + 5}


@pytest.fixture(scope="module")
def qemu(images):
    rig.build_images("qemu/run")
    return rig.CACHE / "qemu/run"


def boot(qemu, name, **settings):
    return rig.Machine(name=f"x2apic-{name}", qemu=qemu, cpu=f"{MODEL},+x2apic", **settings)


def log_has(machine, text):
    return machine.ok(f"xl dmesg | grep -c '{text}'; true") == "1"


@pytest.mark.pvisor_only
def test_apic_ids_above_255(qemu):
    with boot(qemu, "far", cpus=2, topology=TOPOLOGY, extra=FAR) as machine:
        machine.wait_for_dom0(400)
        assert log_has(machine, "Local APIC: id 0, x2APIC")
        assert log_has(machine, "4 CPUs online of 4")
        for cpu, apic_id in IDS.items():
            assert log_has(machine, f"CPU{cpu} has APIC id {apic_id}$")
        assert set(irq_cpus(machine).values()) == {0, 1, 2}        # devices cannot name the fourth
        storm(machine, 4)
        guest = rig.Domain(machine, vcpus=2, vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.31").create(timeout=300)
        machine.ok("xl vcpu-pin domu 0 3; xl vcpu-pin domu 1 2")
        build(guest, parallel=3, jobs=6)
        assert answered(machine.ok("ping -c 3 10.0.2.31"))
        machine.ok(f"{HPTOOL} cpu-offline 3; {HPTOOL} cpu-offline 2", 120)
        assert answered(machine.ok("ping -c 3 10.0.2.31"))
        machine.ok(f"{HPTOOL} cpu-online 3", 120)
        storm(guest, 2)
        no_complaints(machine)


@pytest.mark.pvisor_only
def test_x2apic_by_command(qemu):
    with boot(qemu, "on", cpus=2, cmdline="x2apic") as machine:
        machine.wait_for_dom0(400)
        assert log_has(machine, "Local APIC: id 0, x2APIC")
        storm(machine, 2)
        no_complaints(machine)
