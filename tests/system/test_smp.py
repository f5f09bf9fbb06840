"""Many CPUs: machines of 1, 2, 4 and 8; guests of several vCPUs under load; shares, caps, pinning, hotplug of vCPUs and CPUs."""
import re
import time

import pytest

import rig

HPTOOL = "/usr/lib/xen-4.17/bin/xen-hptool"
# Processes, pipes and page faults, as a compiler makes them; then threads of one address space that map and unmap.
FORK_STORM = ("for c in $(seq {workers}); do (end=$(($(date +%s)+{seconds})); while [ $(date +%s) -lt $end ]; do "
              "x=$(echo $c | sed 's/9/8/' | cat); [ \"$x\" ] || exit 1; done; echo done) & done; wait")
SPIN = "while :; do :; done > /dev/null 2>&1 &"
LONG_STORM = f"({FORK_STORM.format(workers=4, seconds=100000)}) > /dev/null 2>&1 &"


@pytest.fixture(scope="module")
def machine(request, images):
    """A machine of so many CPUs, at dom0's shell."""
    cpus = getattr(request, "param", 4)
    with rig.Machine(name=f"smp-{cpus}", cpus=cpus, memory=1536) as vm:
        vm.wait_for_dom0(240 + 60 * cpus)
        yield vm


@pytest.fixture
def domu(machine):
    made = []

    def make(name="domu", **settings):
        made.append(rig.Domain(machine, name, **settings))
        return made[-1].create(timeout=300)
    yield make
    if machine.running():
        for domain in made:
            domain.destroy()


def free_pages(machine):
    """Memory of a domain that ends comes back within moments."""
    return int(machine.ok("sleep 2; free-pages"))


def seconds_of(machine, name):
    """CPU time of a domain's vCPUs together, and the time of asking."""
    out = machine.ok(f"xl vcpu-list {name}; cat /proc/uptime")
    used = sum(float(m.group(1)) for m in re.finditer(r"^\S+ +\d+ +\d+ +\S+ +\S+ +([\d.]+)", out, re.M))
    return used, float(out.splitlines()[-1].split()[0])


def rates(machine, names, wait):
    """CPUs' worth that each domain got during so many seconds."""
    before = {name: seconds_of(machine, name) for name in names}
    machine.ok(f"sleep {wait}", wait + 60)
    after = {name: seconds_of(machine, name) for name in names}
    return [(after[n][0] - before[n][0]) / (after[n][1] - before[n][1]) for n in names]


def no_complaints(machine):
    log = machine.transcript()
    for word in ("Panic", "Watchdog", "BUG", "crashed"):
        assert word not in log, machine.tail()


def storm(guest, workers, seconds=5):
    out = guest.ok(FORK_STORM.format(workers=workers, seconds=seconds), 120)
    assert out.split().count("done") == workers
    assert "rounds" in guest.ok(f"mm-storm {workers + 1} {seconds}", 120)


