"""xl migrate from one machine to another: two QEMUs whose cards hang on one wire, with a disk that both have.

The first machine's bridge also has QEMU's user network on it, so the other one and all guests reach the host outside through it, wherever
they are. xl's connection is made by bash and busybox' nc, in the place of ssh.
"""
import contextlib
import time

import pytest

import rig
from test_migrate_long import NIC, goes_on, send_lines, stream
from test_suspend import expect_lives

pytestmark = pytest.mark.long

PORT = 4444
# (CPU, hypervisor) of the two. A guest that has begun on the older CPU can be on both.
PAIRS = {"equal": [(rig.INTEL, None), (rig.INTEL, None)], "unequal": [(rig.INTEL, None), ("Nehalem", None)],
         "xen": [("Nehalem", None), ("Nehalem", "debian")]}
# The receiver is started with the connection as its standard input and output. The sender's bytes go by dd: nc's portions are of 1 KiB, and
# cat uses sendfile, in which Linux waits for the socket with the pipe locked that xl is to read from.
SET_UP = f"""cat > /tmp/receive <<'END'
#!/bin/sh
exec xl migrate-receive 2>> /tmp/receive.log
END
cat > /tmp/dial <<'END'
#!/bin/bash
exec 3<> /dev/tcp/$1/{PORT} 4<&0
dd bs=64k <&4 >&3 2> /dev/null &
exec dd bs=64k <&3 2> /dev/null
END
chmod +x /tmp/receive /tmp/dial; : > /tmp/receive.log; nc -ll -p {PORT} -e /tmp/receive > /dev/null 2>&1 &
xl sched-credit2 -d 0 -w 4096"""
# Loads that rest now and then, and a dom0 that comes first: it shares an emulated CPU with the guest.
WRITE = ("(i=0; while :; do i=$((i + 1)); b=$((i % 64)); head -c 8192 /dev/urandom > /tmp/b; "
         "dd if=/tmp/b of=/dev/xvda bs=8k seek=$b conv=fsync; dd if=/dev/xvda of=/tmp/r bs=8k skip=$b count=1 iflag=direct; "
         "cmp /tmp/b /tmp/r || echo block $i >> /tmp/wrong; echo $i > /tmp/did.blocks; sleep 0.1; done) > /dev/null 2>&1 &")
CLOCK = ("(last=0; while read now rest < /proc/uptime; do now=${now%.*}${now#*.}; "
         "[ $now -ge $last ] || echo clock $last $now >> /tmp/wrong; last=$now; echo $now > /tmp/did.clock; "
         "sleep 0.02; done) > /dev/null 2>&1 &")
BREAK = "kill -KILL $(pidof dd)"


def wire(path, server, mac):
    return ["-netdev", f"stream,id=wire,server={server},addr.type=unix,addr.path={path}",
            "-device", f"virtio-net-pci,netdev=wire,mac={mac}"]


# The first machine's bridge joins both cards. QEMU's user network answers whatever frame it hears of, so none may be flooded there.
BRIDGE = """for card in /sys/class/net/eth*; do
ip link set ${card##*/} master xenbr0 up; grep -q '00:00:00:01$' $card/address || echo 0 > $card/brport/unicast_flood; done"""


def disk(directory, name, mib):
    path = directory / name
    with open(path, "wb") as image:
        image.truncate(mib << 20)
    return rig.Disk(path, shared=True)


def pair(directory, kind):
    """Two machines that share disks, /dev/vda for a guest and /dev/vdb to save it on, and a wire."""
    disks = [disk(directory, "vda", 8), disk(directory, "vdb", 256)]
    ends = [("first", "e1000e", wire(directory / "wire", "on", "52:54:00:00:00:01")),
            ("second", None, wire(directory / "wire", "off", "52:54:00:00:00:02"))]
    for (cpu, hypervisor), (name, nic, extra) in zip(PAIRS[kind], ends, strict=True):
        yield rig.Machine(name=f"migrate-{kind}-{name}", cpu=cpu, hypervisor=hypervisor, nic=nic, disks=disks, code=128, extra=extra)


