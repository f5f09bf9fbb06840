"""Test kernels of each page-table format do block and network I/O through dom0's backends: tests/guests/domu/io.c, a standing
domU for each format, which does what it is asked for through the store. Sums are always made on both sides."""
import itertools
import re

import pytest

import rig

FORMATS = ["pt64", "pt32p", "pt32"]
DIRECTORY = "/tmp/io"
DOM0 = "10.0.2.15"
SUM_PORT = 9                # where a guest sums up what it is sent
SECTORS = 8192              # of a disk that dom0 filled; the guest's own tests use what comes behind
SPARE = 91                  # behind those
MIB = 4
MEMORY = 64

numbers = itertools.count(1)


class Guest:
    """A standing domU of one format. words: more for its command line."""

    def __init__(self, dom0, standing, form, words=""):
        self.dom0, self.form = dom0, form
        self.address = f"10.0.2.{31 + FORMATS.index(form)}"
        self.disk = f"{DIRECTORY}/disk-{form}"
        self.domain = standing(f"io-{form}", **rig.kernel_settings(f"{DIRECTORY}/io-{form}", form), memory=MEMORY,
                               extra=f"ip={self.address} peer={DOM0} {words}",
                               disk=[f"{self.disk},raw,xvda,rw"], vif=["bridge=xenbr0"])
        self.data = f"/local/domain/{self.domain.domid()}/data"

    def tell(self, command):
        self.number = next(numbers)
        self.dom0.ok(f"xenstore-write {self.data}/command '{self.number} {command}'")

    def answer(self, timeout=60):
        tries = int(timeout * rig.TIMEOUT_SCALE * 5)
        return self.dom0.ok(f"for i in $(seq {tries}); do a=$(xenstore-read {self.data}/answer 2>/dev/null); "
                            f"[ \"${{a%% *}}\" = {self.number} ] && break; sleep 0.2; done; "
                            f"[ \"${{a%% *}}\" = {self.number} ] && echo \"${{a#* }}\"", timeout * 2 + 30)

    def ask(self, command, timeout=60):
        self.tell(command)
        return self.answer(timeout)

    def disk_sum(self, sector, count):
        """As dom0 sees it."""
        return self.dom0.ok(f"dd if={self.disk} bs=512 skip={sector} count={count} 2>/dev/null | crc32")


@pytest.fixture
def guest(dom0, standing):
    """guest(format): that format's domU, running. Its disk begins with random data. With words, a new one in its place."""
    def get(form, words=""):
        if dom0.run(f"test -e {DIRECTORY}/{rig.LOADER.name}").status:
            rig.make("-C", "tests/guests", "S=io")
            rig.make("loader")
            dom0.ok(f"mkdir -p {DIRECTORY}; dd if=/dev/urandom of={DIRECTORY}/data bs=1M count={MIB} 2>/dev/null")
            for path in [*(rig.TOP / f"build/guests/io-{each}" for each in FORMATS), rig.LOADER]:
                rig.put(dom0, path, f"{DIRECTORY}/{path.name}")
        if f"io-{form}" not in dom0.standing:
            disk = f"{DIRECTORY}/disk-{form}"
            dom0.ok(f"dd if=/dev/urandom of={disk} bs=512 count={SECTORS} 2>/dev/null; "
                    f"truncate -s {(SECTORS + SPARE) * 512} {disk}")
        if words:
            dom0.standing.pop(f"io-{form}", rig.Domain(dom0, f"io-{form}")).destroy()
        return Guest(dom0, standing, form, words)
    return get


def background(dom0, command):
    dom0.ok(f"( {{ {command}; }} > /dev/null 2>&1 & )")


def listen(dom0, port, then="cat > /dev/null"):
    """Take a connection to a TCP port of dom0, and give what comes to a command."""
    background(dom0, f"nc -l -p {port} < /dev/null | {then}")
    dom0.wait_until(f"netstat -ltn | grep -q :{port}")


def free_memory(dom0):
    return int(dom0.ok("xl info free_memory"))


pvisor_only = pytest.mark.pvisor_only
every_format = pytest.mark.parametrize("form", ["pt64", *(pytest.param(form, marks=pvisor_only) for form in FORMATS[1:])])


@every_format
def test_guest_reads_what_dom0_wrote(guest, form):
    g = guest(form)
    for sector, count in [(0, SECTORS), (1, 4097), (777, 1)]:
        assert g.ask(f"read {sector} {count}") == f"{g.disk_sum(sector, count)} 0"


@every_format
def test_dom0_reads_what_the_guest_wrote(guest, form):
    g = guest(form)
    around = g.disk_sum(0, 1001), g.disk_sum(1001 + 3001, 500)
    before = g.disk_sum(1001, 3001)
    written = g.ask("write 1001 3001 4711").split()
    assert written == [g.disk_sum(1001, 3001), "0"] and written[0] != before
    assert around == (g.disk_sum(0, 1001), g.disk_sum(1001 + 3001, 500))


@every_format
def test_pings_both_ways(dom0, guest, form):
    g = guest(form)
    assert g.ask(f"ping {DOM0} 10") == "10"
    assert " 0% packet loss" in dom0.ok(f"ping -c 5 -i 0.2 {g.address}")
    assert " 0% packet loss" in dom0.ok(f"ping -c 5 -i 0.2 -s 1400 {g.address}")


