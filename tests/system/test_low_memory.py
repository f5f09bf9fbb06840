"""A machine with memory above 4 GiB, and none left below: who may use it does, and who may not is told why."""
import re

import pytest

import rig

GUESTS = rig.TOP / "build/guests"
MEMORY = 6144       # MiB; q35 has 2 GiB of it below 4 GiB
LOW = 2048

pytestmark = pytest.mark.pvisor_only


@pytest.fixture(scope="module")
def large(images):
    rig.make("-C", "tests/guests", "S=smoke")
    rig.make("loader")
    with rig.Machine(name="large", memory=MEMORY) as vm:
        vm.wait_for_dom0()
        for path in (rig.LOADER, GUESTS / "smoke-pt32", GUESTS / "smoke-pt32p"):
            rig.put(vm, path, f"/tmp/{path.name}")
        yield vm


def smoke(large, form):
    """A domU of a format that runs the smallest test suite."""
    return rig.Domain(large, f"smoke-{form}", **rig.kernel_settings(f"/tmp/smoke-{form}", form), memory=64, extra=None,
                      on_poweroff="preserve", on_crash="preserve")


def console_says(large, domain, pattern):
    large.wait_until(f"grep -aqE '{pattern}' {domain.console_log}", 90)


@pytest.fixture
def low_memory_filled(large):
    """A PAE domain gets low memory first: this one, which never runs, takes all of it, and some from above."""
    large.ok("xl dmesg -c > /dev/null")
    filler = rig.Domain(large, "filler", kernel="/tmp/smoke-pt32p", ramdisk=None, memory=LOW + 200, extra=None)
    filler.write_config()
    large.ok(f"xl create -p {filler.config}", 300)
    yield filler
    filler.destroy()


def test_non_pae_guest_is_told_that_low_memory_is_short(large, low_memory_filled):
    domain = smoke(large, "pt32").create(wait=False)
    try:
        says = "pvisor loader: frame 0x[1-9a-f][0-9a-f]{5} of this domain lies above the 4 GiB that a kernel without PAE can map"
        console_says(large, domain, says)
        assert re.search(says, large.hypervisor_log())
    finally:
        domain.destroy()


def test_pae_guest_takes_memory_above_4_gib(large, low_memory_filled):
    domain = smoke(large, "pt32p").create(wait=False)
    try:
        console_says(large, domain, "PVTEST .* 0 failed")
    finally:
        domain.destroy()


def test_non_pae_guest_runs_once_there_is_low_memory(large):
    domain = smoke(large, "pt32").create(wait=False)
    try:
        console_says(large, domain, "PVTEST .* 0 failed")
    finally:
        domain.destroy()
