"""A domU's clocks, the TSC among them, which it reads without a trap: they go on through whatever happens to the domain."""
import pytest

import rig


@pytest.fixture(scope="module")
def machine(images):
    with rig.Machine(name="time", cpus=2) as vm:
        vm.wait_for_dom0(360)
        yield vm


@pytest.fixture
def domain(machine):
    made = rig.Domain(machine, "domu").create(timeout=300)
    yield made
    if machine.running():
        made.destroy()


def watched(machine, domain, events):
    """What clock-watch found in the domain while the commands ran in dom0."""
    domain.ok("clock-watch 30 > /tmp/watch & sleep 1")
    for command in events:
        machine.ok(command, 120)
    domain.ok("until grep -q reads /tmp/watch; do sleep 1; done", 180)
    return domain.ok("cat /tmp/watch")


def test_pause_and_moves_between_cpus(machine, domain):
    moves = [f"xl vcpu-pin domu 0 {n % 2}" for n in range(6)]
    found = watched(machine, domain, ["xl pause domu; sleep 2; xl unpause domu", *moves])
    assert "reads, 0 back" in found


def test_save_and_restore(machine, domain):
    found = watched(machine, domain, ["xl save domu /tmp/saved && sleep 2 && xl restore /tmp/saved; rm /tmp/saved"])
    assert "reads, 0 back" in found