@contextlib.contextmanager
def running(first, second, path):
    """The second can be started once the first listens at its end of the wire."""
    with first:
        for _ in range(600):
            if path.is_socket():
                break
            time.sleep(0.1)
        with second:
            yield


@pytest.fixture(scope="module")
def machines(request, tmp_path_factory):
    """Both, at dom0's shells; the second has the address .16."""
    directory = tmp_path_factory.mktemp("pair")
    first, second = pair(directory, request.param)
    first.address, second.address = "10.0.2.15", "10.0.2.16"
    with running(first, second, directory / "wire"):
        for vm in (first, second):
            vm.wait_for_dom0(400)
        first.ok(BRIDGE)
        second.ok(f"ip address del {first.address}/24 dev xenbr0; ip address add {second.address}/24 dev xenbr0; "
                  "ip route replace default via 10.0.2.2")
        for vm in (first, second):
            vm.ok(SET_UP)
        second.wait_until(f"ping -c 1 -W 1 {first.address} > /dev/null", 30)
        yield first, second


@pytest.fixture(autouse=True)
def nothing_left(machines):
    yield
    for vm in machines:
        if vm.running():
            vm.run("xl destroy domu 2> /dev/null")


def migration(source, target, name="domu"):
    return source.run(f"xl migrate -s /tmp/dial {name} {target.address} 2>&1", 500)


def migrate(source, target):
    """The guest, where it is then."""
    begin = time.monotonic()
    result = migration(source, target)
    print(f"{source.name} to {target.name}: {time.monotonic() - begin:.0f} s")
    if result.status:
        raise target.failure(f"{source.name}: {result}\n{target.name}: {target.ok('cat /tmp/receive.log')}")
    return rig.Domain(target)


def free_of_guests(vm):
    """The hypervisor's free pages, once nothing is left of a guest."""
    vm.wait_until("[ $(xl list | wc -l) = 2 ]", 60)
    vm.wait_until("! ls /sys/class/net | grep -q vif", 60)
    vm.wait_until("! xenstore-ls /local/domain/0/backend 2> /dev/null | grep -q domain", 60)
    return vm.settled_free_pages()


def loaded_guest(vm, outside):
    """It writes blocks of the shared disk and reads them back, looks at its clock, and has a stream of lines from outside."""
    guest = rig.Domain(vm, disk=["/dev/vda,raw,xvda,rw"], vcpus=2, **NIC).create()
    port, _ = outside.listen(send_lines)
    stream(guest, port)
    for load in (WRITE, CLOCK):
        guest.ok(load)
    guest.ok("while ! [ -s /tmp/did.blocks -a -s /tmp/did.clock -a -s /tmp/did.stream ]; do sleep 1; done", 90)
    return guest


def there_and_back(source, target):
    """(free pages here while it is there, free pages there when it is back)."""
    guest = migrate(source, target)
    goes_on(guest)
    guest.ok(f"ping -c 2 {source.address} && ping -c 2 {target.address}")
    free_here = free_of_guests(source)
    goes_on(migrate(target, source))
    return free_here, free_of_guests(target)


def run_test_kernel(vm, form):
    """The one that looks at its memory, tables, descriptor tables and registers after each life."""
    rig.make("-C", "tests/guests", "S=suspend")
    kernel = rig.TOP / f"build/guests/suspend-{form}"
    vm.ok(f"rm -f /tmp/{kernel.name}")
    rig.put(vm, kernel, f"/tmp/{kernel.name}")
    rig.Domain(vm, **rig.kernel_settings(f"/tmp/{kernel.name}", form), memory=32).create()
    expect_lives(vm, "0 0 0")


@pytest.mark.parametrize("machines", ["equal"], indirect=True)
@pytest.mark.parametrize("form", ["pt64", "pt32p"])
def test_test_kernels(machines, form):
    run_test_kernel(machines[0], form)
    migrate(*machines)
    expect_lives(machines[1], "1 0 0")
    migrate(*reversed(machines))
    expect_lives(machines[0], "2 0 0")


