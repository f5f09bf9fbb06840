"""Machines with an IOMMU: the hypervisor finds it in the firmware's tables, and dom0's devices work, which nothing translates yet."""
import pytest

import rig

IOMMUS = {"intel-iommu": "VT-d", "amd-iommu": "AMD-Vi"}


@pytest.fixture(scope="module", params=IOMMUS)
def machine(request):
    with rig.Machine(name=request.param, extra=["-device", request.param]) as vm:
        vm.wait_for_dom0()
        vm.iommu = IOMMUS[request.param]
        yield vm


def test_the_unit_is_found(machine):
    assert f"IOMMU: {machine.iommu}, 1 unit(s)" in machine.transcript()


def test_dom0_leaves_it_alone_and_its_card_works(machine):
    assert "0" == machine.ok("ls /sys/class/iommu 2>/dev/null | wc -l").strip()
    machine.ok("ping -c 3 10.0.2.2")
