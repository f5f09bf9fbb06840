"""on_poweroff, on_reboot and on_crash do what xl.cfg(5) says; several domUs; memory comes back."""
import pytest

import rig

END = {"on_poweroff": "poweroff -f", "on_reboot": "reboot -f", "on_crash": "echo c > /proc/sysrq-trigger"}


@pytest.mark.parametrize("event", END)
def test_destroy(dom0, domu, event):
    domain = domu(**{event: "destroy"}).create()
    domain.start_command(END[event])
    dom0.wait_until("! xl domid domu 2>/dev/null", 60)


@pytest.mark.parametrize("event", END)
def test_restart(dom0, domu, event):
    domain = domu(**{event: "restart"}).create()
    first = domain.domid()
    domain.start_command(END[event])
    domain.wait_ready(times=2)
    assert domain.domid() > first


@pytest.mark.parametrize("event, letter", [("on_poweroff", "s"), ("on_crash", "c")])
def test_preserve(dom0, domu, event, letter):
    domain = domu(**{event: "preserve"}).create()
    domain.start_command(END[event])
    dom0.wait_until(f"xl list domu | tail -n 1 | awk '{{ print $5 }}' | grep -q {letter}", 60)
    domain.destroy()
    assert domain.state() is None


def test_rename_restart(dom0, domu):
    """The crashed domain stays under another name, and a new one takes its place."""
    domain = domu(on_crash="rename-restart").create()
    domain.start_command(END["on_crash"])
    domain.wait_ready(times=2)
    kept = rig.re.search(r"domu-[0-9]{8}T[0-9]+Z", dom0.ok("xl list"))
    assert kept, "xl names the old domain after the time"
    dom0.ok(f"xl destroy {kept.group()}")


def test_coredump_destroy(dom0, domu):
    dom0.ok("mkdir -p /var/lib/xen/dump")
    domain = domu(on_crash="coredump-destroy").create()
    domain.start_command(END["on_crash"])
    dom0.wait_until("! xl domid domu 2>/dev/null", 90)
    size = dom0.ok("cat /var/lib/xen/dump/* | wc -c; rm -rf /var/lib/xen/dump/*")
    assert int(size) > 80 << 20, "the core holds the domain's 96 MiB"


def test_several_domus_at_once(dom0, domu):
    domains = [domu(f"many{n}", memory=96).create(wait=False) for n in range(3)]
    for domain in domains:
        domain.wait_ready()
    for domain in domains:
        assert domain.ok("hostname") == domain.name
    assert dom0.ok("xl list | grep -c many") == "3"


def test_debians_own_kernel_file(dom0, domu):
    """The bzImage with its xz payload, as Debian installs it; the other tests use its ELF, gzipped."""
    domain = domu(kernel="/boot/domu/vmlinuz").create()
    assert domain.ok("uname -r") == dom0.ok("uname -r")


def one_with_devices(dom0, domu):
    dom0.ok("truncate -s 1M /tmp/disk")
    domu(disk=["/tmp/disk,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create().destroy()


def one_that_shuts_down(dom0, domu):
    domu().create()
    dom0.ok("xl shutdown -w domu", 120)


@pytest.mark.parametrize("life", [one_with_devices, one_that_shuts_down])
def test_all_memory_comes_back(dom0, domu, life):
    """To the page, once dom0's backends have let go. The first domain is there so that dom0's own drivers, and the
    hypervisor for them, have taken what they keep."""
    life(dom0, domu)
    before = dom0.settled_free_pages()
    for _ in range(2):
        life(dom0, domu)
        dom0.wait_until(f"[ $(free-pages) -eq {before} ]", 30)
