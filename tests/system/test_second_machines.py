"""Machines of the least and of much memory, on the QEMU that all tests have and on the next: Debian 12's 7.2, its backports' 10."""
import re

import pytest

import rig


@pytest.mark.parametrize("gib", [1, 64])
@pytest.mark.parametrize("qemu", ["7.2", "10"])
def test_dom0_and_a_domu(images, qemu, gib):
    # The host has not that much, and need not: little of it is ever touched.
    settings = {"extra": ["-object", f"memory-backend-ram,id=ram,size={gib}G,reserve=off", "-machine", "memory-backend=ram"]}
    if qemu == "10":
        rig.build_images("qemu/run")
        settings["qemu"] = rig.CACHE / "qemu/run"
    with rig.Machine(name=f"qemu-{qemu}-{gib}-gib", memory=gib << 10, **settings) as machine:
        machine.wait_for_dom0(400)
        assert machine.monitor("query-version")["qemu"]["major"] == int(qemu.split(".")[0])
        # What the firmware keeps is little; the hypervisor's tables are part of the total.
        assert (gib << 10) * 0.97 < int(re.search(r"total_memory +: (\d+)", machine.ok("xl info"))[1]) <= gib << 10
        guest = rig.Domain(machine).create()
        assert "Linux" in guest.ok("uname")
