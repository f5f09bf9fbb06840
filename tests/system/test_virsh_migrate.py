"""virsh migrate from one whole installation of Debian to another of the same release: two QEMUs with a wire and a disk that both have, as
in test_migrate_machines.py, and libvirtd's TCP socket in the place of ssh. By name only: make test T=virsh_migrate.
"""
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import rig
from installed import FIRST_BOOT, RELEASES, put_guest_run, reach_shell, state, virsh, virsh_line, whole, write
from test_migrate_long import goes_on, send_lines, stream
from test_migrate_machines import BRIDGE, CLOCK, WRITE, disk, running, wire

pytestmark = pytest.mark.long

SHARED = "/dev/vdd"
ADDRESSES = {"first": "10.0.2.15", "second": "10.0.2.16"}
XML = f"""<domain type="xen">
  <name>virt</name><uuid>%s</uuid><memory unit="MiB">96</memory><vcpu>2</vcpu>
  <os><type arch="x86_64" machine="xenpv">linux</type>
    <kernel>/root/vmlinux.gz</kernel><initrd>/root/domu.cpio</initrd><cmdline>quiet rig.name=virt rig.ip=10.0.2.21</cmdline></os>
  <devices>
    <disk type="block" device="disk"><driver name="phy"/><source dev="{SHARED}"/><target dev="xvda" bus="xen"/></disk>
    <interface type="bridge"><mac address="00:16:3e:00:00:21"/><source bridge="xenbr0"/></interface>
    <console type="pty"><target type="xen"/></console>
  </devices>
</domain>"""
UUID, ANOTHER = "6f0d2a52-30d6-4b4c-9d0c-7a6a54a1d001", "6f0d2a52-30d6-4b4c-9d0c-7a6a54a1d002"
# Debian's libvirtd listens where systemd has it listen; the socket's unit has to be there before the service is.
LISTEN = """echo 'auth_tcp = "none"' >> /etc/libvirt/libvirtd.conf; systemctl stop libvirtd.service
systemctl start libvirtd.socket libvirtd-tcp.socket libvirtd.service"""
# Where libvirt takes the ports for the memory's stream from.
BLOCK = "iptables -%s INPUT -p tcp --dport 49152:49215 -j REJECT --reject-with tcp-reset"


def pair(directory, suite):
    """Two machines that share a disk and have a wire, not started."""
    shared = disk(directory, "shared", 8)
    ends = [("first", {}, "on", "52:54:00:00:00:01"), ("second", {"nic": None}, "off", "52:54:00:00:00:02")]
    for name, settings, server, mac in ends:
        yield whole(suite, f"virsh-{name}", 1, wire(directory / "wire", server, mac), [shared], **settings)


def set_up_network(vm, name):
    """The second gets an address of its own while nobody hears it yet."""
    vm.address = ADDRESSES[name]
    vm.ok(f"ip address flush dev xenbr0; ip address add {vm.address}/24 dev xenbr0; ip route replace default via 10.0.2.2; "
          f"hostname {name}; echo {name} > /etc/hostname")
    vm.ok("".join(f"echo {each} {other} >> /etc/hosts; " for other, each in ADDRESSES.items()))


def set_up(vm):
    put_guest_run(vm)
    rig.put(vm, vm.release.kernels / "vmlinux.gz", "/root/vmlinux.gz")
    rig.put(vm, vm.release.domu, "/root/domu.cpio")
    vm.ok(LISTEN, 300)
    vm.ok("xl sched-credit2 -d 0 -w 4096")          # dom0 comes first: it shares an emulated CPU with the guest


