"""tools/template: a saved domain is the beginning of many, which go on from there, each with a name, a disk and a card of its own."""
import re
import struct
import subprocess

import pytest

import rig
import test_suspend
from test_suspend import guest          # a fixture

pytestmark = [pytest.mark.pvisor_only, pytest.mark.long]
TEMPLATE = "/run/guest.template"
TOOL = f"/run/{rig.TEMPLATE.name}"
DISK_BYTES = 1 << 20
NAMES = ("one", "two")


@pytest.fixture
def tool(dom0):
    if dom0.run(f"test -e {TOOL}").status:
        rig.make("template")
        rig.put(dom0, rig.TEMPLATE, TOOL)
        dom0.ok(f"chmod +x {TOOL}")
    return TOOL


def loop_device(dom0, name):
    dom0.ok(f"mkdir -p /run/disks; truncate -s {DISK_BYTES} /run/disks/{name}")
    return dom0.ok(f"losetup -n -O NAME -j /run/disks/{name} | grep . || losetup -f --show /run/disks/{name}").split()[-1]


@pytest.fixture
def template(dom0, domu, tool):
    """Of a domain with a disk and a card, in which somebody counts, and who has a file whose sum is known."""
    if dom0.run(f"test -e {TEMPLATE}").status:
        disk = loop_device(dom0, "saved")
        domain = domu("saved", memory=128, disk=[f"phy:{disk},xvda,w"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()
        domain.ok("head -c 3000000 /dev/urandom > /tmp/data; sha256sum /tmp/data > /tmp/sum")
        domain.ok("(i=0; while :; do i=$((i + 1)); echo $i > /tmp/count; sleep 0.1; done) > /dev/null 2>&1 &")
        domain.ok("sleep 2; cat /tmp/count")
        dom0.ok("xl save saved /tmp/saved", 120)
        print(dom0.ok(f"{tool} make /tmp/saved {TEMPLATE}; ls -l /tmp/saved {TEMPLATE}; rm /tmp/saved", 120))
        dom0.wait_until("! xl domid saved 2>/dev/null", 60)
    return TEMPLATE


def destroy(dom0, name):
    """Without a word of anything that is missing."""
    said = dom0.ok(f"xl destroy {name} 2>&1", 60)
    assert "error" not in said, said
    assert dom0.run(f"xl domid {name}").status


@pytest.fixture
def copies(dom0, template, tool):
    """copies(name, ...): domains of the template, each with its own disk and address."""
    made = []

    def start(*names):
        for number, name in enumerate(names):
            disk = loop_device(dom0, name)
            dom0.ok(f"{tool} start {template} --name {name} --disk phy:{disk},xvda,w --bridge xenbr0 --mac 00:16:3e:00:01:0{number}", 120)
            made.append(rig.Domain(dom0, name))
        return made[-len(names):]
    yield start
    for domain in made:
        domain.destroy()


def goes_on(domain, number):
    """From where it was: its files, whoever counts, its disk and its card, which is told a new address."""
    assert "OK" in domain.ok("sha256sum -c /tmp/sum")
    before = int(domain.ok("cat /tmp/count").split()[-1])
    assert before >= 10
    domain.dom0.wait_until(f"[ $(guest-run {domain.name} 60 'cat /tmp/count') -gt {before} ]")
    assert f"00:16:3e:00:01:0{number}" in domain.ok("cat /sys/class/net/eth0/address")
    domain.ok(f"ip address flush dev eth0; ip address add 10.0.2.3{number}/24 dev eth0; ping -c 2 10.0.2.15")
    domain.ok(f"echo this is {domain.name} | dd of=/dev/xvda conv=notrunc; sync")


def test_two_of_one_run_at_once(dom0, copies):
    one, two = copies(*NAMES)
    for number, domain in enumerate((one, two)):
        goes_on(domain, number)
    one.ok("ping -c 2 10.0.2.31")
    for name in NAMES:
        assert dom0.ok(f"head -c 40 /run/disks/{name}").startswith(f"this is {name}\n")
    listed = dom0.ok("xl list -v")
    uuids = {re.search(rf"^{name} .*?([0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})", listed, re.M)[1] for name in NAMES}
    assert len(uuids) == 2
    numbers = [domain.domid() for domain in (one, two)]
    nodes = "|".join(f"/(domain|libxl|vbd|vif|console)/{number}(/| )" for number in numbers)
    # Each ends for itself, and leaves nothing.
    dom0.ok("xl shutdown one")
    dom0.wait_until("! xl domid one 2>/dev/null", 60)
    assert "OK" in two.ok("sha256sum -c /tmp/sum")
    two.ok("dd if=/dev/xvda bs=512 count=1 | grep 'this is two'")
    destroy(dom0, "two")
    assert dom0.ok(f"xenstore-ls -f | grep -cE '{nodes}' || true") == "0"
    numbers = "|".join(str(number) for number in numbers)
    assert dom0.ok(f"ls /var/lib/xen | grep -E 'userdata-d.({numbers})[.]' || true") == ""
    dom0.wait_until("! pidof pvisor-template")


def test_is_a_domain_as_others(dom0, copies):
    """For xl pause, xl console, xl destroy, xl save and xl restore, which make it what any domain is."""
    one, = copies("one")
    dom0.ok("xl pause one")
    assert "p" in one.state()
    dom0.ok("xl unpause one")
    goes_on(one, 0)
    assert '"name": "one"' in dom0.ok("xl list -l one")
    assert dom0.ok("xl block-list one | tail -n 1").split()[0] == "51712"
    dom0.ok("xl save one /tmp/again", 120)
    dom0.wait_until("! xl domid one 2>/dev/null", 60)
    dom0.ok("xl restore /tmp/again; rm /tmp/again", 120)
    assert "OK" in one.ok("sha256sum -c /tmp/sum")
    one.ok("ping -c 2 10.0.2.15")
    destroy(dom0, "one")


def test_is_kept_in_memory(dom0, template, tool, copies):
    """By a domain that never runs; what starts then is what starts from the file, and so it is when nobody keeps it any more."""
    dom0.ok(f"{tool} keep {template} --name keeper", 120)
    one, = copies("one")
    goes_on(one, 0)
    destroy(dom0, "keeper")
    two, = copies("two")
    assert "OK" in two.ok("sha256sum -c /tmp/sum")
    assert "OK" in one.ok("sha256sum -c /tmp/sum")


def test_of_one_that_gave_memory_back_is_as_small_and_grows(dom0, tool, copies):
    one, = copies("one")
    dom0.ok("xl mem-set one 100")
    dom0.wait_until("[ $(xl list one | awk 'NR == 2 { print $3 }') -le 100 ]")
    dom0.ok(f"xl save one /tmp/small && {tool} make /tmp/small /run/small; rm /tmp/small", 120)
    dom0.wait_until("! xl domid one 2>/dev/null", 60)
    dom0.ok(f"{tool} start /run/small --name small --bridge xenbr0; rm /run/small", 120)
    small = rig.Domain(dom0, "small")
    try:
        assert "OK" in small.ok("sha256sum -c /tmp/sum")
        assert int(dom0.ok("xl list small | awk 'NR == 2 { print $3 }'")) <= 100
        dom0.ok("xl mem-set small 128")
        dom0.wait_until("[ $(xl list small | awk 'NR == 2 { print $3 }') -eq 128 ]")
    finally:
        small.destroy()


def test_has_all_its_vcpus(dom0, domu, tool):
    domain = domu("pair", vcpus=2).create()
    domain.ok("head -c 100000 /dev/urandom > /tmp/data; sha256sum /tmp/data > /tmp/sum")
    dom0.ok(f"xl save pair /tmp/saved && {tool} make /tmp/saved /run/pair; rm /tmp/saved", 120)
    dom0.wait_until("! xl domid pair 2>/dev/null", 60)
    dom0.ok(f"{tool} start /run/pair --name pair; rm /run/pair", 120)
    assert "OK" in domain.ok("sha256sum -c /tmp/sum")
    assert domain.ok("grep -c ^processor /proc/cpuinfo").split()[-1] == "2"
    domain.ok("taskset 2 sha256sum -c /tmp/sum && taskset 1 sha256sum -c /tmp/sum")


@pytest.mark.parametrize("form", ["pt64", "pt32p"])
def test_of_either_format(dom0, guest, tool, form):
    """The test kernel that looks at all of its memory after each life (tests/guests/domu/suspend.c)."""
    guest(form)
    test_suspend.save(dom0)
    dom0.ok(f"{tool} make /tmp/saved /run/{form} && {tool} start /run/{form} --name domu; rm /tmp/saved /run/{form}", 120)
    test_suspend.expect_lives(dom0, "1 0 0")
    dom0.ok("xl shutdown domu")
    dom0.wait_until("! xl domid domu 2>/dev/null", 60)


@pytest.fixture
def little(dom0, guest, tool):
    """A template of the test kernel's."""
    guest("pt64")
    test_suspend.save(dom0)
    dom0.ok(f"{tool} make /tmp/saved /run/little; rm /tmp/saved", 120)
    yield "/run/little"
    dom0.run("xl destroy domu; rm /run/little")


def test_of_those_that_begin_at_once_one_has_the_name(dom0, little, tool):
    said = dom0.ok(f"for i in 1 2 3 4; do {tool} start {little} --name domu > /tmp/said.$i 2>&1 & done; wait; cat /tmp/said.*; "
                   "rm /tmp/said.*", 240)
    assert said.count("domu is domain") == 1 and said.count("there is a domain domu") == 3, said
    assert said.count("pvisor-template: ") == 4, said
    assert dom0.ok("xl list | grep -c '^domu '") == "1"
    test_suspend.expect_lives(dom0, "1 0 0")


# Made part of the program: its second process cannot be begun, which waits for the domain's end.
NO_SECOND = """#include <errno.h>
#include <unistd.h>
#include <sys/syscall.h>
int fork(void)
{
    static int nr;

    if (!nr++)
        return (int)syscall(SYS_fork);
    errno = EAGAIN;
    return -1;
}
"""


def test_says_that_nobody_waits_for_its_end(dom0, little, tool, scratch):
    (scratch / "second.c").write_text(NO_SECOND)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", scratch / "second.so", scratch / "second.c"], check=True)
    rig.put(dom0, scratch / "second.so", "/tmp/second.so")
    said = dom0.ok(f"LD_PRELOAD=/tmp/second.so {tool} start {little} --name domu 2>&1; rm /tmp/second.so", 120)
    domid = dom0.ok("xl domid domu")
    assert "domu is domain" in said, said
    assert f"nobody waits for its end to clear up behind it: after it has ended, xl destroy {domid} does" in said, said
    test_suspend.expect_lives(dom0, "1 0 0")
    assert dom0.run(f"pidof {rig.TEMPLATE.name}").status


def test_console_is_the_domains(dom0, copies):
    copies("one")
    dom0.start_command("xl console one; echo console 'left'")
    dom0.send("\necho 'the cons''ole answers'\n")
    dom0.expect("the console answers.*# ")
    dom0.send("\x1d")
    dom0.expect("console left", 60)


def test_says_what_it_does_not_do(dom0, template, tool, copies):
    one, = copies("one")
    disk = loop_device(dom0, "one")
    uuid = dom0.ok(f"xenstore-read /local/domain/{one.domid()}/vm").split("/")[-1]
    for words, reason in [("--name one", "there is a domain one"), ("--name 12", "no name for a domain"),
                          (f"--name new --disk {disk},xvda,w", "is another domain's"), ("--name new --disk /tmp,xvda,w", "no block device"),
                          (f"--name new --disk {disk},sda,w", "a disk is called xvda"), ("--name new --bridge nowhere", "nowhere"),
                          ("--name new --mac 00:16:3e:00:00:00", "belongs to the --bridge"), ("--name new --uuid 12", "no UUID"),
                          (f"--name new --uuid {uuid}", "there is a domain with the UUID")]:
        refused = dom0.run(f"{tool} start {template} {words} 2>&1", 120)
        assert refused.status and reason in refused, refused
    for path in ("/dev/null", "/etc/passwd", tool):
        assert dom0.run(f"{tool} start {path} --name new 2>&1").status
        assert dom0.run(f"{tool} make {path} /run/made 2>&1").status
    assert dom0.run("ls /run/made*").status
    assert "OK" in one.ok("sha256sum -c /tmp/sum")
    assert dom0.run("xl domid new").status


def test_what_dom0_has_mounted_is_no_disk(dom0, template, tool):
    """Nor what it uses otherwise; but what nobody writes to may be read by all: then there is something else to say."""
    disk = loop_device(dom0, "mounted")
    dom0.ok(f"mke2fs -q {disk} && mkdir -p /run/mounted")
    in_use, other = "mounted or otherwise in use", "no name for a domain"

    def expect(mode, reason):
        refused = dom0.run(f"{tool} start {template} --name 12 --disk {disk},xvda,{mode} 2>&1", 120)
        assert refused.status and reason in refused, refused
    expect("w", other)
    try:
        dom0.ok(f"mount {disk} /run/mounted")
        expect("w", in_use)
        expect("r", "may write to it")
        dom0.ok("mount -o remount,ro /run/mounted")
        expect("w", in_use)
        expect("r", other)
    finally:
        dom0.run("umount /run/mounted")
    expect("w", other)


def left_over(dom0):
    """Domains, nodes, files of settings, cards and free memory. Empty directories of backends, which xl takes away, may stay."""
    nodes = "xenstore-ls -f | cut -d ' ' -f 1 | grep -vE '/backend(/[a-z]+)?$'"
    listed = dom0.ok(f"xl list | cut -c -45; {nodes}; ls /var/lib/xen | grep userdata-; ip -o link | wc -l")
    return listed, dom0.settled_free_pages()


@pytest.mark.parametrize("word", ["start", "keep"])
def test_told_to_end_it_leaves_nothing(dom0, template, tool, word):
    """A tenth of a second after its beginning, then three, and so on until it comes to its end first."""
    devices = f"--disk phy:{loop_device(dom0, 'told')},xvda,w --bridge xenbr0" if word == "start" else ""
    command, told = f"{tool} {word} {template} --name told {devices}", 0
    dom0.ok(command, 120)
    destroy(dom0, "told")               # nodes that stay are there now
    before = left_over(dom0)
    for tenths in range(1, 300, 2):
        ended = dom0.run(f"timeout -s {('INT', 'TERM', 'HUP')[tenths % 3]} {tenths / 10} {command} 2>&1", 240)
        if re.search("told(, | is )domain", ended):
            break
        dom0.wait_until(f"! pidof {rig.TEMPLATE.name}")
        told += "told to end" in ended
        assert left_over(dom0) == before, ended
    destroy(dom0, "told")
    assert told and left_over(dom0) == before


def test_make_told_to_end_leaves_no_file(dom0, template, tool):
    """While it waits for more of what was saved."""
    said = dom0.run(f"mkfifo /run/slow; sleep 600 > /run/slow & timeout -s INT 1 {tool} make /run/slow /run/made; kill $!; rm /run/slow")
    assert "told to end" in said, said
    assert dom0.run("ls /run/made*").status


def test_a_domain_that_cannot_be_made_leaves_nothing(dom0, template, tool):
    """Its first page table names a frame that it has not."""
    before, nodes = dom0.settled_free_pages(), dom0.ok("xenstore-ls -f | wc -l")
    head = bytes.fromhex(dom0.ok(f"od -A n -t x1 -N 56 {template} | tr -d ' \\n'"))
    nr_data, = struct.unpack_from("<I", head, 48)
    dom0.ok(f"cp {template} /run/broken; printf '\\003\\000\\000\\000\\377\\377\\000\\000' | "
            f"dd of=/run/broken bs=1 conv=notrunc seek={4096 * (1 + nr_data)}")
    refused = dom0.run(f"{tool} start /run/broken --name new 2>&1", 120)
    assert refused.status and "names none of its frames" in refused, refused
    assert dom0.run("xl domid new").status
    dom0.ok("rm /run/broken")
    assert dom0.settled_free_pages() == before
    assert dom0.ok("xenstore-ls -f | wc -l") == nodes
