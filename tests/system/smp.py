"""What the tests of many CPUs share: loads that want several CPUs, and measuring who gets how much of them."""
import re
import shlex

import rig

HPTOOL = "/usr/lib/xen-4.17/bin/xen-hptool"
# Processes, pipes and page faults, as a compiler makes them.
FORK_STORM = ("for c in $(seq {workers}); do (end=$(($(date +%s)+{seconds})); while [ $(date +%s) -lt $end ]; do "
              "x=$(echo $c | sed 's/9/8/' | cat); [ \"$x\" ] || exit 1; done; echo done) & done; wait")
LONG_STORM = f"({FORK_STORM.format(workers=3, seconds=100000)}) > /dev/null 2>&1 &"
SPIN = "while :; do :; done > /dev/null 2>&1 &"
STOP = "for p in $(jobs -p); do kill -9 -$p $p; done 2>/dev/null; true"      # a job is a group of processes
# A parallel build without a compiler: jobs of pipes and CPU work, so many at a time, that must all come to one result.
BUILD = ("seq {jobs} | xargs -P {parallel} -n 1 sh -c 'dd if=/usr/bin/busybox bs=64k count=8 2>/dev/null | gzip -c | md5sum' "
         "| sort | uniq -c")


def storm(guest, workers, seconds=3):
    """Processes, then threads of one address space that map and unmap, on all CPUs; memory must hold what was written."""
    out = guest.ok(FORK_STORM.format(workers=workers, seconds=seconds), 120)
    assert out.splitlines().count("done") == workers       # a shell with job control tells more
    assert "rounds" in guest.ok(f"mm-storm {workers + 1} {seconds}", 120)


def build(guest, parallel, jobs=16):
    lines = guest.ok(BUILD.format(jobs=jobs, parallel=parallel), 240).splitlines()
    assert len(lines) == 1 and lines[0].split()[0] == str(jobs), lines


def answered(ping):
    """Of what busybox's ping tells. For the last answer it waits two round trips, or a second: on a busy host that one may be too late."""
    sent = int(re.search(r"(\d+) packets transmitted", ping)[1])
    return set(range(sent - 1)) <= {int(seq) for seq in re.findall(r" seq=(\d+) ", ping)}


def free_pages(machine):
    """Memory of a domain that ends comes back within moments."""
    return int(machine.ok("sleep 2; free-pages"))


def cpu_times(machine):
    """Seconds that the domains' vCPUs have had of CPUs, {number: [seconds]}, and the hypervisor's time at that moment."""
    now, *domains = [[int(word) for word in line.split()] for line in machine.ok("cpu-times").splitlines()]
    return now[0] / 1e9, {number: [used / 1e9 for used in vcpus] for number, *vcpus in domains}


def rates(machine, names, wait):
    """CPUs' worth that each domain's vCPUs together got during so many seconds, by the hypervisor's clock."""
    numbers = [int(n) for n in machine.ok(" ; ".join(f"xl domid {name}" for name in names)).split()]
    begin, before = cpu_times(machine)
    machine.ok(f"sleep {wait}", wait + 60)
    end, after = cpu_times(machine)
    return [sum(a - b for a, b in zip(after[n], before[n])) / (end - begin) for n in numbers]


def irq_cpus(machine):
    """Which CPU the hypervisor has given each interrupt of a device: {irq: cpu}."""
    machine.ok("xl debug-keys i; sleep 1")
    return {int(irq): int(cpu) for irq, cpu in re.findall(r"irq +(\d+) vector 0x[0-9a-f]+ cpu (\d+)", machine.hypervisor_log())}


def no_complaints(machine):
    log = machine.transcript()
    for word in ("Panic", "panic at", "Watchdog", "BUG", "crashed"):
        assert word not in log, machine.tail()


def make_disk(machine, path, mib):
    """A disk image of random content in dom0; its checksum."""
    return machine.ok(f"dd if=/dev/urandom of={path} bs=1M count={mib} 2>/dev/null; md5sum < {path}", 120).split()[0]


# What libxl asks of a hotplug script, and no more (Xen's docs/misc/block-scripts.txt): the toolstack's own are some sixty processes, for
# which a machine of four CPUs on a busy host of two takes longer than the 40 s that libxl waits. Other tests use those.
SCRIPTS = {
    "block-test": """case $1 in
add) d=$(losetup -f) && losetup $d $(xenstore-read $XENBUS_PATH/params) &&
     xenstore-write $XENBUS_PATH/node $d $XENBUS_PATH/physical-device $(stat -L -c %t:%T $d) $XENBUS_PATH/hotplug-status connected;;
remove) losetup -d $(xenstore-read $XENBUS_PATH/node);;
esac""",
    "vif-test": """case $1 in
online) ip link set $vif up && brctl addif xenbr0 $vif && xenstore-write $XENBUS_PATH/hotplug-status connected;;
esac""",
}


class Guests:
    """Domains of two vCPUs, each with a disk of its own and a network interface."""

    def __init__(self, machine, count):
        self.machine = machine
        for name, text in SCRIPTS.items():
            script = f"/etc/xen/scripts/{name}"
            machine.ok(f"printf '%s\\n' '#!/bin/sh' {shlex.quote(text)} > {script}; chmod +x {script}")
        self.all, self.sums = [], []
        for n in range(count):
            self.sums.append(make_disk(machine, f"/tmp/{n}.img", 6))
            disk = f"format=raw,vdev=xvda,access=rw,script=block-test,target=/tmp/{n}.img"
            self.all.append(rig.Domain(machine, f"two{n}", vcpus=2, memory=112, disk=[disk], vif=["bridge=xenbr0,script=vif-test"],
                                       extra=f"rig.ip={self.address(n)}"))

    @staticmethod
    def address(n):
        return f"10.0.2.{31 + n}"

    def create(self):
        for guest in self.all:
            guest.create(wait=False, timeout=300)
        for guest in self.all:
            guest.wait_ready(timeout=240)

    def traffic(self):
        """Every guest reads its disk on both vCPUs and sends and receives packets, all at once; then all write their disks."""
        self.everywhere("rm -f /tmp/read /tmp/sum*; echo 3 > /proc/sys/vm/drop_caches")
        self.everywhere("(for i in 1 2; do (md5sum < /dev/xvda > /tmp/sum$i) & done; ping -c 8 -s 1400 10.0.2.15 > /tmp/ping; "
                        "wait; touch /tmp/read) > /dev/null 2>&1 &")
        for n, guest in enumerate(self.all):
            guest.ok("while [ ! -e /tmp/read ]; do sleep 1; done", 240)
            assert answered(guest.ok("cat /tmp/ping"))
            assert [line.split()[0] for line in guest.ok("cat /tmp/sum1 /tmp/sum2").splitlines()] == 2 * [self.sums[n]]
        self.everywhere("(dd if=/dev/urandom of=/tmp/new bs=64k count=16; dd if=/tmp/new of=/dev/xvda bs=64k; sync) > /dev/null 2>&1 &")
        for n, guest in enumerate(self.all):
            want = guest.ok("wait; sync; md5sum < /tmp/new", 120).split()[0]
            assert self.machine.ok(f"dd if=/tmp/{n}.img bs=64k count=16 2>/dev/null | md5sum").split()[0] == want
            self.sums[n] = self.machine.ok(f"md5sum < /tmp/{n}.img").split()[0]

    def everywhere(self, command):
        for guest in self.all:
            guest.ok(command)

    def destroy(self):
        for guest in self.all:
            guest.destroy()