@pytest.mark.parametrize("machines", ["equal"], indirect=True)
def test_under_load_there_and_back(machines):
    """Nothing is lost, and no page of the guest stays where it left. What a first life takes for good is taken: test kernels were here."""
    before = tuple(free_of_guests(vm) for vm in machines)
    with rig.Outside() as outside:
        loaded_guest(machines[0], outside)
        assert there_and_back(*machines) == before


@pytest.mark.parametrize("machines", ["equal"], indirect=True)
def test_a_connection_that_breaks(machines):
    """The guest goes on where it was, nothing is left where it should have come to, and it can go there later."""
    source, target = machines
    with rig.Outside() as outside:
        guest = loaded_guest(source, outside)
        domid = guest.domid()
        source.ok(f"(xl migrate -s /tmp/dial domu {target.address}; echo ended with $?) > /tmp/migrate.log 2>&1 &")
        target.wait_until("xl domid domu--incoming > /dev/null 2>&1", 60)
        source.ok(BREAK)
        source.wait_until("grep -q ended /tmp/migrate.log", 120)
        assert "ended with 0" not in source.ok("cat /tmp/migrate.log")
        assert guest.domid() == domid
        goes_on(guest)
        free_of_guests(target)
        goes_on(migrate(source, target))


@pytest.mark.parametrize("machines", ["unequal"], indirect=True)
def test_a_guest_of_the_older_cpu_can_be_on_both(machines):
    with rig.Outside() as outside:
        loaded_guest(machines[1], outside)
        there_and_back(machines[1], machines[0])


@pytest.mark.parametrize("machines", ["unequal"], indirect=True)
@pytest.mark.parametrize("form", ["pt64", "pt32p"])
def test_a_test_kernel_of_the_older_cpu_can_be_on_both(machines, form):
    newer, older = machines
    run_test_kernel(older, form)
    migrate(older, newer)
    expect_lives(newer, "1 0 0")
    migrate(newer, older)
    expect_lives(older, "2 0 0")


@pytest.mark.parametrize("machines", ["unequal"], indirect=True)
@pytest.mark.parametrize("form", ["pt64", "pt32p"])
def test_a_guest_of_the_newer_cpu_is_refused(machines, form):
    """The log of the older machine says which features are missing; the guest goes on where it was."""
    newer, older = machines
    older.ok("xl dmesg -c > /dev/null; : > /tmp/receive.log")
    before = free_of_guests(older)
    run_test_kernel(newer, form)
    domid = rig.Domain(newer).domid()
    refused = migration(newer, older)
    assert refused.status and "resuming at sender" in refused, refused
    (line,) = [line for line in older.hypervisor_log().splitlines() if "features of the domain's" in line]
    assert {"AVX", "AVX2", "XSAVE"} <= set(line.split()), line
    assert "CPUID policy" in older.ok("cat /tmp/receive.log")
    assert free_of_guests(older) == before
    assert rig.Domain(newer).domid() == domid
    # It was asked for nothing yet, and lives on when it is.
    expect_lives(newer, "0 0 0")
    newer.ok("xl save -c domu /tmp/saved; rm /tmp/saved", 120)
    expect_lives(newer, "0 1 0")


def carry(source, target):
    """The guest, saved on the one and restored on the other: by the disk that both have."""
    source.ok("xl save domu /dev/vdb && sync", 300)
    target.ok("blockdev --flushbufs /dev/vdb; xl restore /dev/vdb", 300)
    return rig.Domain(target)


@pytest.mark.parametrize("machines", ["xen"], indirect=True)
@pytest.mark.parametrize("begins_on", ["pvisor", "xen"])
def test_to_debians_xen_and_back(machines, begins_on):
    """To Xen while the guest runs; from there, where no PV guest can be migrated, saved and restored."""
    ours, xen = machines
    with rig.Outside() as outside:
        loaded_guest(ours if begins_on == "pvisor" else xen, outside)
        if begins_on == "xen":
            goes_on(carry(xen, ours))
        goes_on(migrate(ours, xen))
        goes_on(carry(xen, ours))
        goes_on(carry(ours, xen))
