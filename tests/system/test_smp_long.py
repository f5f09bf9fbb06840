"""Many CPUs, at length: machines of 1, 2, 8 and 64; 200 lives of domains under load; MWAIT; a CPU that gets stuck.

By name only: make test T=smp_long.
"""
import os
import re
import subprocess

import pytest

import debugger
import rig
from smp import HPTOOL, LONG_STORM, STOP, Guests, build, free_pages, no_complaints, storm

pytestmark = pytest.mark.long

LIVES = int(os.environ.get("LIVES", "200"))


def boot(name, cpus, **settings):
    return rig.Machine(name=f"smp-{name}", cpus=cpus, **{"memory": 1536, **settings})


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_every_size(cpus, images):
    with boot(cpus, cpus) as machine:
        machine.wait_for_dom0(240 + 60 * cpus)
        assert machine.ok(f"xl dmesg | grep -c '{cpus} CPUs online of {cpus}'") == "1"
        assert machine.ok("grep -c ^processor /proc/cpuinfo") == str(cpus)
        storm(machine, cpus)
        guests = Guests(machine, 4)
        guests.create()
        assert [guest.ok("nproc") for guest in guests.all] == 4 * ["2"]
        guests.traffic()
        guests.everywhere(LONG_STORM)
        machine.ok("sleep 5")
        guests.everywhere(STOP)
        build(guests.all[0], parallel=3, jobs=8)
        guests.traffic()
        no_complaints(machine)


@pytest.mark.parametrize("mode", ["xAPIC", "x2APIC"])
def test_sixty_four_cpus(images, mode):
    """dom0 has two vCPUs, so that the emulated machine gets somewhere; they and a domU's find their places among 64."""
    settings = {"cmdline": "dom0_max_vcpus=2"}
    if mode == "x2APIC":
        rig.build_images("qemu/run")
        settings = {"cmdline": "dom0_max_vcpus=2 x2apic", "qemu": rig.CACHE / "qemu/run", "cpu": "Nehalem,+x2apic"}
    with boot(f"64-{mode}", 64, memory=2048, **settings) as machine:
        machine.wait_for_dom0(600)
        assert machine.ok(f"xl dmesg | grep -c 'Local APIC: id 0, {mode}'") == "1"
        assert machine.ok("xl dmesg | grep -c '64 CPUs online of 64'") == "1"
        assert re.search(r"nr_cpus +: 64\b", machine.ok("xl info"))
        machine.ok(f"{HPTOOL} cpu-offline 63; {HPTOOL} cpu-offline 17", 120)
        assert re.search(r"nr_cpus +: 62\b", machine.ok("xl info"))
        machine.ok(f"{HPTOOL} cpu-online 17", 120)
        guest = rig.Domain(machine, vcpus=4).create(timeout=400)
        storm(guest, 4)
        no_complaints(machine)


def test_idle_by_mwait(images):
    with boot("mwait", 2, cpu="Nehalem,+monitor", cmdline="idle=mwait maxcpus=1") as machine:
        machine.wait_for_dom0(400)
        assert machine.ok("xl dmesg | grep -c 'Idle CPUs wait by MWAIT'") == "1"
        assert re.search(r"nr_cpus +: 1\b", machine.ok("xl info"))
        machine.ok(f"{HPTOOL} cpu-online 1", 120)
        guest = rig.Domain(machine, vcpus=2).create(timeout=300)
        storm(guest, 2)
        machine.ok(f"{HPTOOL} cpu-offline 1", 120)
        no_complaints(machine)


def halting_loop():
    """Where the hypervisor would halt a CPU for good: CLI, HLT and a jump back."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", rig.TOP / "build/xen-syms"], capture_output=True, text=True,
                          check=True).stdout
    return int(re.search(r"^ *(ffff[0-9a-f]+):\s+cli *\n[^\n]*:\s+hlt *\n[^\n]*:\s+jmp ", code, re.M)[1], 16)


@pytest.mark.pvisor_only
def test_the_watchdog_names_a_stuck_cpu(images, tmp_path):
    """CPU 1 is put, from outside, into the loop where a crashed machine ends, with interrupts off."""
    debugger.needs_symbols()
    with boot("stuck", 2, cmdline="dom0_max_vcpus=1", extra=debugger.arguments(tmp_path)) as machine:
        machine.wait_for_dom0(400)
        machine.ok("xl vcpu-pin 0 0 0")
        with debugger.Debugger(tmp_path) as gdb:
            gdb.move(1, halting_loop())
        machine.expect(r"Watchdog: CPU1 has been stuck for \d+ s", 60)
        assert machine.ok("echo alive") == "alive"


def test_two_hundred_lives(images):
    """Domains are made and destroyed under load: small kernels of two vCPUs, and every twentieth a Linux with disk and network."""
    subprocess.run(["make", "-s", "-C", "tests/guests", "S=crash"], cwd=rig.TOP, check=True)
    with boot("lives", 4) as machine:
        machine.wait_for_dom0(500)
        rig.put(machine, rig.TOP / "build/guests/crash-pt64", "/tmp/spin")
        machine.ok("truncate -s 8M /tmp/disk.img")
        loader = rig.Domain(machine, "loader", vcpus=2)
        loader.create(timeout=300)
        loader.ok(LONG_STORM)
        small = rig.Domain(machine, "small", kernel="/tmp/spin", ramdisk=None, memory=32, vcpus=2, extra="mode=spin",
                           on_crash="preserve")
        linux = rig.Domain(machine, "linux", vcpus=2, disk=["/tmp/disk.img,raw,xvda,rw"], vif=["bridge=xenbr0"],
                           extra="rig.ip=10.0.2.25")
        small.write_config()
        before = None
        for life in range(LIVES + 2):
            if life % 20 == 1:
                linux.create(timeout=300)
                linux.ok(LONG_STORM)
                linux.destroy()
            else:
                machine.ok(f"xl create {small.config} > /dev/null && xl destroy small", 120)
            if life == 1:           # one of each kind has lived
                before = free_pages(machine)
        assert free_pages(machine) == before
        loader.ok("true")
        no_complaints(machine)
