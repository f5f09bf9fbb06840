"""UEFI (OVMF) and GRUB on an EFI system partition: dom0 finds the firmware's tables and changes its variables; text on pixels."""
import gzip
import os
import re
import shutil
import subprocess

import pytest

import debugger
import rig

FONT = "/usr/share/consolefonts/spleen-8x16.psfu.gz"
GUID = "12345678-1234-1234-1234-123456789abc"
VARIABLE = f"/sys/firmware/efi/efivars/PvisorTest-{GUID}"
GET_VARIABLE = 72              # its place in the table of runtime services
EFIBOOTMGR = (["efibootmgr", "chattr"], ["efivarfs/efivarfs"],
              "libefivar.so.1 libefiboot.so.1 libe2p.so.2 libcom_err.so.2 libc.so.6 libdl.so.2".split())
GRUB_INSTALL = (["grub-install", "grub-mkimage", "grub-probe", "efibootmgr"],
                ["efivarfs/efivarfs", "fat/fat", "fat/vfat", "nls/nls_cp437", "nls/nls_ascii"],
                "libefivar.so.1 libefiboot.so.1 liblzma.so.5 libdevmapper.so.1.02.1 libselinux.so.1 libudev.so.1 libm.so.6 libpcre2-8.so.0 "
                "libc.so.6 libdl.so.2".split())


def with_tools(directory, tools, folders=()):
    """dom0's ramdisk and, behind it, another with programs, modules, and libraries; dom0 is of the host's release."""
    programs, modules, libraries = tools
    tree = directory / "tools"
    place = tree / "usr/lib/x86_64-linux-gnu"
    place.mkdir(parents=True)
    (tree / "usr/bin").mkdir()
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", tree / "usr/bin/breakpoint",
                    rig.TOP / "tests/system/breakpoint.c"], check=True)
    for name in programs:
        shutil.copy(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"), tree / "usr/bin")
    for name in libraries:
        shutil.copy(f"/usr/lib/x86_64-linux-gnu/{name}", place)
    for name in modules:
        module, = rig.CACHE.glob(f"root/lib/modules/*/kernel/fs/{name}.ko*")
        shutil.copy(module, tree)
    for folder in folders:
        shutil.copytree(folder, tree / folder.lstrip("/"))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    added = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=subprocess.PIPE,
                           check=True).stdout
    both = directory / "initrd"
    plain = rig.DEBIAN12.dom0.read_bytes()
    both.write_bytes((gzip.decompress(plain) if plain[:2] == b"\x1f\x8b" else plain) + added)
    return both


def start(directory, kernel, initrd, cmdline="", **settings):
    files = {"xen.gz": rig.hypervisor_path(), "vmlinuz": kernel, "initrd": initrd}
    disk = rig.uefi_disk(directory / "disk.img", rig.multiboot_entry(f"no-real-mode edd=off {cmdline}"), files)
    return rig.Machine(uefi=True, boot_disk=rig.Disk(disk), **settings)


@pytest.fixture(scope="module")
def machine(images, tmp_path_factory):
    directory = tmp_path_factory.mktemp("uefi")
    with start(directory, rig.KERNELS / "vmlinux.gz", with_tools(directory, EFIBOOTMGR), name="uefi",
               extra=debugger.arguments(directory)) as vm:
        vm.directory = directory
        vm.wait_for_dom0()
        vm.ok("insmod /efivarfs.ko; mount -t efivarfs none /sys/firmware/efi/efivars")
        yield vm


def test_dom0_finds_the_tables_of_its_own_accord(machine):
    assert "acpi_rsdp" not in machine.ok("cat /proc/cmdline")
    said = machine.ok("dmesg")
    assert re.search(r"efi: EFI v2\.\d+ by EDK II", said) and re.search(r"efi: .*ACPI 2\.0=0x", said)
    assert re.search(r"ACPI: RSDP 0x\w+ \w+ \(v02 BOCHS", said)
    assert "Domain-0" in machine.ok("xl list")
    assert machine.ok("cat /proc/partitions").count("vda") == 2


def test_nothing_in_the_log_is_unexpected(machine):
    log = machine.hypervisor_log()
    assert re.search(r"UEFI 2\.\d by EDK II, \d+ tables, runtime services at 0x", log)
    assert not re.search(r"unknown word|no-real-mode|edd", log.split("Command line:")[1].split("\n", 1)[1])


