"""The boot loader in domUs (docs/boot-loader.md): kernels out of a ramdisk, and from the guest's own disk."""
import gzip
import lzma
import shutil
import struct
import subprocess

import pytest

import rig

GUESTS = rig.TOP / "build/guests"
DEBIAN13 = rig.CACHE / "trixie/kernel/vmlinuz"
SUITES = ["smoke", "pagetables", "memory", "events"]
FORMS = {"pt64": rig.LOADER64, "pt32p": rig.LOADER, "pt32": rig.LOADER}
I386_LIBRARY = "i386/usr/lib/i386-linux-gnu/liblzma.a"
UUID = "0f9e8d7c-1111-2222-3333-444455556666"

pytestmark = pytest.mark.pvisor_only


@pytest.fixture(scope="module")
def built(images):
    rig.make("-C", "tests/guests", f"S={' '.join(SUITES)}")
    rig.build_images(I386_LIBRARY)          # without it the 32-bit loader unpacks nothing
    rig.make("loader")
    rig.build_images("trixie-domu.cpio", "trixie/kernel/vmlinuz")


@pytest.fixture
def put(dom0, built):
    """put(path, name): the file is in dom0, once; where."""
    def get(path, name=None):
        place = f"/tmp/boot-loader/{name or path.name}"
        if dom0.run(f"[ -e {place} ]").status:
            dom0.ok("mkdir -p /tmp/boot-loader")
            rig.put(dom0, path, place)
        return place
    return get


def cpio(out, members):
    """An archive as cpio -H newc writes it, of files or bytes by name."""
    with open(out, "wb") as stream:
        for name, source in [*members.items(), ("TRAILER!!!", b"")]:
            data = source if isinstance(source, bytes) else source.read_bytes()
            fields = [0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
            header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
            stream.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))
    return out


def says(dom0, domain, pattern, timeout=60):
    dom0.wait_until(f"grep -aqE '{pattern}' {domain.console_log}", timeout)


def loader_settings(put):
    """What a domain has, whose kernel is the loader."""
    return {"kernel": put(rig.LOADER64), "ramdisk": None, "memory": 64, "vcpus": 1, "extra": None, "on_crash": "preserve",
            "on_poweroff": "preserve"}


# Out of the ramdisk

def test_debian_13_kernel_and_its_ramdisk_in_an_archive(dom0, domu, put, scratch):
    archive = cpio(scratch / "debian13", {"kernel": DEBIAN13, "initrd": rig.CACHE / "trixie-domu.cpio", "cmdline": b"from=archive\n"})
    domain = domu("archive", kernel=put(rig.LOADER64), ramdisk=put(archive), memory=256, vcpus=2).create()
    assert domain.ok("uname -r").startswith("6.12")
    assert domain.ok("cat /proc/cmdline") == "from=archive quiet rig.name=archive"
    assert "pvisor loader" not in dom0.ok(f"cat {domain.console_log}")
    domain.destroy()
    dom0.ok("rm /tmp/boot-loader/debian13")


def boot_image(packed, size_word=None):
    """The least that is a Linux boot image (Documentation/x86/boot.rst): one sector of setup, then the payload."""
    payload = packed + (b"" if size_word is None else struct.pack("<I", size_word))
    image = bytearray(1024)
    image[0x1f1], image[0x1fe:0x200], image[0x202:0x206] = 1, b"\x55\xaa", b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x208)
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload


