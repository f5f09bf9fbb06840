"""Each xl command, on one running domU or on dom0."""
import re

import pytest

import rig


@pytest.fixture
def guest(standing):
    return standing("domu")


def test_xl_info(dom0):
    info = dict(re.findall(r"^(\w+)\s*: (.*)$", dom0.ok("xl info"), re.M))
    assert "xen-3.0-x86_64" in info["xen_caps"].split()
    assert info["nr_cpus"] == "1"
    assert 0 < int(info["free_memory"]) < int(info["total_memory"]) <= 1536
    assert info["xen_version"].startswith(dom0.release.xen)
    assert "dom0_mem=512M" in info["xen_commandline"]


def test_xl_list(dom0, guest):
    listing = dom0.ok("xl list")
    assert re.search(r"^Domain-0\s+0\s+512\s+1\s+r", listing, re.M)
    assert re.search(rf"^domu\s+{guest.domid()}\s+96\s+1\s+[r-][b-]", listing, re.M)


def test_xl_list_long(dom0, guest):
    listing = dom0.ok("xl list -l domu")
    assert '"name": "domu"' in listing and '"type": "pv"' in listing


def test_xl_create_refuses_a_name_in_use(dom0, guest):
    assert dom0.run(f"xl create {guest.config}").status != 0
    assert guest.state() is not None


def open_console(dom0, command):
    dom0.start_command(f"{command}; echo console 'left'")


def leave_console(dom0):
    """By Ctrl-], which is the console's key only if nothing follows at once: else it goes to the guest."""
    dom0.send("\x1d")
    dom0.expect("console left", 60)


def test_xl_create_attaches_the_console_with_c(dom0, domu):
    domain = domu("fresh")
    domain.write_config()
    open_console(dom0, f"xl create -c {domain.config}")
    dom0.expect("fresh: ready", 120)
    leave_console(dom0)
    assert domain.state() is not None


def test_xl_console(dom0, guest):
    open_console(dom0, "xl console domu")
    dom0.expect("domu: ready", 60)
    dom0.send("echo $((6 * 7)) at $(hostname)\n")
    dom0.expect("42 at domu", 60)
    leave_console(dom0)
    assert dom0.ok("echo back in dom0") == "back in dom0"


def test_xl_pause_and_unpause(dom0, guest):
    dom0.ok("xl pause domu")
    assert "p" in guest.state()
    assert guest.run("echo awake", 3).status == 124
    dom0.ok("xl unpause domu")
    assert "p" not in guest.state()
    assert "awake" in guest.run("echo awake")


def test_xl_create_paused(dom0, domu):
    domain = domu("fresh")
    domain.write_config()
    dom0.ok(f"xl create -p {domain.config}", 120)
    assert "p" in domain.state()
    dom0.ok("xl unpause fresh")
    domain.wait_ready()


def test_xl_reboot_then_shutdown_then_gone(dom0, domu):
    domain = domu("ending").create()
    first = domain.domid()
    dom0.ok("xl reboot ending")
    domain.wait_ready(times=2)
    assert domain.domid() > first
    dom0.ok("xl shutdown -w ending", 120)
    dom0.wait_until("! xl domid ending 2>/dev/null")


def test_xl_destroy(dom0, domu):
    domain = domu("ending").create(wait=False)
    dom0.ok("xl destroy ending")
    assert domain.state() is None


def test_xl_rename(dom0, guest):
    dom0.ok("xl rename domu renamed")
    assert dom0.ok("xl domid renamed")
    assert dom0.run("xl domid domu").status != 0
    dom0.ok("xl rename renamed domu")


def test_xl_domid_and_domname(dom0, guest):
    number = dom0.ok("xl domid domu")
    assert dom0.ok(f"xl domname {number}") == "domu"
    assert dom0.ok("xl domname 0") == "Domain-0"
    assert dom0.run("xl domid nobody").status != 0


def memory(dom0):
    return int(dom0.ok("xl list domu | tail -n 1").split()[2])


def test_xl_mem_set(dom0, guest):
    """The guest balloons down to what it is told, and up again."""
    for target in (88, 96):
        dom0.ok(f"xl mem-set domu {target}")
        dom0.wait_until(f"[ $(xl list domu | tail -n 1 | awk '{{ print $3 }}') = {target} ]", 60)
    guest.ok("true")


def test_xl_mem_max(dom0, guest):
    dom0.ok("xl mem-max domu 120")
    assert memory(dom0) == 96
    assert dom0.run("xl mem-max domu 20").status != 0 or memory(dom0) == 96


def test_xl_vcpu_list(dom0, guest):
    assert re.search(r"^domu\s+\d+\s+0\s+(0|-)\s+[r-][b-]", dom0.ok("xl vcpu-list domu"), re.M)
    assert "Domain-0" in dom0.ok("xl vcpu-list")