@pytest.fixture(scope="module", params=list(RELEASES))
def machines(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("pair")
    first, second = pair(directory, request.param)
    with running(first, second, directory / "wire"):
        # At once: what one writes while nobody reads it stops it.
        with ThreadPoolExecutor() as threads:
            list(threads.map(reach_shell, (first, second)))
        for vm, name in ((second, "second"), (first, "first")):
            set_up_network(vm, name)
        first.ok(BRIDGE)
        second.wait_until(f"ping -c 1 -W 1 {first.address} > /dev/null", 60)
        for vm in (first, second):
            set_up(vm)
        yield first, second


@pytest.fixture(scope="module")
def outside():
    with rig.Outside() as outside:
        yield outside


def clear(vm):
    for command in ("virsh -q -c xen:///system destroy virt", "virsh -q -c xen:///system undefine virt", "xl destroy virt"):
        vm.run(f"{command} 2> /dev/null", 120)


@pytest.fixture
def guest(machines, outside):
    """virt, defined and running on the first with loads: it writes blocks of the shared disk and reads them back, looks at its clock, and
    has a stream of lines from outside. The one that is there, if the last test has left it so."""
    first, second = machines
    if first.run(f"{virsh_line('domstate virt')} | grep running").status or "virt" in virsh(second, "list --all --name").split():
        for vm in machines:
            clear(vm)
        start(first, outside)
    return rig.Domain(first, "virt")


def start(vm, outside):
    write(vm, "/root/virt.xml", XML % UUID)
    virsh(vm, "define /root/virt.xml")
    guest = rig.Domain(vm, "virt")
    vm.ok(f"rm -f {guest.console_log}")
    virsh(vm, "start virt", 300)
    guest.wait_ready(timeout=FIRST_BOOT)
    port, _ = outside.listen(send_lines)
    stream(guest, port)
    for load in (WRITE, CLOCK):
        guest.ok(load)
    guest.ok("while ! [ -s /tmp/did.blocks -a -s /tmp/did.clock -a -s /tmp/did.stream ]; do sleep 1; done", 200)


def migration(source, name, words="--live"):
    """What virsh says; name: of the machine where it goes."""
    begin = time.monotonic()
    result = source.run(virsh_line(f"migrate {words} virt xen+tcp://{name}/system"), 600)
    print(f"{source.name} to {name}, {words}: {time.monotonic() - begin:.0f} s, {result.status} {result}")
    return result


def is_at(source, target):
    """xl and virsh agree that it runs at the target alone."""
    assert state(target) == "running"
    assert target.ok("xl list").count("virt ") == 1
    source.wait_until("! xl domid virt 2> /dev/null", 60)
    assert "virt" not in virsh(source, "list --name").split()


def migrate(source, target, words="--live"):
    """The guest, where it is then, and that it does there what it did here."""
    result = migration(source, "first" if target.address == ADDRESSES["first"] else "second", words)
    if result.status:
        raise target.failure(f"{source.name}: {result}\n" + target.ok("tail -n 30 /var/log/libvirt/libxl/libxl-driver.log"))
    is_at(source, target)
    goes_on(rig.Domain(target, "virt"))


def defined(vm):
    return "virt" in virsh(vm, "list --all --name").split()


def has_definition(vm):
    return "yes" in vm.ok(f"{virsh_line('dominfo virt')} | grep Persistent")


def test_live_there_and_back(machines, guest):
    """The definition stays where it was, and what runs at the other is gone there when it leaves."""
    first, second = machines
    migrate(first, second)
    assert state(first) == "shut off" and not has_definition(second)
    migrate(second, first)
    assert not defined(second)


def stays(source, target, words):
    """What virsh says of the migration that fails; the guest goes on where it was, and libvirt can go on with it."""
    guest = rig.Domain(source, "virt")
    domid = guest.domid()
    refused = migration(source, "second", words)
    assert refused.status, refused
    assert guest.domid() == domid and "p" not in guest.state()
    goes_on(guest)
    put_right(source)
    is_at(target, source)
    return refused


def put_right(vm):
    """What libvirt's driver for Xen leaves behind, on any hypervisor, when a migration fails before memory is sent. Without --p2p it does
    not end the domain's job, which ends with libvirtd. With it, it has the tools resume a domain that is not suspended, which they refuse,
    and takes the domain for paused."""
    vm.ok("systemctl restart libvirtd", 120)
    if state(vm) == "paused":
        virsh(vm, "resume virt")


@pytest.mark.parametrize("words", ["--live", "--live --p2p"])
def test_stays_where_the_name_is_taken(machines, guest, words):
    first, second = machines
    write(second, "/root/other.xml", XML % ANOTHER)
    virsh(second, "define /root/other.xml")
    try:
        assert "already exists" in stays(first, second, words)
    finally:
        virsh(second, "undefine virt")


@pytest.mark.parametrize("words", ["--live", "--live --p2p"])
def test_stays_where_no_connection_is_had(machines, guest, words):
    first, second = machines
    second.ok(BLOCK % "I", 120)
    try:
        assert "unable to connect" in stays(first, second, words)
    finally:
        second.ok(BLOCK % "D")


def test_stays_when_the_receiver_is_killed(machines, guest):
    """While memory comes. The tests behind this one show that it can go there later."""
    first, second = machines
    domid = guest.domid()
    # virsh sets the terminal, if it has one, and is stopped for that in the background.
    first.ok(f"({virsh_line('migrate --live virt xen+tcp://second/system')}; echo ended with $?) < /dev/null > /root/migrate.log 2>&1 &")
    second.wait_until("pidof libxl-save-helper > /dev/null", 120)
    second.ok("kill -KILL $(pidof libxl-save-helper)")
    first.wait_until("grep -q ended /root/migrate.log", 300)
    assert "ended with 0" not in first.ok("cat /root/migrate.log")
    assert guest.domid() == domid and not defined(second)
    goes_on(guest)
    is_at(second, first)


def test_with_its_definition_between_the_daemons(machines, guest):
    """There while it runs, through their connection; back while it stands still."""
    first, second = machines
    migrate(first, second, "--live --p2p --tunnelled --persistent --undefinesource")
    assert not defined(first) and has_definition(second)
    migrate(second, first, "--p2p --persistent --undefinesource")
    assert not defined(second) and has_definition(first)