def lz4(data):
    """As `lz4 -l`, of literals alone."""
    rest = len(data) - 15
    block = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + data
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKINGS = {
    "elf": lambda elf: elf,
    "elf-gzip": gzip.compress,
    "gzip": lambda elf: boot_image(gzip.compress(elf)),
    "xz": lambda elf: boot_image(lzma.compress(elf, check=lzma.CHECK_CRC32), len(elf)),
    "lzma": lambda elf: boot_image(lzma.compress(elf, format=lzma.FORMAT_ALONE), len(elf)),
    "zstd": lambda elf: boot_image(zstd(elf), len(elf)),
    "lz4": lambda elf: boot_image(lz4(elf), len(elf)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_kernel_of_each_packing(dom0, domu, put, scratch, packing, form):
    """In an archive, which xl does not unpack."""
    kernel = PACKINGS[packing]((GUESTS / f"smoke-{form}").read_bytes())
    archive = put(cpio(scratch / f"{packing}-{form}", {"kernel": kernel}))
    domain = domu("packed", **{**loader_settings(put), "kernel": put(FORMS[form]), "ramdisk": archive}).create(wait=False)
    says(dom0, domain, "PVTEST .* passed, 0 failed")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suite", SUITES)
def test_suite_passes_behind_the_loader(dom0, domu, put, scratch, suite, form):
    """What a kernel finds at its start is as if the toolstack had built the domain for it."""
    archive = cpio(scratch / f"{suite}-{form}", {"kernel": GUESTS / f"{suite}-{form}"})
    settings = {**loader_settings(put), "kernel": put(FORMS[form]), "ramdisk": put(archive), "vcpus": 2}
    domain = domu("behind", **settings).create(wait=False)
    says(dom0, domain, "PVTEST (.* passed|panic)", 90)
    assert " 0 failed" in dom0.ok(f"grep -aE 'PVTEST|FAIL' {domain.console_log}")


REFUSALS = {
    "other-word": ({"kernel": "smoke-pt32p"}, "a 32-bit PAE one, this loader is for 64-bit ones.*pv-loader-i386"),
    "no-kernel": ({"initrd": b"x"}, "has no kernel: an archive .* has the members"),
    "text": ({"kernel": b"text " * 99}, "not a kernel"),
    "corrupt": ({"kernel": boot_image(b"\x28\xb5\x2f\xfd" + bytes(1000), 5000)}, "zstd payload is corrupt"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_says_what_is_wrong_with_the_ramdisk(dom0, domu, put, scratch, what):
    members, why = REFUSALS[what]
    members = {name: GUESTS / source if isinstance(source, str) else source for name, source in members.items()}
    domain = domu("wrong", **{**loader_settings(put), "ramdisk": put(cpio(scratch / what, members))}).create(wait=False)
    says(dom0, domain, f"pvisor loader: .*{why}")
    dom0.wait_until("xl list wrong | tail -n 1 | awk '{ print $5 }' | grep -q c")


def test_too_little_memory_is_said(dom0, domu, put, scratch):
    archive = cpio(scratch / "large", {"kernel": DEBIAN13})
    domain = domu("small", **{**loader_settings(put), "ramdisk": put(archive), "memory": 64}).create(wait=False)
    says(dom0, domain, "pvisor loader: .*too little memory.*memory=")
    dom0.ok("rm /tmp/boot-loader/large")


# From a disk

# As grub-mkconfig of Debian 13 writes it, without the comments.
GRUB_CFG = """if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
  fi
}
if loadfont unicode ; then
  set gfxmode=auto
  load_video
fi
terminal_output gfxterm
if [ "${recordfail}" = 1 ] ; then
  set timeout=30
else
  set timeout=5
fi
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-simple-@ID@' {
        load_video
        insmod gzio
        if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
        insmod part_gpt
        insmod ext2
        set root='hd0,gpt2'
        if [ x$feature_platform_search_hint = xy ]; then
          search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2 --hint-baremetal=ahci0,gpt2  @ID@
        else
          search --no-floppy --fs-uuid --set=root @ID@
        fi
        echo    'Loading Linux 6.12-amd64 ...'
        linux   /boot/vmlinuz-6.12-amd64 root=UUID=@ID@ ro  console=hvc0 chosen=simple
        echo    'Loading initial ramdisk ...'
        initrd  /boot/initrd.img-6.12-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-@ID@' {
        menuentry 'Debian GNU/Linux, with Linux 6.12-amd64' --class debian $menuentry_id_option 'gnulinux-6.12-advanced-@ID@' {
                search --no-floppy --fs-uuid --set=root @ID@
                linux   /boot/vmlinuz-6.12-amd64 root=UUID=@ID@ ro  console=hvc0 chosen=advanced
                initrd  /boot/initrd.img-6.12-amd64
        }
}
"""


def gpt_disk(out, tree, kind="ext4", mib=24):
    """A GPT with a small partition, and one with the files of TREE, which is the second."""
    part = out.with_suffix(".part")
    with open(part, "wb") as stream:
        stream.truncate(mib << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", kind, "-U", UUID, "-L", "root", "-d", tree, part], check=True)
    with open(out, "wb") as stream:
        stream.truncate(mib + 3 << 20)
    table = f"label: gpt\nstart=2048,size=2048\nstart=4096,size={mib << 11}\n"
    subprocess.run(["/sbin/sfdisk", "-q", out], input=table.encode(), check=True)
    subprocess.run(["dd", "status=none", f"if={part}", f"of={out}", "seek=2", "bs=1M", "conv=notrunc,sparse"], check=True)
    return out


@pytest.fixture(scope="module")
def debian_tree(built, tmp_path_factory):
    """/boot as Debian 13 has it. The kernel's usual name is a link."""
    boot = tmp_path_factory.mktemp("debian") / "boot"
    boot.mkdir()
    shutil.copyfile(DEBIAN13, boot / "vmlinuz-6.12-amd64")
    shutil.copyfile(rig.CACHE / "trixie-domu.cpio", boot / "initrd.img-6.12-amd64")
    (boot.parent / "vmlinuz").symlink_to("boot/vmlinuz-6.12-amd64")
    return boot.parent


def from_disk(put, disk, **changes):
    return {"kernel": put(rig.LOADER64), "ramdisk": None, "memory": 256, "disk": [f"{put(disk)},raw,xvda,rw"], **changes}


def with_config(tree, scratch, path, text):
    """A copy of the tree with one file more."""
    copy = scratch / "tree"
    shutil.copytree(tree, copy, symlinks=True)
    (copy / path).parent.mkdir(parents=True, exist_ok=True)
    (copy / path).write_text(text)
    return copy


@pytest.fixture(scope="module")
def debian_disk(debian_tree, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("debian-disk")
    tree = with_config(debian_tree, scratch, "boot/grub/grub.cfg", GRUB_CFG.replace("@ID@", UUID))
    return gpt_disk(scratch / "debian.img", tree)


def test_debian_13_boots_from_its_own_disk(dom0, domu, put, debian_disk):
    """And finds the disk as new: it reads what is there, and writes."""
    domain = domu("own", **from_disk(put, debian_disk, extra="more=words")).create(timeout=240)
    assert domain.ok("uname -r").startswith("6.12")
    assert domain.ok("cat /proc/cmdline") == f"root=UUID={UUID} ro console=hvc0 chosen=simple quiet rig.name=own more=words"
    log = dom0.ok(f"cat {domain.console_log}")
    assert "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.12-amd64" in log
    assert "/boot/grub/grub.cfg, on root of xvda2" in log and "starting 'Debian GNU/Linux'" in log
    domain.ok("dd if=/dev/xvda bs=512 skip=1 count=1 2>/dev/null | grep -q 'EFI PART'")
    domain.ok("dd if=/dev/urandom of=/tmp/f bs=64k count=8; dd if=/tmp/f of=/dev/xvda bs=64k seek=16; sync; "
              "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda bs=64k skip=16 count=8 | cmp - /tmp/f")


def test_another_entry_is_typed(dom0, domu, put, debian_disk):
    domain = domu("typed", **from_disk(put, debian_disk)).create(wait=False)
    says(dom0, domain, "A number and Enter")
    dom0.ok(f"printf '9\\n2\\n' > $(xenstore-read /local/domain/{domain.domid()}/console/tty)")
    domain.wait_ready(timeout=240)
    assert "chosen=advanced" in domain.ok("cat /proc/cmdline")
    assert "There is no 9" in dom0.ok(f"cat {domain.console_log}")


def test_boot_loader_specification_on_ext2(dom0, domu, put, debian_tree, scratch):
    entry = ("title Debian\nversion 6.12\nlinux /boot/vmlinuz-6.12-amd64\ninitrd /boot/initrd.img-6.12-amd64\n"
             "options root=LABEL=root console=hvc0\n")
    tree = with_config(debian_tree, scratch, "boot/loader/entries/debian-6.12.conf", entry)
    domain = domu("bls", **from_disk(put, gpt_disk(scratch / "bls.img", tree, "ext2"))).create(timeout=240)
    assert domain.ok("cat /proc/cmdline").startswith("root=LABEL=root console=hvc0 quiet")
    domain.destroy()
    dom0.ok("rm /tmp/boot-loader/bls.img")


def test_32_bit_kernels_boot_from_a_disk(dom0, domu, put, built, scratch):
    """Of both formats, without a partition table; a kernel's pages come from a disk that has an ext2 of old."""
    for form in ("pt32p", "pt32"):
        tree = scratch / form
        (tree / "boot/grub").mkdir(parents=True)
        shutil.copyfile(GUESTS / f"smoke-{form}", tree / "boot/kernel")
        (tree / "boot/grub/grub.cfg").write_text("menuentry test {\nlinux /boot/kernel words\n}\n")
        disk = scratch / f"{form}.img"
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext2", "-b", "1024", "-d", tree, disk, "4M"], check=True)
        settings = {**loader_settings(put), "kernel": put(rig.LOADER), "disk": [f"{put(disk)},raw,xvda,r"]}
        domain = domu(f"disk-{form}", **settings).create(wait=False)
        says(dom0, domain, "PVTEST .* passed, 0 failed")


WRONG_DISKS = {
    "no-config": ("other", "", "none of the 1 disks has /boot/grub/grub.cfg"),
    "no-block-end": ("boot/grub/grub.cfg", "menuentry a {\nlinux /x\n", "menuentry.* is not closed by"),
    "no-entry": ("boot/grub/grub.cfg", "set timeout=5\n", "has no menuentry"),
    "no-kernel-there": ("boot/grub/grub.cfg", "menuentry a {\nlinux /nowhere/vmlinuz\n}\n", "kernel is not there: xvda2 has no nowhere"),
    "no-initrd-there": ("boot/grub/grub.cfg", "menuentry a {\nlinux /boot/grub/grub.cfg\ninitrd /initrd\n}\n",
                        "ramdisk is not there: xvda2 has no initrd"),
    "no-linux": ("boot/grub/grub.cfg", "menuentry a {\nmultiboot2 /xen.gz\n}\n", "has no command linux"),
    "text-kernel": ("boot/grub/grub.cfg", "menuentry a {\nlinux /boot/grub/grub.cfg\n}\n", "not a kernel"),
}


@pytest.mark.parametrize("what", WRONG_DISKS)
def test_says_what_is_wrong_with_the_disk(dom0, domu, put, scratch, built, what):
    path, text, why = WRONG_DISKS[what]
    (scratch / "empty").mkdir()
    disk = gpt_disk(scratch / f"{what}.img", with_config(scratch / "empty", scratch, path, text), mib=2)
    settings = {**loader_settings(put), "disk": [f"{put(disk)},raw,xvda,r"]}
    domain = domu("wrong", **settings).create(wait=False)
    says(dom0, domain, f"pvisor loader: .*{why}")
    dom0.wait_until("xl list wrong | tail -n 1 | awk '{ print $5 }' | grep -q c")


def test_a_disk_without_a_file_system_ends_the_domain(dom0, domu, put, built):
    dom0.ok("dd if=/dev/urandom of=/tmp/noise bs=64k count=32 2>/dev/null")
    domain = domu("noise", **{**loader_settings(put), "disk": ["/tmp/noise,raw,xvda,r"]}).create(wait=False)
    says(dom0, domain, "xvda has no partition with ext2, ext3 or ext4")
    dom0.wait_until("xl list noise | tail -n 1 | awk '{ print $5 }' | grep -q c")