def test_variables_are_made_read_changed_and_removed(machine):
    for text in ("hello", "a longer one, to replace it"):
        machine.ok(f"[ ! -e {VARIABLE} ] || chattr -i {VARIABLE}; printf '\\007\\000\\000\\000{text}' > {VARIABLE}")
        assert machine.ok(f"tail -c +5 {VARIABLE}") == text
    assert f"PvisorTest-{GUID}" in machine.ok("ls /sys/firmware/efi/efivars")
    machine.ok(f"chattr -i {VARIABLE}; rm {VARIABLE}")
    machine.ok("umount /sys/firmware/efi/efivars; mount -t efivarfs none /sys/firmware/efi/efivars")
    assert f"PvisorTest-{GUID}" not in machine.ok("ls /sys/firmware/efi/efivars")


def test_efibootmgr_lists_and_changes_boot_entries(machine):
    before = machine.ok("efibootmgr")
    assert re.search(r"^BootCurrent: \w{4}$", before, re.M) and re.search(r"^BootOrder: ", before, re.M)
    machine.ok(r"efibootmgr -q -c -d /dev/vda -p 1 -L pvisor -l '\EFI\BOOT\BOOTX64.EFI'")
    number = re.search(r"^Boot(\w{4})\* pvisor", machine.ok("efibootmgr"), re.M)[1]
    machine.ok(f"efibootmgr -q -b {number} -B")
    assert " pvisor" not in machine.ok("efibootmgr")


def test_a_domu_starts(machine):
    domu = rig.Domain(machine)
    domu.create()
    assert "domu" in machine.ok("xl list")
    domu.destroy()


def test_dom0_has_the_screen(machine):
    assert re.search(r"efifb: mode is \d+x\d+x\d\d,", machine.ok("dmesg"))
    assert re.fullmatch(r"\d+,\d+", machine.ok("cat /sys/class/graphics/fb0/virtual_size"))


def get_variable(machine):
    """The address of the firmware's GetVariable()."""
    table = int(re.search(r"runtime services at (0x\w+)", machine.hypervisor_log())[1], 16)
    dump = machine.monitor("human-monitor-command", **{"command-line": f"xp /1gx {table + GET_VARIABLE:#x}"})
    return int(dump.split(":")[1], 16)


def test_a_users_breakpoint_on_the_firmwares_code_is_not_met(machine):
    """It would be met again and again, in ring 0 and without an end: any user may set one and read a variable."""
    machine.ok(f"breakpoint {get_variable(machine):#x} /sys/firmware/efi/efivars/BootOrder-*", 60)
    assert "Domain-0" in machine.ok("xl list")


def test_a_fault_of_the_firmwares_ends_its_services_alone(machine):
    """The last of the tests on this machine: GetVariable() begins with an undefined instruction from now on."""
    code = get_variable(machine)
    with debugger.Debugger(machine.directory) as gdb:
        gdb.write_physical(code, b"\x0f\x0b")
    for _ in range(2):
        assert machine.run("cat /sys/firmware/efi/efivars/BootOrder-*").status
    log = machine.hypervisor_log()
    assert log.count("UEFI: the firmware's runtime services have failed (exception 6,") == 1
    assert "Domain-0" in machine.ok("xl list")
    machine.ok("cpu-check 2>&1 | head -1; awk 'BEGIN { exit !(sqrt(2) * sqrt(2) > 1.99) }'")


def test_debian_13s_kernel_and_a_reset_by_the_firmware(scratch):
    rig.build_images("trixie/kernel/vmlinuz")
    with start(scratch, rig.DEBIAN13.kernels / "vmlinux.gz", rig.CACHE / "domu.cpio", "reboot=efi", name="uefi-13", nic=None) as machine:
        machine.expect("domu: ready", 240)
        assert re.search(r"efi: .*ACPI 2\.0=0x", machine.ok("dmesg"))
        machine.start_command("reboot -f")
        machine.expect("Resetting the machine")
        machine.expect_exit()
        assert "UEFI: the firmware" not in machine.transcript().rsplit("Resetting the machine", 1)[1]


# As users install it

def empty_esp(path, mib=160):
    with open(path, "wb") as stream:
        stream.truncate(mib << 20)
    subprocess.run(["/sbin/sfdisk", "-q", path], input="label: gpt\nstart=2048, type=uefi\n", text=True, check=True)
    subprocess.run(["mformat", "-i", f"{path}@@1M", "-F", "-T", str((mib - 2) << 11), "::"], check=True)
    return path


