"""What tests/guests/run and the campaign of random calls make of a machine that stands still, and of bytes that are read twice: whose fault
it is. That a seed says what happens, and that of a failure's steps those are found that it needs.
"""
import contextlib
import re
import subprocess
import sys
import types

import pytest

import debugger
import rig

GUESTS = rig.TOP / "tests/guests"
sys.path.append(str(GUESTS))
PATIENCE = 12           # seconds without a word of the kernel's
TWICE = "(XEN) d0v0: double fetch 0: 8 bytes at machine address 0x1000, of call 0x23, by ({}) and again by ({})"


def load(name):
    """A program of tests/guests, as a module; what it does when it is run is its last line."""
    path = GUESTS / name
    module = types.ModuleType(path.name)
    module.__file__ = str(path)
    exec(compile(path.read_text().removesuffix("\nmain()\n"), path, "exec"), module.__dict__)
    return module


run = load("run")
campaign = load("fuzz/campaign")
shrink = load("fuzz/shrink")


@contextlib.contextmanager
def spinning(folder):
    """A kernel that goes round in a circle, as one of tests/guests/run's machines."""
    debugger.needs_symbols()
    rig.make("-C", "tests/guests", "S=crash")
    opts = types.SimpleNamespace(args="", test="", look=0, mirrored=False, cmdline="", cpus=1, memory=256, cpu=None, mask=None,
                                 scratch=str(folder), qemu=" ".join(debugger.arguments(folder)))
    process = run.start(opts, run.plain_elf(str(rig.hypervisor_path()), folder), "old", "pt64", "crash", "spin")
    try:
        lines = iter(process.stdout.readline, b"")
        assert any(line.startswith(b"PVTEST begin spin") for line in lines)
        yield process
    finally:
        process.kill()
        process.wait()


def verdict(process):
    """The campaign's, on what the runner says of it."""
    lines, why = run.console(process, PATIENCE, lambda line: False, False, run.PROGRESS["fuzz"])
    return campaign.verdict("\n".join([*lines, f"FAIL fuzz-pt64 random_calls: no verdict ({why}); the console ended with:"]))


def test_a_kernel_that_leads_itself_astray_is_not_the_hypervisors_fault(images, tmp_path):
    with spinning(tmp_path) as process:
        assert verdict(process) == "not clear: timeout, and the hypervisor answers"


def test_a_hypervisor_that_hangs_is_found_guilty(images, tmp_path):
    """One of its CPUs goes round in a circle, with interrupts off."""
    with spinning(tmp_path) as process:
        with debugger.Debugger(tmp_path) as gdb:
            gdb.run_to(debugger.symbol("do_interrupt"))
            here = gdb.get("rip")
            gdb.set("eflags", gdb.get("eflags") & ~(1 << 9))
            gdb.write(here, b"\xeb\xfe")        # jmp here
        assert verdict(process) == "the hypervisor's: does not answer"


@pytest.mark.parametrize("suite, first, second, guilty", [
    ("fuzz", "do_domctl+0x10 < call+0x3", "do_domctl+0x10 < call+0x3", True),       # one place, twice: whatever the arguments are
    ("fuzz", "do_domctl+0x10 < call+0x3", "bitmap_from_guest+0x20 < do_domctl+0x90", False),    # they may lie over each other
    ("hostile", "do_domctl+0x10 < call+0x3", "bitmap_from_guest+0x20 < do_domctl+0x90", True),  # these do not
    ("hostile", None, None, False),
])
def test_a_double_fetch_counts_where_arguments_do_not_lie_over_each_other(suite, first, second, guilty):
    lines = [TWICE.format(first, second)] if first else []
    lines.append("(XEN) d0v0: most pieces of guest memory that a call has read until now: 7 (rax 0x23)")
    verdicts = [word for word, *_ in run.fetches(types.SimpleNamespace(steps=True), suite, lines)]
    assert verdicts == (["FAIL"] if guilty else ["ok"])
    if guilty:
        assert campaign.verdict(f"FAIL {suite}-pt64 fetches\n{lines[0]}").startswith("the hypervisor's: ")


def test_a_build_that_does_not_look_for_double_fetches_fails_where_it_should():
    assert [word for word, *_ in run.fetches(types.SimpleNamespace(steps=True), "fuzz", [])] == ["FAIL"]
    assert not run.fetches(types.SimpleNamespace(steps=False), "fuzz", [])


def calls_made(seed):
    """What a machine of one vCPU counts: {command: (how often it was made, how often accepted and refused by which errors)}.

    A line of the hypervisor's in the middle of one takes that one away."""
    command = [GUESTS / "run", "fuzz", "--test", "random_calls", "--verbose", "--hypervisor", rig.hypervisor_path(),
               "--args", f"seed={seed} rounds=4000 fuzzers=1 children=0", "--cmdline", "dom0_max_vcpus=1"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace", check=True, timeout=600 * rig.TIMEOUT_SCALE).stdout
    return {name: result for name, *result in re.findall(r"COUNT (\S+ \S+) (\d+) (\d+(?: \d+:\d+)*) *$", text, re.M)}


def test_a_seed_says_what_happens(images):
    """Which calls are made. What becomes of a few of them is a matter of time, too: of timers, and of events that come meanwhile."""
    rig.make("-C", "tests/guests", "S=fuzz")
    first, again, other = map(calls_made, (5, 5, 6))
    both = first.keys() & again.keys()
    assert len(both) > 200
    assert [name for name in both if first[name][0] != again[name][0]] == []
    assert sum(first[name] == again[name] for name in both) > 0.9 * len(both)
    assert sum(first[name] == other.get(name) for name in both) < 0.5 * len(both)


@pytest.mark.parametrize("needed", [{0}, {399}, {17, 18, 250}, set(range(90, 100))])
def test_the_steps_that_a_failure_needs_are_found(needed):
    def fails(steps):
        return needed <= set(steps)

    steps = shrink.minimal(fails, shrink.shortest_beginning(fails, list(range(400))))
    assert set(steps) == needed


def test_an_emulator_that_crashes_is_nobodys_fault():
    process = subprocess.Popen(["sh", "-c", "echo PVTEST start; kill -SEGV $$"], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    lines, why = run.console(process, 60, lambda line: False, False, run.PROGRESS["fuzz"])
    assert lines == ["PVTEST start"]
    assert campaign.verdict(f"FAIL fuzz-pt64 random_calls: no verdict ({why}); the console ended with:") == "the emulator's: SIGSEGV"
