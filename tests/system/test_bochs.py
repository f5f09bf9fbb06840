"""The whole in Bochs, whose CPU checks what QEMU's does not: GRUB, dom0 to its shell, a domU. It takes some minutes, so it runs by name:
make test T=test_bochs.
"""
import os
import sys
from pathlib import Path

import pytest

import rig

sys.path.insert(0, str(rig.TOP / "tests/guests"))
import bochs

pytestmark = pytest.mark.long


class Bochs(rig.Machine):
    """Without disks and network; its serial line is the terminal that it is started on, its screen's is another."""

    def command(self):
        scratch = Path(self.scratch.name)
        cd = rig.grub_iso(scratch / "boot.iso", [*rig.multiboot_entry(), bochs.STAY_TEXT],
                          {"xen.gz": self.hypervisor, "vmlinuz": self.kernel, "initrd": self.initrd})
        argv, self.terminal = bochs.prepare(scratch, cd, "mode=term, dev=/dev/tty", self.cpus, self.memory)
        screen = os.ttyname(self.terminal)
        # The line is kept open: one that nobody has open is at its end.
        return "/bin/sh", ["-c", f'exec "$0" "$@" 3<>/dev/tty <{screen} >{screen} 2>&1', *argv]


@pytest.fixture(scope="module")
def machine(images):
    with Bochs(name="bochs", nic=None) as vm:
        vm.wait_for_dom0(1200)
        yield vm


def test_dom0_and_its_tools(machine):
    assert "Domain-0" in machine.ok("xl list")
    assert "GenuineIntel family 0x6 model 0x55" in machine.hypervisor_log()


def test_a_domu_lives(machine):
    guest = rig.Domain(machine)
    guest.create(timeout=900)
    assert guest.ok("echo $((6 * 7))", 120) == "42"
    guest.destroy()
