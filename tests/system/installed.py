"""Whole Debian installations, made by mmdebstrap (tools/image/debian): a dom0 with systemd, its own kernel and tools and libvirt, and in
it domUs with systemd of either release, from their own disks. What test_installed.py and test_installed_long.py share.
"""
import contextlib

import rig

RELEASES = {"bookworm": rig.DEBIAN12, "trixie": rig.DEBIAN13}
KERNELS = {"bookworm": "6.1.", "trixie": "6.12."}
FIRST_BOOT = 600
# How a domU of libvirt's is described: its vCPUs, as many as the machine has CPUs, what else it may have, and its disk.
XML = """<domain type="xen">
  <name>virt</name><memory unit="MiB">320</memory><currentMemory unit="MiB">320</currentMemory><vcpu>%d</vcpu>
  <bootloader>pygrub</bootloader>
  <os><type arch="x86_64" machine="xenpv">linux</type></os>
  <features>%s</features>
  <devices>
    <disk type="block" device="disk"><driver name="phy"/><source dev="%s"/><target dev="xvda" bus="xen"/></disk>
    <interface type="bridge"><source bridge="xenbr0"/></interface>
    <console type="pty"><target type="xen"/></console>
  </devices>
</domain>
"""


def whole(suite, name, cpus, guests=tuple(RELEASES), extra=(), disks=(), **settings):
    """The machine with that release in dom0, not started. guests: the releases of which it has a disk for domUs, dom0.guest_disks as
    dom0 sees them; extra: words for QEMU; disks: behind these, with two guests from /dev/vdd on; settings: of rig.Machine. What is written
    to disks that others do not have is gone when it ends."""
    # Some ten minutes, for which nobody else is to wait.
    rig.build_images(*(f"debian-{each}/root.ext4" for each in {suite, *guests}), apart="lock-debian")
    place = rig.CACHE / f"debian-{suite}"
    own = [rig.Disk(place / "root.ext4")] + [rig.Disk(rig.CACHE / f"debian-{each}/guest.ext4") for each in guests]
    dom0 = rig.Machine(name=f"{name}-{suite}", release=RELEASES[suite], kernel=place / "vmlinuz", initrd=place / "initrd.img", cpus=cpus,
                       memory=2560, disks=[*own, *disks], extra=["-snapshot", *extra], code=256, in_turns=True,
                       cmdline=f"dom0_mem=1024M,max:1024M xen-version={RELEASES[suite].xen}",
                       dom0_args="root=LABEL=root net.ifnames=0 mitigations=off", **settings)
    dom0.suite = suite
    dom0.guest_disks = {each: f"/dev/vd{letter}" for each, letter in zip(guests, "bcd")}
    return dom0


@contextlib.contextmanager
def machine(*what, **settings):
    """whole(), at a shell of root's."""
    with whole(*what, **settings) as dom0:
        reach_shell(dom0)
        put_guest_run(dom0)
        yield dom0


def put_guest_run(dom0):
    rig.put(dom0, rig.TOP / "tools/image/guest-run", "/usr/bin/guest-run")
    dom0.ok("chmod +x /usr/bin/guest-run")


def reach_shell(dom0):
    dom0.expect("root: ready", FIRST_BOOT)
    dom0.ok("dmesg -n 1; export PAGER=cat SYSTEMD_PAGER=")


def write(dom0, path, text):
    dom0.ok(f"cat > {path} <<'END'\n{text}\nEND")


def starts_all_services(where):
    where.run("systemctl is-system-running --wait", FIRST_BOOT)
    assert where.ok("systemctl --failed --no-legend --plain") == ""


def virsh_line(command):
    return f"virsh -q -c xen:///system {command}"


def virsh(dom0, command, timeout=120):
    return dom0.ok(virsh_line(command), timeout)


def state(dom0, name="virt"):
    return virsh(dom0, f"domstate {name}").strip()


def start_virt(dom0, features=""):
    """A domain of libvirt's, virt, of dom0's release, started by pygrub from its own disk and come to its shell."""
    dom0.ok("systemctl start libvirtd", 300)
    write(dom0, "/root/virt.xml", XML % (dom0.cpus, features, dom0.guest_disks[dom0.suite]))
    virsh(dom0, "define /root/virt.xml")
    domain = rig.Domain(dom0, "virt")
    before = domain.times_ready()
    virsh(dom0, "start virt", 300)
    domain.wait_ready(times=before + 1, timeout=FIRST_BOOT)
    return domain


def shut_down_virt(dom0):
    """Until libvirt has let go of it: it says "shut off" before it destroys the domain, which has its id until then."""
    virsh(dom0, "shutdown virt", 120)
    dom0.wait_until(f"[ \"$({virsh_line('domid virt')})\" = - ]", 300)
    assert state(dom0) == "shut off"
