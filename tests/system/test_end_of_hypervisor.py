"""What the hypervisor does when it cannot go on: it says what it was doing, and stands still so that this can be read."""
import pytest

import debugger
import rig

pytestmark = pytest.mark.pvisor_only


def small_machine(name, **settings):
    """A machine with little in it. A reset would end it, so that a silent one is seen."""
    return rig.Machine(name=name, nic=None, initrd=rig.CACHE / "domu.cpio", **settings)


@pytest.fixture
def machine(images, request):
    with small_machine(request.node.name, cpus=2) as vm:
        vm.expect(r"domu: ready", 240)
        yield vm


def stands_still(machine):
    machine.expect("The machine is halted", 30)
    with pytest.raises(rig.Failure, match="still runs"):
        machine.expect_exit(3)


def test_panic_prints_registers_and_a_symbolic_stack(machine):
    machine.send("\x01" * 3)
    machine.expect("input", 30)
    machine.send("C")
    machine.expect(r"Panic on CPU \d+: stopped by debug key", 30)
    machine.expect(r"rip [0-9a-f]{4}:[0-9a-f]{16}", 10)
    machine.expect(r"rax [0-9a-f]{16}", 10)
    machine.expect(r"Call trace:", 10)
    machine.expect(r"key_crash\+0x", 10)
    machine.expect(r"CPU\d+ is at [0-9a-f]{4}:[0-9a-f]{16}", 10)
    stands_still(machine)


def machine_check(machine):
    """Bank 1 reports an uncorrected error that the processor cannot go on after (SDM volume 3, chapter 16)."""
    machine.monitor("human-monitor-command", **{"command-line": "mce 0 1 0xbe00000000000000 5 0 0"})


def tells_of_machine_check(machine):
    machine.expect(r"Machine check: bank 1, status 0xbe", 30)
    machine.expect(r"Panic on CPU 0: unexpected machine check", 10)
    machine.expect(r"rip [0-9a-f]{4}:[0-9a-f]{16}", 10)
    stands_still(machine)


def test_machine_check_names_its_bank(machine):
    machine_check(machine)
    tells_of_machine_check(machine)


def test_machine_check_in_the_middle_of_a_line(images, tmp_path):
    """It comes while its CPU holds the console's lock."""
    debugger.needs_symbols()
    with small_machine("machine_check_in_a_line", extra=debugger.arguments(tmp_path)) as vm:
        vm.expect(r"domu: ready", 240)
        with debugger.Debugger(tmp_path) as gdb:
            gdb.run_to(debugger.symbol("console_emit"), lambda: vm.send("\n"))
            machine_check(vm)
        tells_of_machine_check(vm)