def test_xl_vcpu_pin(dom0, guest):
    dom0.ok("xl vcpu-pin domu 0 0")
    assert dom0.ok("xl vcpu-list domu | tail -n 1").split()[-3] in ("0", "all")
    assert dom0.run("xl vcpu-pin domu 7 0").status != 0
    dom0.ok("xl vcpu-pin domu 0 all")


def test_xl_uptime(dom0, guest):
    assert re.search(r"^domu\s+\d+\s+\d", dom0.ok("xl uptime domu"), re.M)


def test_xl_top(dom0, guest):
    dom0.start_command("TERM=vt100 xl top")
    dom0.expect("Domain-0", 30)
    dom0.expect("domu", 30)
    dom0.send("q")
    assert dom0.ok("echo back") == "back"


def test_xentop_in_batch_mode(dom0, guest):
    screen = dom0.ok("xentop -b -i 1")
    assert "Domain-0" in screen and "domu" in screen


def test_xl_dmesg(dom0):
    """Whatever is left in it: an earlier test may have cleared it."""
    dom0.ok("xl debug-keys hqr0e")
    log = dom0.hypervisor_log().splitlines()
    assert len(log) > 20 and any("[XEN]" in line for line in log)


def test_xl_dmesg_clears(dom0):
    before = len(dom0.hypervisor_log())
    dom0.ok("xl dmesg -c > /dev/null")
    assert len(dom0.hypervisor_log()) < before


def test_xl_debug_keys(dom0):
    dom0.ok("xl dmesg -c > /dev/null; xl debug-keys h")
    assert "'h'" in dom0.hypervisor_log()


def test_log_levels_are_changed_at_run_time(dom0):
    show = "xenhypfs cat /params/loglvl; xenhypfs cat /params/guest_loglvl"
    host, guest = dom0.ok(show).split()
    dom0.ok("xl set-parameters 'loglvl=warning/all guest_loglvl=none'")
    assert dom0.ok(show).split() == ["warning/all", "none/none"]
    assert dom0.run("xl set-parameters loglvl=loud").status
    assert dom0.run("xl set-parameters console=none").status
    dom0.ok(f"xenhypfs write /params/loglvl {host} && xl set-parameters guest_loglvl={guest}")
    assert dom0.ok(show).split() == [host, guest]


def test_the_hypervisor_says_what_it_is(dom0):
    assert dom0.ok("xenhypfs cat /buildinfo/version/major").strip() == "4"
    tree = dom0.ok("xenhypfs tree")
    assert "changeset" in tree and "guest_loglvl" in tree


def test_xl_sysrq(dom0, guest):
    dom0.ok("xl sysrq domu h")
    dom0.wait_until(f"grep -aq 'sysrq: HELP' {guest.console_log}", 30)


@pytest.mark.parametrize("trigger, refusal", [
    ("nmi", None), ("power", "Invalid argument"), ("sleep", "Invalid argument"), ("reset", "Function not implemented")])
def test_xl_trigger(dom0, guest, trigger, refusal):
    """Buttons are HVM guests'; an NMI reaches the kernel, which has nothing against it."""
    said = dom0.run(f"xl trigger domu {trigger}")
    assert refusal in said if refusal else "fail" not in said
    assert guest.ok("echo lives") == "lives"


def test_xl_dump_core(dom0, guest):
    dom0.ok("xl dump-core domu /tmp/core", 120)
    assert dom0.ok("head -c 4 /tmp/core | tail -c 3; rm /tmp/core") == "ELF"
    assert guest.ok("echo lives") == "lives"


def test_xenctx_shows_registers_as_they_are(dom0, guest):
    """CR0 as in force, but for TS, and the flags with the I/O privilege that Linux asks for."""
    said = dom0.ok(f"{dom0.tool('xenctx')} -a {guest.domid()}")
    assert int(re.search(r"cr0: ([0-9a-f]+)", said).group(1), 16) | 8 == 0x8005003b
    assert int(re.search(r"flags: ([0-9a-f]+)", said).group(1), 16) >> 12 & 3 == 1


def test_xen_cpuid_shows_all_policies(dom0):
    said = dom0.ok(f"{dom0.tool('xen-cpuid')} -p")
    for name in ("Raw", "Host", "PV Max", "HVM Max", "PV Default", "HVM Default"):
        assert re.search(rf"^{name} policy: \d+ leaves, \d+ MSRs", said, re.M), name


def test_more_vcpus_than_the_machine_has_cpus(dom0, domu):
    domain = domu("two", vcpus=2).create()
    assert domain.ok("grep -c ^processor /proc/cpuinfo") == "2"


def test_a_name_nobody_has(dom0):
    for command in ("xl pause nobody", "xl destroy nobody", "xl shutdown nobody", "xl mem-set nobody 64"):
        result = dom0.run(command)
        assert result.status != 0 and "nobody" in result
