"""The hypervisor instruction by instruction: a machine that makes nothing but system calls is stopped by a debugger, and gets an NMI where
it hurts. QEMU keeps the next NMI waiting until an IRET, as CPUs do.
"""
import contextlib
import struct

import pytest

import debugger
import rig

pytestmark = pytest.mark.pvisor_only
CPL = 3                                     # of a code segment's selector: 0 is the hypervisor's
TF = 1 << 8
VERW, SYSRET = b"\x0f\x00\x2d", b"\x48\x0f\x07"
STACK_SIZE = 32768                          # include/asm/layout.h
NOWHERE = 1 << 63                           # no address
FRAME = ["vector", "rip", "cs", "rflags", "rsp"]    # of struct cpu_regs, behind 15 registers


@contextlib.contextmanager
def stopped_machine(folder, words, told=None):
    """When it goes on, it says what it is to (told), and still does what it is told between its guest's calls."""
    debugger.needs_symbols()
    rig.make("-C", "tests/guests", "S=crash")
    kernel = rig.TOP / "build/guests/crash-pt64"
    with rig.Machine(name="entry", nic=None, kernel=kernel, initrd=kernel, dom0_args="mode=system_calls", memory=512,
                     cmdline=f"dom0_mem=128M,max:128M {words}", extra=debugger.arguments(folder)) as vm:
        vm.expect("PVTEST begin system_calls", 120)
        with debugger.Debugger(folder) as vm.gdb:
            yield vm
        if told:
            vm.expect(told, 60)
        vm.send("\x01\x01\x01h")
        vm.expect("show this message", 60)


@pytest.fixture(params=["xpti=no", "xpti=yes"])
def machine(images, request, tmp_path):
    with stopped_machine(tmp_path, f"spec-ctrl=md-clear {request.param}", "CPU0: NMI, reason") as vm:
        yield vm


def frame(gdb):
    """Of the interrupted, which the handler that has just been entered has in rdi."""
    raw = gdb.read(gdb.get("rdi") + 15 * 8, 8 * len(FRAME))
    return {name: int.from_bytes(raw[8 * i:8 * i + 8], "little") for i, name in enumerate(FRAME)}


def registers(gdb):
    return {name: gdb.get(name) for name in debugger.REGISTERS if name != "eflags"}


def nmi_here(machine, handler="trap_nmi"):
    """One comes before the next instruction; the frame that its handler gets."""
    machine.monitor("inject-nmi")
    machine.gdb.run_to(debugger.symbol(handler))
    return frame(machine.gdb)


def run_to_stub(gdb):
    """The first instruction of the hypervisor's after SYSCALL, whose rsp is the guest's yet: behind the CPU's stack."""
    gdb.run_to(debugger.symbol("do_xen_version"))
    stub = (gdb.get("rsp") | STACK_SIZE - 1) + 1
    gdb.run_to(stub)
    return stub


def run_to_sysret(gdb):
    """The last instruction on a hypercall's way out."""
    gdb.run_to(debugger.symbol("do_xen_version"))
    entry = debugger.symbol("syscall_entry")
    sysret = entry + gdb.read(entry, 512).index(SYSRET)
    gdb.run_to(sysret)
    return sysret


def test_the_next_comes_while_a_guests_is_looked_at(machine):
    """From a guest an NMI may be left by SYSRET. So the CPU has made an IRET before it looks, or it would take no other for long."""
    gdb = machine.gdb
    run_to_sysret(gdb)
    gdb.run_to(gdb.get("rcx"))              # in the guest
    assert nmi_here(machine)["cs"] & CPL
    inner = nmi_here(machine)
    assert inner["rip"] == debugger.symbol("trap_nmi") and not inner["cs"] & CPL


def test_on_the_first_instruction_after_syscall(machine):
    """With whatever the guest has in rsp."""
    gdb = machine.gdb
    stub = run_to_stub(gdb)
    rsp = gdb.get("rsp")
    gdb.set("rsp", NOWHERE)
    before = registers(gdb)
    at = nmi_here(machine)
    assert (at["rip"], at["rsp"], at["cs"] & CPL) == (stub, NOWHERE, 0)
    gdb.run_to(stub)
    assert registers(gdb) == before
    gdb.set("rsp", rsp)


def test_within_a_debug_exception_after_syscall(machine):
    """A guest can have one put off until there."""
    gdb = machine.gdb
    stub = run_to_stub(gdb)
    gdb.set("eflags", gdb.get("eflags") | TF)
    before = registers(gdb)
    gdb.run_to(debugger.symbol("trap_debug"))
    behind, mine = frame(gdb)["rip"], gdb.get("rdi")
    assert stub < behind < stub + 16
    at = nmi_here(machine)
    assert at["rip"] == debugger.symbol("trap_debug") and abs(gdb.get("rdi") - mine) > 1024
    gdb.run_to(behind)
    assert registers(gdb) == {**before, "rip": behind}
    assert not gdb.get("eflags") & TF


def test_what_comes_behind_the_clearing_of_buffers_clears_them_again(machine):
    """On the way out to the guest: what its handler has left in the CPU's buffers is not for the guest."""
    gdb = machine.gdb
    sysret, way_back = run_to_sysret(gdb), debugger.symbol("ist_entry")
    before = registers(gdb)
    at = nmi_here(machine)
    assert at["rip"] == sysret
    verw = way_back + gdb.read(way_back, debugger.symbol("moving_entry") - way_back).index(VERW)
    gdb.run_to(verw)                        # it does come by
    assert gdb.get("rsp") != before["rsp"]
    gdb.run_to(sysret)
    assert registers(gdb) == before


SITE = struct.Struct("<iI")                 # include/asm/sites.h: where, from itself on, and what
SITE_LOCK = 9
LFENCE, NOP = b"\x0f\xae\xe8", b"\x0f\x1f\x00"


@pytest.mark.parametrize("word, code", [("on", LFENCE), ("no-lock-harden", NOP)])
def test_every_lock_has_its_fence(images, tmp_path, word, code):
    with stopped_machine(tmp_path, f"xpti=no spec-ctrl={word}") as vm:
        gdb, first, end = vm.gdb, debugger.symbol("__sites"), debugger.symbol("__sites_end")
        gdb.run_to(debugger.symbol("do_xen_version"))
        table = b"".join(gdb.read(at, min(1024, end - at)) for at in range(first, end, 1024))
        places = [first + at + SITE.unpack_from(table, at)[0] for at in range(0, len(table), SITE.size)
                  if SITE.unpack_from(table, at)[1] == SITE_LOCK]
        kept = [at for at in places if at >= debugger.symbol("__init_data_end")]     # what only boot needed is no code any more
        assert len(kept) > 100
        assert {gdb.read(at, len(code)) for at in kept} == {code}
