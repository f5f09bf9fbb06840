"""xl migrate at length: domains of several vCPUs under load, and migrations whose ends are killed half-way.

By name only: make test T=migrate_long.
"""
import os
import random
import time

import pytest

import rig
from test_migrate import migrate

pytestmark = pytest.mark.long

SEEDS = range(int(os.environ.get("SEEDS", "10")))
NIC = {"vif": ["bridge=xenbr0"], "extra": "rig.ip=10.0.2.21"}

# Each in the background of the guest's shell, without an end. What they find wrong is in /tmp/wrong, what they have done in /tmp/did.*.
WRITE = ("(i=0; while :; do i=$((i + 1)); b=$((i % 16)); head -c 65536 /dev/urandom > /tmp/b; "
         "dd if=/tmp/b of=/dev/xvda bs=64k seek=$b conv=fsync; echo 3 > /proc/sys/vm/drop_caches; "
         "dd if=/dev/xvda of=/tmp/r bs=64k skip=$b count=1; cmp /tmp/b /tmp/r || echo block $i >> /tmp/wrong; "
         "echo $i > /tmp/did.blocks; done) > /dev/null 2>&1 &")
CLOCK = ("(awk 'BEGIN { while (1) { getline up < \"/proc/uptime\"; close(\"/proc/uptime\"); split(up, now, \" \"); "
         "if (now[1] + 0 < last + 0) print \"clock\", last, now[1] >> \"/tmp/wrong\"; last = now[1]; "
         "if (++n % 1000 == 0) { print n > \"/tmp/did.clock\"; close(\"/tmp/did.clock\") } } }') > /dev/null 2>&1 &")
MEMORY = ("(i=0; while :; do i=$((i + 1)); head -c 300000 /dev/urandom > /tmp/m$((i % 8)); echo $i > /tmp/did.memory; done) "
          "> /dev/null 2>&1 &")
SPIN = "(while :; do :; done) > /dev/null 2>&1 &"


def stream(guest, port):
    """Numbered lines come to the guest, which looks whether one is missing."""
    guest.ok(f"(nc {rig.Outside.ADDRESS} {port} | awk '$1 != n + 1 {{ print \"stream\", n, $1 >> \"/tmp/wrong\" }} "
             "{ n = $1; print n > \"/tmp/did.stream\"; close(\"/tmp/did.stream\") }') > /dev/null 2>&1 &")


def send_lines(connection):
    for number in range(1, 1_000_000):
        try:
            connection.sendall(f"{number}\n".encode())
        except OSError:
            return
        time.sleep(0.05)


def done(guest):
    """A file that is just being written has nothing in it."""
    return [int(word) for word in guest.ok("until [ $(cat /tmp/did.* | tee /tmp/seen | wc -w) = $(ls /tmp/did.* | wc -l) ]; do :; done; "
                                           "cat /tmp/seen").split()]


def goes_on(guest, seconds=90):
    """Each of its loops has done more than before; nothing was wrong."""
    first, until = done(guest), time.time() + seconds * rig.TIMEOUT_SCALE
    while not all(now > then for now, then in zip(done(guest), first, strict=True)):
        assert time.time() < until, f"after {first} only {done(guest)}"
        time.sleep(1)
    assert guest.ok("cat /tmp/wrong 2>/dev/null; true").strip() == ""


@pytest.mark.parametrize("cpus", [2, 4])
def test_under_load(dom0, domu, cpus):
    dom0.ok("truncate -s 8M /tmp/disk")
    guest = domu(vcpus=cpus, disk=["/tmp/disk,raw,xvda,rw"], **NIC).create()
    with rig.Outside() as outside:
        port, _ = outside.listen(send_lines)
        stream(guest, port)
        for load in (WRITE, CLOCK, *(cpus - 1) * [SPIN]):
            guest.ok(load)
        guest.ok("while ! [ -s /tmp/did.blocks -a -s /tmp/did.clock -a -s /tmp/did.stream ]; do sleep 1; done", 90)
        for _ in range(2):
            domid = guest.domid()
            migrate(dom0, seconds=400)
            assert guest.domid() != domid
            goes_on(guest)
        assert guest.ok("nproc") == str(cpus)


@pytest.mark.parametrize("cpus", [1, 4])
def test_what_has_come_is_verified(dom0, domu, cpus):
    """By --debug all memory is sent once more while the domain stands still, and the receiver compares: nothing has been missed. There are no
    devices: a backend goes on with what it was asked for before, into memory that Linux asks for again when it goes on."""
    guest = domu(vcpus=cpus).create()
    for load in (MEMORY, CLOCK):
        guest.ok(load)
    guest.ok("while ! [ -s /tmp/did.memory -a -s /tmp/did.clock ]; do sleep 1; done", 90)
    for _ in range(3):
        said = dom0.ok("xl -vvv migrate --debug -s '' domu 'xl -vvv migrate-receive' 2>&1", 600)
        assert "Verify mode enabled" in said and "verify pfn" not in said, said
        goes_on(guest)


# By -e the receiver is gone when the domain has come, so whoever is called so is at it. They are found by a word of their command line.
MIGRATE = "xl migrate -s '' domu 'xl migrate-receive -e'"
ENDS = {"receiver": "migrate-receiv[e]", "sender": "migrat[e]"}


def processes(word):
    """A command that prints files of the processes that have this word, a pattern, for an argument; it fails when there is none."""
    return f"grep -slxz '{word}' /proc/[0-9]*/cmdline"


def timed_migration(dom0):
    """Seconds of dom0's that one takes."""
    return float(dom0.ok(f"read a b < /proc/uptime; {MIGRATE} > /tmp/migrate.log 2>&1 || cat /tmp/migrate.log; "
                         "read c d < /proc/uptime; echo $a $c | awk '{ print $2 - $1 }'", 400).split()[-1])


def killed_migration(dom0, end, delay):
    """What the sender has said. All append to its file: who is left may write later than "ended"."""
    return dom0.ok(f": > /tmp/migrate.log; ({MIGRATE} >> /tmp/migrate.log 2>&1; echo ended >> /tmp/migrate.log) & "
                   f"sleep {delay:.2f}; kill -KILL $({processes(ENDS[end])} | cut -d / -f 3); "
                   f"until grep -q ended /tmp/migrate.log && ! {processes(ENDS['receiver'])} && ! pidof libxl-save-helper; "
                   "do sleep 1; done; "
                   "cat /tmp/migrate.log; xl destroy domu--incoming 2>&1 || true", 400)


@pytest.mark.parametrize("end", ["receiver", "sender"])
def test_an_end_that_is_killed(dom0, domu, end):
    """The domain goes on where it was. The ends are killed while memory is copied and the domain runs: a sender that is killed while
    the domain is suspended leaves it to whoever resumes it."""
    guest = domu(vcpus=2).create()
    for load in (CLOCK, SPIN):
        guest.ok(load)
    guest.ok("while ! [ -s /tmp/did.clock ]; do sleep 1; done", 60)
    seconds = timed_migration(dom0)
    domid, in_time = guest.domid(), 0
    for seed in SEEDS:
        delay = seconds * random.Random(seed).uniform(0.02, 0.5)
        log = killed_migration(dom0, end, delay)
        print(f"seed {seed}: killed after {delay:.2f} of {seconds:.2f} s: {log}")
        assert dom0.ok("xl list | awk '{ print $1 }'").split().count("domu") == 1, log
        in_time += guest.domid() == domid
        domid = guest.domid()
        goes_on(guest)
    assert in_time >= len(SEEDS) / 2
    # And nothing of it is left that is in the way of one that succeeds.
    migrate(dom0)
    goes_on(guest)
