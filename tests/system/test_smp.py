"""A machine of four CPUs: four domUs of two vCPUs under load; vCPUs and CPUs that go and come; shares, caps, pinning.

One boot and one set of domUs serve all tests, in this order. test_smp_long.py has other sizes and what takes long.
"""
import re
import time

import pytest

import rig
from patience import Waits
from smp import HPTOOL, LONG_STORM, SPIN, STOP, Guests, answered, build, irq_cpus, no_complaints, rates, storm

CPUS = 4


@pytest.fixture(scope="module")
def machine(images):
    with rig.Machine(name="smp", cpus=CPUS, memory=1536, in_turns=True) as vm:
        vm.wait_for_dom0(400)
        yield vm


@pytest.fixture(scope="module")
def guests(machine):
    all_four = Guests(machine, 4)
    all_four.create()
    return all_four


@pytest.fixture
def quiet(guests):
    """The domUs, without what earlier tests left running in them."""
    guests.everywhere(STOP)
    return guests


def test_all_cpus_start(machine):
    assert re.search(rf"nr_cpus +: {CPUS}\b", machine.ok("xl info"))
    assert machine.ok("grep -c ^processor /proc/cpuinfo") == str(CPUS)
    assert machine.ok(f"xl dmesg | grep -c '{CPUS} CPUs online of {CPUS}'") == "1"
    # The table of per-CPU arrays has no gaps, so the absent CPUs' parts go back.
    assert machine.ok("xl dmesg | grep -cE ' [1-9][0-9]* KiB for CPUs that are not there freed'") == "1"


def test_time_never_goes_back(machine):
    """Each line is read on whatever CPU the shell is moved to."""
    times = [float(t) for t in machine.ok("for i in $(seq 60); do cut -d' ' -f1 /proc/uptime; done", 120).split()]
    assert times == sorted(times)


def test_dom0_works_on_all(machine):
    storm(machine, CPUS)
    no_complaints(machine)


def test_the_scheduler_and_its_pool(machine):
    assert re.search(rf"^Pool-0 +{CPUS} +credit2 +y +1\b", machine.ok("xl cpupool-list"), re.M)
    assert re.search(r"^Pool-0 +0,1,2,3|^Pool-0 +0-3", machine.ok("xl cpupool-list -c"), re.M)
    assert re.search(r"^xen_scheduler +: credit2", machine.ok("xl info"), re.M)
    assert "Domain-0" in machine.ok("xl sched-credit2")
    machine.ok("xl sched-credit2 -s -r 500")
    assert re.search("ratelimit=500us", machine.ok("xl sched-credit2 -s"))
    machine.ok("xl sched-credit2 -s -r 200")


def test_four_domus_with_traffic(machine, guests):
    assert [guest.ok("nproc") for guest in guests.all] == 4 * ["2"]
    guests.traffic()
    no_complaints(machine)


def test_parallel_work_in_a_domu(guests):
    build(guests.all[0], parallel=4)
    storm(guests.all[1], 4)


def test_vcpu_set_under_load(machine, guests):
    guest = guests.all[0]
    guest.ok(LONG_STORM)
    machine.ok(f"xl vcpu-set {guest.name} 1")
    machine.wait_until(f"[ $(xl vcpu-list {guest.name} | grep -c -- --p) = 1 ]", 90)
    machine.ok(f"xl vcpu-set {guest.name} 2")
    deadline = time.monotonic() + 90 * rig.TIMEOUT_SCALE
    while guest.run("sleep 1; echo 1 > /sys/devices/system/cpu/cpu1/online 2>/dev/null; nproc", 60).splitlines()[-1:] != ["2"]:
        assert time.monotonic() < deadline, "the vCPU does not come back"
    no_complaints(machine)


def test_dom0_vcpus_go_and_come(machine):
    machine.ok("echo 0 > /sys/devices/system/cpu/cpu3/online; xl vcpu-list 0 | grep -c -- --p")
    machine.ok("echo 1 > /sys/devices/system/cpu/cpu3/online")
    assert machine.ok("grep -c ^processor /proc/cpuinfo") == str(CPUS)


