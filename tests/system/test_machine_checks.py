"""Errors that the hardware has corrected: the log names them, and dom0's driver has them for whoever reads /dev/mcelog."""
import pytest

import rig

pytestmark = pytest.mark.pvisor_only
# Valid, enabled, with an address: a corrected error of a memory controller (SDM volume 3, 16.3.2 and 16.9.2).
STATUS, ADDRESS, BANK, CPU = 0x9400000000000090, 0x12345000, 7, 1


def test_a_corrected_error_reaches_dom0s_log(images):
    with rig.Machine(name="corrected_error", nic=None, initrd=rig.CACHE / "domu.cpio", cpus=2) as machine:
        machine.expect(r"domu: ready", 240)
        machine.ok("test -c /dev/mcelog || mknod /dev/mcelog c 10 227")
        assert machine.ok("dd if=/dev/mcelog bs=65536 count=1 2>/dev/null | wc -c").strip() == "0"
        machine.monitor("human-monitor-command", **{"command-line": f"mce {CPU} {BANK} {STATUS:#x} 0 {ADDRESS:#x} 0"})
        machine.expect(rf"Machine check: CPU{CPU}, bank {BANK}: a corrected error, status {STATUS:#x}, address {ADDRESS:#x}", 60)
        words = machine.ok("dd if=/dev/mcelog bs=65536 count=1 2>/dev/null | od -A n -v -t x8 -N 24").split()
        assert [int(word, 16) for word in words] == [STATUS, 0, ADDRESS]