@pytest.mark.parametrize("machine", [1, 2, 4, 8], indirect=True)
class TestEverySize:
    def test_all_cpus_start(self, machine, request):
        cpus = machine.cpus
        assert re.search(rf"nr_cpus +: {cpus}\b", machine.ok("xl info"))
        assert machine.ok("grep -c ^processor /proc/cpuinfo") == str(cpus)
        assert machine.ok(f"xl dmesg | grep -c '{cpus} CPUs online of {cpus}'") == "1"

    def test_time_never_goes_back(self, machine):
        """Each line is read on whatever CPU the shell is moved to."""
        out = machine.ok("for i in $(seq 300); do cut -d' ' -f1 /proc/uptime; done", 120)
        times = [float(t) for t in out.split()]
        assert times == sorted(times)

    def test_dom0_forks_on_all(self, machine):
        storm(machine, machine.cpus)
        no_complaints(machine)

    def test_domu_of_two_vcpus(self, machine, domu):
        machine.ok("truncate -s 16M /tmp/d.img; dd if=/dev/urandom of=/tmp/d.img bs=1M count=16 2>/dev/null")
        guest = domu(vcpus=2, disk=["/tmp/d.img,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21")
        assert guest.ok("nproc") == "2"
        assert " 0% packet loss" in guest.ok("ping -c 3 10.0.2.15")
        want = machine.ok("md5sum < /tmp/d.img", 120).split()[0]
        both = guest.ok("md5sum < /dev/xvda & md5sum < /dev/xvda; wait", 240)
        assert [line.split()[0] for line in both.splitlines()] == [want, want]
        storm(guest, 4)
        machine.ok("rm /tmp/d.img")
        no_complaints(machine)


@pytest.mark.parametrize("machine", [4], indirect=True)
class TestFour:
    def test_memory_comes_back(self, machine, domu):
        domu(vcpus=4).destroy()
        before = free_pages(machine)
        for _ in range(3):
            guest = domu(vcpus=4)
            guest.ok(LONG_STORM)
            machine.ok("sleep 1")
            guest.destroy()
        assert free_pages(machine) == before

    def test_vcpu_set_under_load(self, machine, domu):
        guest = domu(vcpus=4)
        guest.ok(LONG_STORM)
        for _ in range(2):
            machine.ok("xl vcpu-set domu 1")
            machine.wait_until("[ $(xl vcpu-list domu | grep -c -- --p) = 3 ]", 90)
            machine.ok("xl vcpu-set domu 4")
            guest_up = "for c in 1 2 3; do echo 1 > /sys/devices/system/cpu/cpu$c/online; done; nproc"
            deadline = time.monotonic() + 90 * rig.TIMEOUT_SCALE
            while guest.run(f"sleep 1; {guest_up} 2>/dev/null", 60).splitlines()[-1:] != ["4"]:
                assert time.monotonic() < deadline, "the vCPUs do not come back"
        no_complaints(machine)

    def test_dom0_vcpus_go_and_come(self, machine):
        machine.ok("echo 0 > /sys/devices/system/cpu/cpu3/online; xl vcpu-list 0 | grep -c -- --p")
        machine.ok("echo 1 > /sys/devices/system/cpu/cpu3/online")
        storm(machine, 4)

    def test_pinned_vcpus_stay(self, machine, domu):
        guest = domu(vcpus=2)
        machine.ok("xl vcpu-pin domu 0 3; xl vcpu-pin domu 1 2")
        storm(guest, 2)
        out = machine.ok("xl vcpu-list domu")
        assert re.findall(r"^domu +\d+ +(\d+) +(\d+)", out, re.M) == [("0", "3"), ("1", "2")]

    def test_cpu_offline_and_online(self, machine, domu):
        guest = domu(vcpus=4, vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21")
        guest.ok(LONG_STORM)
        for cpu in (1, 2, 3):
            machine.ok(f"{HPTOOL} cpu-offline {cpu}", 120)
        assert re.search(r"nr_cpus +: 1\b", machine.ok("xl info"))
        assert " 0% packet loss" in machine.ok("ping -c 3 10.0.2.21")
        for cpu in (3, 1, 2):
            machine.ok(f"{HPTOOL} cpu-online {cpu}", 120)
        assert re.search(r"nr_cpus +: 4\b", machine.ok("xl info"))
        assert machine.run(f"{HPTOOL} cpu-offline 0").status
        no_complaints(machine)


@pytest.mark.parametrize("machine", [2], indirect=True)
class TestShares:
    """On CPU 1, which dom0 is kept from, so that measuring does not disturb."""

    @pytest.fixture
    def spinners(self, machine, domu):
        def make(count, **settings):
            guests = [domu(f"spin{n}", **settings) for n in range(count)]
            machine.ok("xl vcpu-pin 0 all 0")
            for guest in guests:
                machine.ok(f"xl vcpu-pin {guest.name} all 1")
                guest.run(SPIN)
            return [guest.name for guest in guests]
        yield make
        machine.ok("xl vcpu-pin 0 all all")

    def test_weights(self, machine, spinners):
        names = spinners(3)
        for name, weight in zip(names, (128, 256, 512)):
            machine.ok(f"xl sched-credit2 -d {name} -w {weight}")
        machine.ok("sleep 3")
        got = rates(machine, names, 30)
        assert sum(got) > 0.9
        for share, wanted in zip(got, (1 / 7, 2 / 7, 4 / 7)):
            assert abs(share / sum(got) / wanted - 1) < 0.05, got

    def test_cap(self, machine, spinners):
        [name] = spinners(1)
        for cap in (25, 50):
            machine.ok(f"xl sched-credit2 -d {name} -c {cap}")
            machine.ok("sleep 2")
            # What a busy host keeps from the machine's CPU for whole periods is lost to the guest: the best of three.
            got = max(rates(machine, [name], 10)[0] for _ in range(3))
            assert abs(got / (cap / 100) - 1) < 0.05, got

    def test_a_spinning_vcpu_starves_nobody(self, machine, spinners, domu):
        spinners(2)
        guest = domu("other", vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.22", memory=96)
        machine.ok("xl vcpu-pin other all 1")
        assert " 0% packet loss" in machine.ok("ping -c 5 10.0.2.22")