def test_pinned_vcpus_stay(machine, quiet):
    guest = quiet.all[1]
    machine.ok(f"xl vcpu-pin {guest.name} 0 3; xl vcpu-pin {guest.name} 1 2")
    build(guest, parallel=3, jobs=6)
    out = machine.ok(f"xl vcpu-list {guest.name}")
    assert re.findall(rf"^{guest.name} +\d+ +(\d+) +(\d+)", out, re.M) == [("0", "3"), ("1", "2")]
    machine.ok(f"xl vcpu-pin {guest.name} all all")


def test_cpus_go_and_come_under_load(machine, guests):
    for guest in guests.all[:2]:
        guest.ok(LONG_STORM)
    for cpu in (1, 2, 3):
        machine.ok(f"{HPTOOL} cpu-offline {cpu}", 120)
    assert re.search(r"nr_cpus +: 1\b", machine.ok("xl info"))
    assert answered(machine.ok(f"ping -c 3 {guests.address(2)}"))
    for cpu in (3, 1, 2):
        machine.ok(f"{HPTOOL} cpu-online {cpu}", 120)
    assert re.search(r"nr_cpus +: 4\b", machine.ok("xl info"))
    assert machine.run(f"{HPTOOL} cpu-offline 0").status
    guests.everywhere(STOP)
    build(guests.all[2], parallel=3, jobs=6)
    assert answered(machine.ok(f"ping -c 3 {guests.address(1)}"))
    no_complaints(machine)


def pools(machine):
    """{name: (CPUs, domains)}"""
    rows = re.findall(r"^(\S+) +(\d+) +credit2 +y +(\d+)", machine.ok("xl cpupool-list"), re.M)
    return {name: (int(cpus), int(domains)) for name, cpus, domains in rows}


def test_pools_of_cpus(machine, quiet):
    """A domain is moved to CPUs of its own under load, another is made there; CPUs go to and fro; calls that make no sense are refused."""
    guest = quiet.all[0]
    machine.ok("xl cpupool-cpu-remove Pool-0 2-3 && xl cpupool-create 'name=\"fast\"' 'cpus=\"2,3\"'", 120)
    assert pools(machine) == {"Pool-0": (2, 5), "fast": (2, 0)}
    guest.ok(LONG_STORM)
    machine.ok(f"xl cpupool-migrate {guest.name} fast", 60)
    machine.ok("sleep 2")
    for _ in range(5):
        where = re.findall(rf"^{guest.name} +\d+ +\d+ +(\d+) ", machine.ok(f"xl vcpu-list {guest.name}"), re.M)
        assert set(where) <= {"2", "3"} and len(where) == 2, where
        others = re.findall(r"^(?:Domain-0|two[1-3]) +\d+ +\d+ +(\d+) ", machine.ok("xl vcpu-list"), re.M)
        assert set(others) <= {"0", "1"}, others
    assert pools(machine) == {"Pool-0": (2, 4), "fast": (2, 1)}
    machine.ok("xl cpupool-cpu-remove fast 3 && xl cpupool-cpu-add Pool-0 3", 60)
    assert "busy" in machine.run("xl cpupool-cpu-remove fast 2 2>&1", 120)     # xl says so, and returns 0
    assert machine.run("xl cpupool-destroy fast", 60).status
    assert machine.run(f"{HPTOOL} cpu-offline 2", 120).status
    assert machine.run("xl cpupool-migrate Domain-0 fast", 60).status
    machine.ok(f"{HPTOOL} cpu-offline 3 && {HPTOOL} cpu-online 3", 120)
    assert pools(machine) == {"Pool-0": (3, 4), "fast": (1, 1)}
    small = rig.Domain(machine, "small", pool="fast").create(timeout=300)
    assert pools(machine) == {"Pool-0": (3, 4), "fast": (1, 2)}
    small.destroy()
    guest.ok(STOP)
    build(guest, parallel=3, jobs=6)
    machine.ok(f"xl cpupool-migrate {guest.name} Pool-0 && xl cpupool-destroy fast && xl cpupool-cpu-add Pool-0 2", 60)
    assert pools(machine) == {"Pool-0": (4, 5)}
    no_complaints(machine)


