"""Guests on xfs and btrfs, which neither pvisor's loader nor Debian's pygrub reads: PV GRUB, and GRUB that reads for the loader."""
import os
import subprocess

import pytest

import rig

GRUB_MODULES = rig.CACHE / "root/usr/lib/grub/x86_64-xen"
PV_GRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
KINDS = ["xfs", "btrfs"]

pytestmark = pytest.mark.pvisor_only

# For GRUB with pvisor's loader, a kernel with a zstd payload and two ramdisks; for PV GRUB one that it unpacks itself.
GRUB_CFG = """set timeout=0
if [ -e (memdisk)/pv-loader ]; then
  set default=packed
else
  set default=plain
fi
submenu 'Advanced options' {
menuentry 'not this' {
  linux /nowhere
}
}
menuentry 'Debian 13' --id packed {
  insmod gzio
  search --no-floppy --label --set=root guest
  linux @TOP@/boot/vmlinuz-6.12 root=LABEL=guest  console=hvc0 'quiet' rig.name=packed
  echo 'Loading initial ramdisk ...'
  initrd @TOP@/boot/initrd.img-6.12 @TOP@/boot/more
}
menuentry 'Debian 12' --id plain {
  linux @TOP@/boot/vmlinux.gz console=hvc0 quiet rig.name=plain
  initrd @TOP@/boot/initrd
}
"""


def tree_of(scratch, top):
    more = scratch / "more"
    (more / "etc").mkdir(parents=True)
    (more / "etc/second").write_text("the second ramdisk\n")
    archive = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=more, input=b"etc\netc/second\n", stdout=subprocess.PIPE,
                             check=True).stdout
    (scratch / "archive").write_bytes(archive)
    return rig.boot_tree(scratch / "tree" / top.strip("/"), GRUB_CFG.replace("@TOP@", top), {
        "vmlinuz-6.12": rig.CACHE / "trixie/kernel/vmlinuz", "initrd.img-6.12": rig.CACHE / "trixie-domu.cpio", "more": scratch / "archive",
        "vmlinux.gz": rig.KERNELS / "vmlinux.gz", "initrd": rig.CACHE / "domu.cpio"})


def prototype(directory):
    """Of a directory, what mkfs.xfs -p reads: each file's kind, modes, owner, and where its contents are."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from [f"{entry.name} d--755 0 0", *prototype(entry.path), "$"]
        else:
            yield f"{entry.name} ---644 0 0 {entry.path}"


def make_xfs(scratch, image):
    tree = tree_of(scratch, "")
    (scratch / "prototype").write_text("\n".join(["/", "0 0", "d--755 0 0", *prototype(tree), "$", ""]))
    subprocess.run(["/sbin/mkfs.xfs", "-q", "-L", "guest", "-p", scratch / "prototype", image], check=True)


def make_btrfs(scratch, image):
    """Below /@rootfs, which is the subvolume that Debian's installer makes; here a directory, which GRUB's paths do not tell from it."""
    tree_of(scratch, "/@rootfs")
    subprocess.run(["/sbin/mkfs.btrfs", "-q", "-L", "guest", "--rootdir", scratch / "tree", image], check=True)


def disk_of(kind, scratch):
    image = scratch / f"{kind}.img"
    with open(image, "wb") as stream:
        stream.truncate(320 << 20)          # the least that mkfs.xfs takes is 300 MiB
    {"xfs": make_xfs, "btrfs": make_btrfs}[kind](scratch, image)
    return image


@pytest.fixture(scope="module")
def machine(images, tmp_path_factory):
    """The file systems are its disks sda and sdb, as they are, without a partition table."""
    rig.build_images("trixie-domu.cpio", "trixie/kernel/vmlinuz", "domu.cpio")
    rig.make("loader")
    scratch = tmp_path_factory.mktemp("file-systems")
    grub = scratch / "pv-grub"
    subprocess.run([rig.TOP / "tools/loader/grub/make-pv-grub", grub], check=True,
                   env={**os.environ, "GRUB_MODULES": str(GRUB_MODULES), "PV_LOADER": str(rig.LOADER64)})
    disks = [rig.Disk(disk_of(kind, tmp_path_factory.mktemp(kind)), "ahci") for kind in KINDS]
    with rig.Machine(name="file-systems", disks=disks) as vm:
        vm.wait_for_dom0()
        rig.put(vm, grub, "/tmp/pv-grub")
        yield vm


def pygrub(image):
    """What Debian 12's says of the entries on a disk; it runs on the host, which is of that release."""
    place = rig.CACHE / "root/usr/lib/xen-4.17"
    libraries = place / "lib/x86_64-linux-gnu"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "FSIMAGE_FSDIR": str(libraries / "xenfsimage"),
                   "PYTHONPATH": str(place / "lib/python"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(["/usr/bin/python3", place / "bin/pygrub", "-q", "--list-entries", image], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout


def test_debians_pygrub_reads_ext4_and_neither_of_these(images, scratch):
    """When it fails, docs/boot-loader.md is to say that pygrub does."""
    for kind in KINDS:
        (scratch / kind).mkdir()
        assert pygrub(disk_of(kind, scratch / kind)) == ""
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", scratch / "xfs/tree", scratch / "ext4.img", "64M"], check=True)
    assert "title: " in pygrub(scratch / "ext4.img")


def start(machine, kind, name, kernel):
    disk = f"phy:/dev/sd{'ab'[KINDS.index(kind)]},xvda,w"
    domain = rig.Domain(machine, name, kernel=kernel, ramdisk=None, extra=None, memory=320, disk=[disk])
    domain.create(wait=False)
    machine.wait_until(f"grep -aq '{name}: ready' {domain.console_log}", 200)
    return domain


@pytest.mark.parametrize("kind", KINDS)
def test_grub_reads_and_the_loader_unpacks(machine, kind):
    domain = start(machine, kind, "packed", "/tmp/pv-grub")
    assert domain.ok("uname -r").startswith("6.12")
    assert domain.ok("cat /proc/cmdline") == "root=LABEL=guest console=hvc0 quiet rig.name=packed"
    assert domain.ok("cat /etc/second") == "the second ramdisk"
    domain.destroy()


def test_pv_grub_alone(machine):
    """On xfs. On btrfs it does not find the configuration, which is in a subvolume: it looks at /boot/grub and /grub alone."""
    domain = start(machine, "xfs", "plain", PV_GRUB)
    assert domain.ok("uname -r").startswith("6.1.")
    domain.destroy()


def test_a_disk_without_a_configuration_is_named(machine):
    machine.ok("dd if=/dev/urandom of=/tmp/noise bs=64k count=32 2>/dev/null")
    domain = rig.Domain(machine, "noise", kernel="/tmp/pv-grub", ramdisk=None, extra=None, memory=64, disk=["/tmp/noise,raw,xvda,r"])
    domain.create(wait=False)
    machine.wait_until(f"grep -aq 'pvisor: no disk has /boot/grub/grub.cfg' {domain.console_log}", 60)
    domain.destroy()