def test_grub_install_in_dom0_makes_an_entry_for_the_firmware(scratch):
    """Onto the EFI system partition of a second disk. That the firmware then starts from it has not been seen."""
    initrd = with_tools(scratch, GRUB_INSTALL, ["/usr/lib/grub/x86_64-efi"])
    second = rig.Disk(empty_esp(scratch / "second.img"), "nvme")
    with start(scratch, rig.KERNELS / "vmlinux.gz", initrd, name="uefi-grub-install", nic=None, disks=[second]) as machine:
        machine.wait_for_dom0(400)     # its ramdisk is large, and the firmware reads it slowly
        machine.ok("for m in efivarfs fat vfat nls_cp437 nls_ascii; do insmod /$m.ko; done; "
                   "mount -t efivarfs none /sys/firmware/efi/efivars; mkdir /esp /first; "
                   "mount -t vfat /dev/nvme0n1p1 /esp; mount -t vfat -o ro /dev/vda1 /first")
        said = machine.ok("grub-install --target=x86_64-efi --efi-directory=/esp --boot-directory=/esp/boot --bootloader-id=second "
                          "--locales= --no-uefi-secure-boot", 180)
        assert "No error reported" in said
        number = re.search(r"^Boot(\w{4})\* second\b", machine.ok("efibootmgr"), re.M)[1]
        assert machine.ok("efibootmgr | grep ^BootOrder").split()[1].split(",")[0] == number


# Text on pixels

def glyphs():
    """The characters of ASCII by their pixels."""
    with gzip.open(FONT) as stream:
        font = stream.read()
    return {font[4 + 16 * c:4 + 16 * c + 16]: chr(c) for c in range(32, 127)}


def text_on_screen(machine, path):
    """What is written on a screen of pixels, from the top left, in cells of 8 by 16."""
    machine.monitor("screendump", filename=str(path))
    _, size, _, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    known = glyphs()

    def cell(column, row):
        lines = (pixels[3 * ((row * 16 + y) * width + column * 8):][:24] for y in range(16))
        return known.get(bytes(sum((line[3 * x] > 80) << 7 - x for x in range(8)) for line in lines), "#")

    return "\n".join("".join(cell(column, row) for column in range(width // 8)).rstrip() for row in range(height // 16))


def last_words(machine, scratch):
    """A machine whose dom0 kernel is none says so, and keeps the screen."""
    machine.expect(r"\(XEN\).*(ELF|could not|not a kernel|image)", 120)
    machine.child.expect(rig.pexpect.TIMEOUT, timeout=3)
    return text_on_screen(machine, scratch / "screen.ppm")


REASON = "Cannot start: dom0's kernel cannot be started"


def bad_kernel(scratch):
    (scratch / "kernel").write_bytes(b"no kernel")
    return {"xen.gz": rig.hypervisor_path(), "vmlinuz": scratch / "kernel", "initrd": scratch / "kernel"}


@pytest.mark.pvisor_only
def test_the_screen_shows_what_is_wrong_under_uefi(scratch):
    disk = rig.uefi_disk(scratch / "disk.img", rig.multiboot_entry("noreboot console=com1,vga loglvl=warning"), bad_kernel(scratch))
    with rig.Machine(name="uefi-screen", uefi=True, boot_disk=rig.Disk(disk), nic=None) as machine:
        text = last_words(machine, scratch)
    assert "#" not in text and "speaking the Xen" in text and REASON in text


@pytest.mark.pvisor_only
def test_a_panic_takes_the_screen_back_from_dom0(scratch):
    """dom0 has drawn on the frame buffer: a text console, and then noise."""
    with start(scratch, rig.KERNELS / "vmlinux.gz", rig.CACHE / "domu.cpio", "console=com1,vga", name="uefi-panic", nic=None) as machine:
        machine.expect("domu: ready", 240)
        assert "efifb" in machine.ok("dmesg")
        machine.run("cat /dev/urandom > /dev/fb0")
        machine.send("\x01" * 3)
        machine.expect("input to Xen", 30)
        machine.send("C")
        machine.expect("The machine is halted", 30)
        machine.child.expect(rig.pexpect.TIMEOUT, timeout=1)
        text = text_on_screen(machine, scratch / "screen.ppm")
    assert "#" not in text and "Panic on CPU 0: stopped by debug key" in text and "The machine is halted" in text


@pytest.mark.pvisor_only
def test_the_screen_shows_what_is_wrong_in_a_graphics_mode_of_the_bios(scratch):
    entry = ["insmod all_video", *rig.multiboot_entry("noreboot console=com1,vga loglvl=all"), "set gfxpayload=640x480"]
    iso = rig.grub_iso(scratch / "boot.iso", entry, bad_kernel(scratch))
    with rig.Machine(name="bios-screen", cdrom=iso, nic=None) as machine:
        text = last_words(machine, scratch)
    assert "#" not in text and REASON in text
    assert "speaking the Xen" not in text       # there were more lines than it has