def test_interrupts_leave_with_the_cpu_that_asks(machine):
    """The vCPU that takes CPU 3 offline runs on it."""
    machine.ok("xl vcpu-pin 0 all 3")
    machine.ok(f"{HPTOOL} cpu-offline 3", 120)
    assert 3 not in irq_cpus(machine).values()
    assert answered(machine.ok("ping -c 3 10.0.2.2"))
    machine.ok(f"xl vcpu-pin 0 all all; {HPTOOL} cpu-online 3", 120)
    no_complaints(machine)


@pytest.fixture
def on_one_cpu(machine, quiet):
    """spinning(guests): they all spin on CPU 1, one vCPU each, which dom0 is kept from, so that measuring disturbs nobody. They
    have no other vCPU meanwhile, whose small doings would count, or to which the spinning process might go."""
    def spinning(some):
        machine.ok("xl vcpu-pin 0 all 0")
        for guest in some:
            machine.ok(f"xl vcpu-pin {guest.name} all 1")
            guest.ok("echo 0 > /sys/devices/system/cpu/cpu1/online")
            guest.run(SPIN)
        machine.ok("sleep 2")
        return [guest.name for guest in some]
    yield spinning
    machine.ok("xl vcpu-pin 0 all all")
    quiet.everywhere(f"{STOP}; echo 1 > /sys/devices/system/cpu/cpu1/online; true")
    for guest in quiet.all:
        machine.ok(f"xl vcpu-pin {guest.name} all all; xl sched-credit2 -d {guest.name} -w 256 -c 0")


def test_weights(machine, quiet, on_one_cpu):
    """Shares are of what the domains got together: what a busy host keeps from the machine's CPU it keeps from all."""
    names = on_one_cpu(quiet.all[:3])
    for name, weight in zip(names, (128, 256, 512)):
        machine.ok(f"xl sched-credit2 -d {name} -w {weight}")
    machine.ok("sleep 2")
    got = rates(machine, names, 20)
    assert sum(got) > 0.9
    for share, wanted in zip(got, (1 / 7, 2 / 7, 4 / 7)):
        assert abs(share / sum(got) / wanted - 1) < 0.05, got


def test_cap(machine, quiet, on_one_cpu):
    """Never more than the cap. And as much, in the best of a few tries, but for the share of time in which a busy host keeps the
    machine's CPUs waiting: such periods are lost to the guest."""
    [name] = on_one_cpu(quiet.all[:1])
    for cap in (20, 60):
        machine.ok(f"xl sched-credit2 -d {name} -c {cap}")
        machine.ok("sleep 1")
        got, waits = [], Waits(machine.child.pid)
        while len(got) < 8 and (not got or max(got) < 0.955 * cap / 100):
            got += rates(machine, [name], 5)
        fair = 1 - waits.seconds() / waits.elapsed()
        assert max(got) < 1.05 * cap / 100 and max(got) > 0.95 * fair * cap / 100, (got, fair)


def test_spinning_vcpus_starve_nobody(machine, quiet, on_one_cpu):
    on_one_cpu(quiet.all[:2])
    machine.ok(f"xl vcpu-pin {quiet.all[3].name} all 1")
    assert answered(machine.ok(f"ping -c 5 {quiet.address(3)}"))


def test_a_flood_of_events_starves_nobody(machine, quiet, on_one_cpu):
    """A domU floods dom0 with requests for single pages from the CPU that another one works on. With its two vCPUs it may have
    two thirds of the CPU; the worker gets the rest at least."""
    flooder, worker = quiet.all[:2]
    on_one_cpu([worker])
    machine.ok(f"xl vcpu-pin {flooder.name} all 1")
    flooder.ok("echo 0 > /sys/block/xvda/queue/read_ahead_kb; (while :; do echo 3 > /proc/sys/vm/drop_caches; "
               "dd if=/dev/xvda of=/dev/null bs=4k; done) > /dev/null 2>&1 &")
    machine.ok("sleep 1")
    [got] = rates(machine, [worker.name], 5)
    assert got > 0.3
