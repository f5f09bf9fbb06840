"""Page-table isolation: what a 64-bit guest's CPU can find in its page tables, and that guests live with it."""
import re
import struct
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


PAGE = 4096
FRAME = 0x000ffffffffff000
PRESENT, LARGE = 1, 1 << 7
M2P, FRAME_WORDS, DESCRIPTORS = 0xffff800000000000, 0xffff810000000000, 0xffff820000000000
IMAGE, DIRECT_MAP = 0xffff82d040000000, 0xffff830000000000
FIRST_SPECIAL_DOMAIN = 0x7ff0


class Memory:
    """What a stopped machine has in its RAM, all of which lies below 2 GiB."""

    def __init__(self, machine, size):
        path = f"{machine.scratch.name}/memory"
        machine.monitor("pmemsave", val=0, size=size << 20, filename=path)
        with open(path, "rb") as stream:
            self.content = stream.read()

    def word(self, address):
        return struct.unpack_from("<Q", self.content, address)[0]

    def present(self, table):
        return [(i, e) for i, e in enumerate(struct.unpack_from("<512Q", self.content, table)) if e & PRESENT]

    def address_of(self, root, va):
        """Where va leads to in the tables below root; None: nowhere."""
        entry = root | PRESENT
        for level in (4, 3, 2, 1):
            entry = self.word((entry & FRAME) + (va >> 12 + 9 * (level - 1) & 511) * 8)
            if not entry & PRESENT:
                return None
            if level == 1 or (level < 4 and entry & LARGE):
                size = PAGE << 9 * (level - 1)
                return (entry & FRAME & -size) | va & (size - 1)
        return None

    def reached(self, table, level):
        """The frames of all pages that a CPU can come to from a table that it takes for one of this level, whichever way."""
        pages, tables, left = set(), {(table, level)}, [(table, level)]
        while left:
            table, level = left.pop()
            for _, entry in self.present(table):
                frame = entry & FRAME
                if level == 1 or (level < 4 and entry & LARGE):
                    pages.update(range(frame // PAGE, frame // PAGE + (1 << 9 * (level - 1))))
                elif (frame, level - 1) not in tables:
                    tables.add((frame, level - 1))
                    left.append((frame, level - 1))
        return pages


def reached_frames_of_ours(memory, root, symbols):
    """
    The frames that are neither a domain's nor in the table of machine frames: all, and those in the two slots that are there on purpose,
    of what the way in needs and of the domain's descriptor tables.
    """
    full = memory.word(symbols["hyp_l4"] - IMAGE) - DIRECT_MAP
    numbers = memory.reached(memory.word(full + (M2P >> 39 & 511) * 8) & FRAME, 3)

    def is_ours(frame):
        if frame < 0x100 or frame * PAGE >= len(memory.content) or frame in numbers:
            return False
        word = memory.word(memory.address_of(full, FRAME_WORDS + frame * 8))
        return word >> 32 & 0xffff >= FIRST_SPECIAL_DOMAIN
    shown = [memory.word(root + (place >> 39 & 511) * 8) & FRAME for place in (IMAGE, DESCRIPTORS)]
    return ({frame for frame in memory.reached(root, 4) if is_ours(frame)},
            {frame for table in shown for frame in memory.reached(table, 3) if is_ours(frame)})


def look_at_linear_guest(symbols, words, mode):
    rig.make("-C", "tests/guests", "S=linear")
    with boot("linear", base_cmdline=rig.HYPERVISOR_ARGS.replace("dom0_mem=512M,max:512M xpti=no", f"dom0_mem=64M xpti={words}"),
              kernel=rig.TOP / "build/guests/linear-pt64", dom0_args=f"stay={mode}", memory=512) as vm:
        vm.expect("linear: stays")
        stopped_in_a_guest(vm, (lambda rip: rip < 1 << 47) if mode == "user" else (lambda rip: rip >= 1 << 63))
        root = int(re.search(r"CR3=([0-9a-f]+)", hmp(vm, "info registers")).group(1), 16) & FRAME
        return reached_frames_of_ours(Memory(vm, 512), root, symbols)


@pytest.mark.pvisor_only
@pytest.mark.parametrize("mode", ["kernel", "user"])
def test_no_way_leads_to_more(symbols, images, mode):
    """Not by linear entries either: from the root in CR3 through any entry at any level, a table taken for a lower one included."""
    found, shown = look_at_linear_guest(symbols, "yes", mode)
    assert found == shown and 4 < len(shown) < 24
    assert not found & {(symbols[name] - IMAGE) // PAGE for name in ("do_mmu_update", "dom0", "hyp_l4")}


@pytest.mark.pvisor_only
def test_without_it_ways_lead_to_more(symbols, images):
    """So that the walk is known to find what there is."""
    found, _ = look_at_linear_guest(symbols, "no", "kernel")
    assert {(symbols[name] - IMAGE) // PAGE for name in ("do_mmu_update", "dom0", "hyp_l4")} <= found


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