@every_format
def test_bulk_from_dom0(dom0, guest, form):
    g = guest(form)
    expected = f"{dom0.ok(f'crc32 < {DIRECTORY}/data')} {MIB << 20}"
    assert dom0.ok(f"nc {g.address} {SUM_PORT} < {DIRECTORY}/data", 120) == expected


@every_format
def test_bulk_to_dom0(dom0, guest, form):
    g = guest(form)
    listen(dom0, 5001, f"crc32 > {DIRECTORY}/new; mv {DIRECTORY}/new {DIRECTORY}/sum")
    sent = g.ask(f"send {DOM0} 5001 {MIB << 20} 1", 120).split()
    dom0.wait_until(f"test -e {DIRECTORY}/sum")
    assert sent == [dom0.ok(f"cat {DIRECTORY}/sum; rm {DIRECTORY}/sum"), str(MIB << 20)]


@pvisor_only
@pytest.mark.parametrize("sender, receiver", itertools.permutations(FORMATS, 2))
def test_bulk_between_formats(guest, sender, receiver):
    to, bytes_ = guest(receiver), 1 << 20
    own, other = guest(sender).ask(f"send {to.address} {SUM_PORT} {bytes_} 2", 120).split(", ")
    assert own == other and own.split()[1] == str(bytes_)


@pvisor_only
def test_all_formats_at_once(dom0, guest):
    """Each reads its disk, sends to the next format and takes what comes from the one before, and from dom0 too."""
    guests = [guest(form) for form in FORMATS]
    disks = [g.disk_sum(0, SECTORS) for g in guests]
    expected = dom0.ok(f"crc32 < {DIRECTORY}/data")
    for number, g in enumerate(guests):
        to = guests[(number + 1) % len(guests)].address
        background(dom0, f"nc {g.address} {SUM_PORT} < {DIRECTORY}/data > {DIRECTORY}/told-{g.form}")
        g.tell(f"both {to} {SUM_PORT} {MIB << 20} {number} 0 {SECTORS}")
    for g, disk in zip(guests, disks):
        read, own, other = g.answer(240).split(", ")
        assert read == f"{disk} 0"
        assert own == other and own.split()[1] == str(MIB << 20)
    for g in guests:
        dom0.wait_until(f"test -s {DIRECTORY}/told-{g.form}")
        assert dom0.ok(f"cat {DIRECTORY}/told-{g.form}") == f"{expected} {MIB << 20}"


@every_format
def test_guest_is_content(dom0, guest, form):
    """Its own tests passed: bad requests, requests past the end, a flush; and no page stayed mapped, no sum was wrong."""
    g = guest(form)
    errors, _ = g.ask("errors").split(", ")
    assert errors == "0 0 0"
    log = dom0.ok(f"cat {g.domain.console_log}")
    assert not re.search("^(FAIL|skip)", log, re.M)
    assert len(re.findall("^ok", log, re.M)) == 8


@pvisor_only
def test_save_of_a_non_pae_guest_is_refused(dom0, guest):
    """
    xl says that it failed, and the guest goes on. This one has no p2m list for the tools either, at which they stop before they
    ask what its frames are; what the hypervisor answers to that is in tests/guests/refusals.c.
    """
    g = guest("pt32")
    result = dom0.run("xl save io-pt32 /tmp/saved", 180)
    assert result.status != 0 and "fail" in result.lower(), result
    dom0.ok("rm -f /tmp/saved")
    assert g.ask("read 0 100") == f"{g.disk_sum(0, 100)} 0"


@pvisor_only
def test_destroyed_in_the_middle(dom0, guest):
    """Nothing of guests stays that go while backends have their pages mapped, and a new one works."""
    guests = [guest(form) for form in FORMATS]
    free = free_memory(dom0)
    for g in guests:
        listen(dom0, 5002)
        g.tell(f"churn {DOM0} 5002 {SECTORS}")
        number = g.domain.domid()
        g.domain.destroy()
        dom0.run("killall nc")
        dom0.wait_until(f"! xl list | awk '{{ print $2 }}' | grep -qx {number}")
    dom0.wait_until(f"[ $(xl info free_memory) -ge {free + MEMORY * len(guests)} ]")
    new = guest("pt32")
    assert new.ask(f"ping {DOM0} 1") == "1"
    assert new.ask("quit") == "bye"
    dom0.wait_until(f"grep -aq 'PVTEST 9 passed, 0 failed' {new.domain.console_log}")


@every_format
def test_grants_of_version_2(dom0, guest, form):
    """The same with a grant table of version 2, which dom0, with one of version 1, maps and copies from."""
    g = guest(form, "grants=2")
    dom0.ok("xl dmesg -c > /dev/null; xl debug-keys g")
    dom0.ok(f"xl dmesg | grep -q 'd{g.domain.domid()}: grant table, version 2'")
    assert g.ask("read 1 4097") == f"{g.disk_sum(1, 4097)} 0"
    assert g.ask("write 1001 3001 4712").split() == [g.disk_sum(1001, 3001), "0"]
    expected = f"{dom0.ok(f'crc32 < {DIRECTORY}/data')} {MIB << 20}"
    assert dom0.ok(f"nc {g.address} {SUM_PORT} < {DIRECTORY}/data", 120) == expected
    assert g.ask(f"ping {DOM0} 10") == "10"
    dom0.standing.pop(f"io-{form}").destroy()
