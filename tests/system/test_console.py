"""The hypervisor's consoles: input switching, debug keys, VGA text."""
import re

import pytest

import rig

SWITCH = "\x01" * 3


@pytest.fixture
def hypervisor_input(dom0):
    """The keyboard goes to the hypervisor during the test, and back to dom0 after it."""
    dom0.send(SWITCH)
    dom0.expect(r"(?i)serial input to xen|input.*hypervisor", 30)
    yield dom0
    dom0.send(SWITCH)
    dom0.expect(r"(?i)serial input to dom0|input.*dom0", 30)
    assert dom0.ok("echo dom0 hears again") == "dom0 hears again"


def test_ctrl_a_three_times_switches_input_and_h_lists_the_keys(hypervisor_input):
    hypervisor_input.send("h")
    hypervisor_input.expect(r"'h'.*\n(.*\n)*.*key '.'", 30)


# Debug keys, and what must be in their dumps.
DUMPS = {"q": r"(domain 0|d0)", "r": r"(run ?q|sched|now)", "m": r"(memory|pages|heap)",
         "e": r"(event|port)", "i": r"(IRQ|vec)"}


@pytest.mark.parametrize("key", DUMPS)
def test_debug_key_prints_its_dump(hypervisor_input, key):
    hypervisor_input.send(key)
    hypervisor_input.expect(r"(?i)\(XEN\).*" + DUMPS[key], 30)


def test_unknown_key_does_no_harm(hypervisor_input):
    hypervisor_input.send("~")


def test_dom0_hears_again_after_a_failure_was_told(dom0):
    """The rig asks the hypervisor what its CPUs and domains do, as a failure's text; other tests go on with the machine."""
    assert "no word of it" in str(dom0.stuck("no word of it"))
    assert dom0.ok("echo dom0 hears again") == "dom0 hears again"


def screen_text(machine):
    """The VGA text screen, 80 by 25, read from its memory."""
    dump = machine.monitor("human-monitor-command", **{"command-line": "xp /2000hx 0xb8000"})
    cells = [int(word, 16) for word in re.findall(r"0x([0-9a-f]{4})\b", re.sub(r"^[0-9a-f]+:", "", dump, flags=re.M))]
    text = "".join(chr(cell & 0x7f) if 32 <= cell & 0x7f < 127 else " " for cell in cells[:2000])
    return "\n".join(text[row * 80:row * 80 + 80].rstrip() for row in range(25))


@pytest.mark.pvisor_only
def test_vga_shows_the_hypervisors_text(scratch):
    """Without a usable dom0 kernel the hypervisor keeps the screen, and its last words are there to read."""
    (scratch / "kernel").write_bytes(b"no kernel")
    with rig.Machine(name="vga", kernel=scratch / "kernel", initrd=rig.CACHE / "domu.cpio", cmdline="noreboot",
                     base_cmdline="console=com1,vga com1=115200,8n1 loglvl=all") as machine:
        machine.expect(r"(?i)\(XEN\).*(ELF|could not|not a kernel|image)", 60)
        machine.child.expect(rig.pexpect.TIMEOUT, timeout=3)
        assert "(XEN)" in screen_text(machine)


@pytest.mark.pvisor_only
def test_a_panic_takes_the_text_screen_back_from_dom0(images):
    with rig.Machine(name="vga_panic", nic=None, initrd=rig.CACHE / "domu.cpio",
                     base_cmdline="console=com1,vga com1=115200,8n1 loglvl=all") as machine:
        machine.expect("domu: ready", 240)
        assert "(XEN)" not in screen_text(machine).splitlines()[-1]
        machine.send(SWITCH)
        machine.expect("input to Xen", 30)
        machine.send("C")
        machine.expect("The machine is halted", 30)
        machine.child.expect(rig.pexpect.TIMEOUT, timeout=1)
        text = screen_text(machine)
    assert text.startswith("(XEN)") and "Panic on CPU 0: stopped by debug key" in text and "The machine is halted" in text
    assert not re.search(r"^\[ +\d+\.\d+\] ", text, re.M), text      # dom0's


def test_no_text_of_dom0_is_lost(dom0):
    """Several times what the hypervisor keeps for a line that is slower than dom0."""
    numbers = dom0.ok("seq 100000 119999", 120).split()
    assert numbers == [str(n) for n in range(100000, 120000)]


@pytest.mark.pvisor_only
def test_lines_that_a_stuck_line_loses_are_counted(dom0):
    """Nobody reads the serial line until dom0 is done writing. It is not held up for ever, and what is missing is accounted for."""
    with rig.Outside() as outside:
        port, thread = outside.listen(lambda connection: connection.recv(16))
        dom0.start_command(f"(stty -F /dev/hvc0 -opost; seq 100000 139999; stty -F /dev/hvc0 opost) && nc 10.0.2.2 {port} <<< done; "
                           "echo all' said'")
        thread.join(300 * rig.TIMEOUT_SCALE)
        assert not thread.is_alive()
    dom0.expect("all said", 120)
    missing, expected = 0, 100000
    for line in dom0.child.before.replace("\r", "\n").splitlines():
        if told := re.fullmatch(r"\(XEN\) \*\*\* (\d+) lines are missing here.*", line):
            missing += int(told[1])
        elif re.fullmatch(r"1\d{5}", line):
            assert int(line) == expected + missing
            expected += 1
    assert missing and expected + missing == 140000


@pytest.mark.pvisor_only
def test_a_panic_comes_out_whole_behind_what_was_printed_before(images):
    with rig.Machine(name="panic-behind-text", cpus=2) as machine:
        machine.wait_for_dom0()
        machine.start_command("seq 100000 102999; xl debug-keys C")
        machine.expect("102999", 60)
        machine.expect(r"Panic on CPU \d+: stopped by debug key", 30)
        for part in (r"rax [0-9a-f]{16}", "Call trace:", r"key_crash\+0x", r"CPU\d+ is at", "The machine has been stopped"):
            machine.expect(part, 30)
        numbers = re.findall(r"^1\d{5}\r?$", machine.transcript(), re.M)
        assert [n.strip() for n in numbers] == [str(n) for n in range(100000, 103000)]


@pytest.mark.pvisor_only
def test_sync_console_waits_for_every_character(images):
    with rig.Machine(name="sync-console", cmdline="sync_console") as machine:
        machine.wait_for_dom0()
        assert machine.ok("seq 100000 104999", 120).split() == [str(n) for n in range(100000, 105000)]
        machine.ok("xl debug-keys q")


@pytest.mark.pvisor_only
def test_a_line_without_interrupt_is_polled(images):
    with rig.Machine(name="polled", base_cmdline=rig.HYPERVISOR_ARGS.replace("8n1", "8n1,0x3f8,0")) as machine:
        machine.wait_for_dom0(400)
        assert machine.ok("xl dmesg | grep -c 'com1: polled'") == "1"
        assert machine.ok("seq 100000 101999", 240).split() == [str(n) for n in range(100000, 102000)]
