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
