"""Page-table isolation: what a 64-bit guest's CPU can find in its page tables, and that guests live with it."""
import re
import subprocess
import time

import pytest

import rig
from smp import SPIN, STOP, Guests, no_complaints, storm

LINE = r"RIP=([0-9a-f]{16}) .*? CPL=([0-3]) "


def boot(name, cpus=1, **settings):
    return rig.Machine(name=f"isolation-{name}", cpus=cpus, **settings)


@pytest.fixture(scope="module")
def machine(images):
    with boot("on", cpus=2, cmdline="xpti=yes dom0_max_vcpus=2") as vm:
        vm.wait_for_dom0(400)
        yield vm


@pytest.fixture(scope="module")
def symbols(images):
    names = subprocess.run(["nm", rig.TOP / "build/xen-syms"], check=True, capture_output=True, text=True).stdout
    return {name: int(address, 16) for address, _, name in (line.split() for line in names.splitlines() if line[0] != " ")}


def hmp(machine, command):
    return machine.monitor("human-monitor-command", **{"command-line": command})


def is_mapped(machine, address):
    answer = hmp(machine, f"gva2gpa {address:#x}")
    assert "Unmapped" in answer or "gpa:" in answer, answer
    return "gpa:" in answer


def stopped_in_a_guest(machine, wanted=lambda rip: True):
    """Stops the machine while its first CPU runs a guest's code (in ring 3, as a 64-bit guest's kernel does too)."""
    for _ in range(200):
        hmp(machine, "stop")
        rip, ring = re.search(LINE, hmp(machine, "info registers"), re.DOTALL).groups()
        if ring == "3" and wanted(int(rip, 16)):
            return
        hmp(machine, "cont")
        time.sleep(0.02)
    raise machine.failure("the CPU was never seen in a guest")


def what_a_guest_can_name(machine, symbols, wanted=lambda rip: True):
    places = {"memory": 0xffff830000100000, "frame table": 0xffff810000000000, "machine frames, writable": 0xffff808000000000,
              "code": symbols["do_mmu_update"], "data": symbols["dom0"], "code of the way in": symbols["syscall_entry"],
              "machine frames, for guests": 0xffff800000000000}
    stopped_in_a_guest(machine, wanted)
    found = {place for place, address in places.items() if is_mapped(machine, address)}
    hmp(machine, "cont")
    return found, set(places)


@pytest.mark.pvisor_only
@pytest.mark.parametrize("mode", ["user", "kernel"])
def test_a_guest_can_name_next_to_nothing(machine, symbols, mode):
    load = SPIN if mode == "user" else "(while :; do cat /proc/kallsyms; done) > /dev/null 2>&1 &"
    wanted = (lambda rip: rip < 1 << 47) if mode == "user" else (lambda rip: rip >= 1 << 63)
    machine.ok(f"{load} {load}")        # one for each CPU, since one is looked at
    try:
        found, _ = what_a_guest_can_name(machine, symbols, wanted)
    finally:
        machine.ok(STOP)
    assert found == {"code of the way in", "machine frames, for guests"}


@pytest.mark.pvisor_only
def test_without_it_all_is_there(symbols, images):
    """So that the other test is one."""
    with boot("off", cmdline="xpti=no") as vm:
        vm.wait_for_dom0()
        vm.ok(SPIN)
        found, places = what_a_guest_can_name(vm, symbols)
        assert found == places
        assert vm.ok("xl dmesg | grep -c 'page-table isolation (xpti=) is off'") == "1"


@pytest.mark.pvisor_only
@pytest.mark.parametrize("words, says", [
    ("", ", page-table isolation, L1TF checks of domUs"), ("spec-ctrl=no", ""),
    ("xpti=yes spec-ctrl=no", ", page-table isolation"), ("xpti=dom0=no pv-l1tf=no", ", page-table isolation of domUs"),
    ("xpti=domu=no pv-l1tf=dom0=yes", ", page-table isolation of dom0, L1TF checks")])
def test_default(images, words, says):
    """The emulated CPU does not say that Meltdown and L1TF spare it."""
    base = rig.HYPERVISOR_ARGS.replace("xpti=no", "")
    with boot("default", base_cmdline=base, cmdline=words) as vm:
        vm.expect("CPUs online")
        assert re.search(r"Speculation: .*?(, page-table.*)?\r?\n", vm.transcript()).group(1) == (says or None)


@pytest.mark.pvisor_only
def test_a_domu_under_load(machine):
    """Address spaces that come and go on two CPUs, of dom0 and of a domU, its disk and its network."""
    guests = Guests(machine, 1)
    guests.create()
    storm(guests.all[0], 2)
    guests.traffic()
    no_complaints(machine)
