"""Ways to boot, forms of kernels and ramdisks, words of the command line, and the machine's end."""
import gzip
import re

import pytest

import rig

KERNEL_FORMS = ["vmlinuz", "vmlinuz-gzip", "vmlinuz-zstd", "vmlinux", "vmlinux.gz"]
# What the small ramdisk, a domU's, prints when it serves as dom0's.
SMALL = rig.CACHE / "domu.cpio"
SMALL_READY = r"domu: ready"


def files(kernel="vmlinuz", initrd=None):
    return {"xen.gz": rig.hypervisor_path(), "vmlinuz": rig.KERNELS / kernel, "initrd": initrd or rig.CACHE / "dom0.cpio"}


def small_machine(name, **settings):
    """A machine with as little as possible, for tests of the way to dom0's kernel."""
    settings.setdefault("initrd", SMALL)
    return rig.Machine(name=name, nic=None, **settings)


def boots(name, **settings):
    with small_machine(name, **settings) as machine:
        machine.expect(SMALL_READY, 240)
        return machine.transcript()


# The loaders

@pytest.mark.parametrize("version", [1, 2])
def test_grub_boots_by_multiboot(scratch, version):
    disk = rig.grub_disk(scratch / "disk.img", rig.multiboot_entry(version=version), files())
    with rig.Machine(name=f"multiboot{version}", boot_disk=rig.Disk(disk, "ahci")) as machine:
        machine.wait_for_dom0()
        assert "Domain-0" in machine.ok("xl list")


@pytest.mark.parametrize("model", ["q35", "pc"])
def test_grub_boots_from_a_cd(scratch, model):
    iso = rig.grub_iso(scratch / "boot.iso", rig.multiboot_entry(), files("vmlinux.gz", SMALL))
    boots(f"iso-{model}", cdrom=iso, machine=model)


# What dom0's kernel says at warning or above on Debian's Xen, too (HYPERVISOR=debian runs the same test), and why.
DOM0_SAYS = [
    r"Grant table initialized",                             # Linux has no level for it, and that is a warning
    r"hpet_acpi_add: no address or irqs in _CRS",           # QEMU's ACPI tables name no interrupt of the HPET
    r"acpi PNP0A03:00: fail to add MMCONFIG information",   # QEMU's machine pc has none
    r"clocksource: ",                                       # a host that let the machine wait
]
# And the hypervisor: its name, which no level hides, and of QEMU's CPU, which says nothing of Meltdown and MDS.
HYPERVISOR_SAYS = [r"pvisor \S+ \(\w+ build\)", r"This CPU does not say that \S+( and \S+)? spares? it"]


def others(lines, allowed):
    return [line for line in lines if line.strip() and not any(re.search(pattern, line) for pattern in allowed)]


@pytest.mark.parametrize("model", ["q35", "pc"])
def test_qemu_kernel_option_boots_with_nothing_to_warn_of(model):
    with rig.Machine(name=f"kernel-option-{model}", machine=model, cmdline="loglvl=warning guest_loglvl=warning") as machine:
        machine.wait_for_dom0()
        assert "Domain-0" in machine.ok("xl list")
        assert not others(machine.ok("dmesg -l emerg,alert,crit,err,warn").splitlines(), DOM0_SAYS)
        if not rig.is_debian(machine.hypervisor):
            assert not others(machine.hypervisor_log().splitlines(), HYPERVISOR_SAYS)


@pytest.mark.parametrize("cpu", ["core2duo", "max"])
def test_oldest_and_newest_cpu(cpu):
    boots(f"cpu-{cpu}", cpu=cpu)


# dom0's kernel and ramdisk

@pytest.mark.parametrize("form", KERNEL_FORMS)
def test_dom0_kernel_form(form):
    boots(f"form-{form}", kernel=rig.KERNELS / form)


def test_dom0_ramdisk_may_be_gzipped(scratch):
    packed = scratch / "initrd.gz"
    packed.write_bytes(gzip.compress(SMALL.read_bytes(), 1))
    boots("initrd-gzip", initrd=packed)


def test_dom0_ramdisk_may_be_large(scratch):
    """200 MiB behind the archive, which Linux skips: zeros, so that it costs the emulation little."""
    large = scratch / "initrd"
    large.write_bytes(SMALL.read_bytes().ljust(200 << 20, b"\0"))
    boots("initrd-large", initrd=large, memory=2048, cmdline="dom0_mem=768M")


def test_dom0_without_ramdisk_starts_its_kernel():
    with small_machine("no-initrd", initrd=rig.KERNELS / "vmlinux.gz") as machine:
        modules = f"{machine.kernel} {machine.dom0_args}"
        machine.close()
        machine.boot_arguments = lambda: ["-kernel", str(machine.plain_hypervisor()), "-append", machine.cmdline,
                                          "-initrd", modules.replace(",", ",,")]
        machine.start()
        machine.expect("Unable to mount root fs", 120)


# Memory

def memory_of_dom0(words, base=rig.HYPERVISOR_ARGS.split(" dom0_mem")[0], **settings):
    """MemTotal in MiB that dom0 sees with these words on the hypervisor's command line, and its xl list line."""
    with rig.Machine(name="dom0-mem", base_cmdline=base, cmdline=words, **settings) as machine:
        machine.wait_for_dom0()
        return int(machine.ok("xl list | awk '$1 == \"Domain-0\" { print $3 }'"))


@pytest.mark.parametrize("words, mib", [("dom0_mem=360448", 352), ("dom0_mem=340M", 340),
                                        ("dom0_mem=min:128M,max:384M", 384)])
def test_dom0_mem(words, mib):
    assert memory_of_dom0(words) == pytest.approx(mib, abs=2)


@pytest.mark.pvisor_only
def test_dom0_mem_without_a_suffix_is_in_kib():
    """An old menu's dom0_mem=65536 is 64 MiB: too little for this kernel, and the refusal says so."""
    refused("dom0-mem-kib", r"dom0 has 65536 KiB; its kernel and initrd need at least \d+ KiB",
            base_cmdline="console=com1 com1=115200,8n1 dom0_mem=65536")


def test_memory_above_4_gib():
    """A machine with 5 GiB, 3 of them above the hole at 4 GiB; dom0 alone is larger than what lies below."""
    with rig.Machine(name="above-4g", memory=5120, cmdline="dom0_mem=4096M,max:4096M") as machine:
        machine.wait_for_dom0()
        assert int(machine.ok("xl info total_memory")) > 5000
        # tmpfs fills pages wherever they are; the sums must agree when read back.
        total = int(machine.ok("awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo"))
        assert total > 3800


def test_dom0_without_a_maximum_can_grow():
    words = rig.HYPERVISOR_ARGS.replace(",max:512M", "")
    with rig.Machine(name="dom0-grows", base_cmdline=words) as machine:
        machine.wait_for_dom0()
        machine.ok("xl mem-set 0 640")
        machine.wait_until("[ $(xl list | awk '$1 == \"Domain-0\" { print $3 }') -ge 638 ]")


@pytest.mark.pvisor_only
def test_memory_map_in_many_pieces(scratch):
    """GRUB cuts holes into it: 300 pieces, and none of the memory between them is lost."""
    holes = [f"cutmem {0x20000000 + i * 0x100000:#x} {0x20001000 + i * 0x100000:#x}" for i in range(300)]
    disk = rig.grub_disk(scratch / "disk.img", holes + rig.multiboot_entry(), files("vmlinux.gz", SMALL))
    with small_machine("many-pieces", boot_disk=rig.Disk(disk, "ahci")) as machine:
        assert int(machine.expect(r"System RAM: (\d+) MiB", 120)[1]) > 1400
        machine.expect(SMALL_READY, 240)


# QEMU backs only what is touched: the hypervisor's tables, 20 bytes for a frame, and what dom0 needs of its memory.
@pytest.mark.pvisor_only
@pytest.mark.parametrize("gib, words", [(72, ""), (440, "dom0_mem=128M")])
def test_large_machine(gib, words):
    """72 GiB, all of them dom0's; and more than has tables for it below 4 GiB."""
    rig.make("-C", "tests/guests", "S=smoke")
    backend = ["-object", f"memory-backend-ram,id=ram,size={gib}G,reserve=off", "-machine", "memory-backend=ram"]
    with small_machine(f"large-{gib}", kernel=rig.TOP / "build/guests/smoke-pt64", memory=gib << 10, extra=backend,
                       base_cmdline="console=com1 com1=115200,8n1 loglvl=all", cmdline=words) as machine:
        assert int(machine.expect(r"System RAM: (\d+) MiB", 240)[1]) > gib * 1000       # tables take 5 of 1024
        machine.expect(r"PVTEST \d+ passed, 0 failed", 240)


# The command line

@pytest.mark.pvisor_only
def test_unknown_words_are_named():
    log = boots("unknown-words", kernel=rig.KERNELS / "vmlinux.gz", cmdline="nosuchword=1 anotherword")
    for word in ("nosuchword=1", "anotherword"):
        assert f"unknown word '{word}'" in log


@pytest.mark.pvisor_only
@pytest.mark.parametrize("word", ["dom0_max_vcpus=many", "loglvl=loud", "com2=fast", "dom0_mem=50%%"])
def test_malformed_words_are_named(word):
    log = boots("malformed-words", kernel=rig.KERNELS / "vmlinux.gz", cmdline=word)
    assert f"'{word}' is malformed" in log


def test_known_words_are_accepted():
    words = "maxcpus=1 dom0_max_vcpus=1 noreboot loglvl=warning/all guest_loglvl=none/all physdev_dom0_hide=(00:1f.3)"
    log = boots("known-words", kernel=rig.KERNELS / "vmlinux.gz", cmdline=words)
    assert not re.search(r"(?i)unknown.*(maxcpus|dom0_max_vcpus|noreboot|loglvl|physdev_dom0_hide)", log)


@pytest.mark.pvisor_only
def test_hidden_device_is_not_dom0s():
    with rig.Machine(name="hidden-device", nic=None, cmdline="physdev_dom0_hide=(00:1f.3)") as machine:
        machine.wait_for_dom0()
        assert "ready" in machine.ok("echo ready")
        assert not machine.run("ls -d /sys/bus/pci/devices/0000:00:1f.3/driver 2>/dev/null").strip()


# The end

def test_power_off():
    with rig.Machine(name="power-off", reboots=True) as machine:
        machine.wait_for_dom0()
        machine.start_command("poweroff -f")
        machine.expect_exit(60)


def test_reboot():
    with rig.Machine(name="reboot", reboots=True) as machine:
        machine.wait_for_dom0()
        machine.start_command("reboot -f")
        machine.expect(r"Command line", 120)
        machine.expect(r"dom0: ready", 240)


def test_dom0_that_crashes_is_reported_and_the_machine_reboots():
    with rig.Machine(name="dom0-crash") as machine:
        machine.wait_for_dom0()
        machine.start_command("echo c > /proc/sysrq-trigger")
        machine.expect(r"(?i)dom(ain)? ?0 .*crashed", 60)
        machine.expect_exit(90)


def test_noreboot_keeps_the_machine_still_after_dom0_crashed():
    with rig.Machine(name="dom0-crash-noreboot", cmdline="noreboot") as machine:
        machine.wait_for_dom0()
        machine.start_command("echo c > /proc/sysrq-trigger")
        machine.expect(r"(?i)dom(ain)? ?0 .*crashed", 60)
        with pytest.raises(rig.Failure, match="still runs"):
            machine.expect_exit(10)


# What cannot be dom0

def refused(name, complaint, **settings):
    """The hypervisor must say what is wrong, and stop without starting over."""
    with small_machine(name, cmdline="noreboot", **settings) as machine:
        machine.expect(complaint, 120)


def test_dom0_kernel_truncated(scratch):
    (scratch / "kernel").write_bytes((rig.KERNELS / "vmlinux").read_bytes()[:1 << 20])
    refused("dom0-truncated", r"(?i)\(XEN\).*(truncat|could not|ELF|fail|beyond)", kernel=scratch / "kernel")


def test_dom0_compressed_kernel_truncated(scratch):
    (scratch / "kernel").write_bytes((rig.KERNELS / "vmlinux.gz").read_bytes()[:1 << 20])
    refused("dom0-gz-truncated", r"(?i)\(XEN\).*(truncat|could not|gzip|crc|fail|inflate|compressed)", kernel=scratch / "kernel")


def test_dom0_kernel_not_elf(scratch):
    (scratch / "kernel").write_bytes(b"This is not a kernel.\n" * 1000)
    refused("dom0-not-elf", r"(?i)\(XEN\).*(ELF|could not|format)", kernel=scratch / "kernel")


@pytest.mark.pvisor_only
def test_dom0_kernel_without_xen_notes(scratch):
    (scratch / "kernel").write_bytes((rig.KERNELS / "vmlinux").read_bytes().replace(b"Xen\0", b"Yen\0"))
    refused("dom0-no-notes", r"(?i)\(XEN\).*(note|__xen_guest)", kernel=scratch / "kernel")


@pytest.mark.pvisor_only
def test_cpu_without_what_is_needed():
    refused("no-syscall", r"this CPU says that it lacks SYSCALL: pvisor cannot do without", cpu="Nehalem,-syscall")


def test_dom0_larger_than_its_memory():
    refused("dom0-too-large", r"(?i)\(XEN\).*(memory|could not|not enough|too (small|large))", base_cmdline="console=com1 com1=115200,8n1 dom0_mem=24M")


@pytest.mark.pvisor_only
def test_machine_with_too_little_memory():
    refused("little-memory", r"(?i)\(XEN\).*(memory|could not|not enough)", memory=112)


@pytest.mark.pvisor_only
def test_no_dom0_kernel_at_all():
    with small_machine("no-kernel", cmdline="noreboot") as machine:
        machine.close()
        machine.boot_arguments = lambda: ["-kernel", str(machine.plain_hypervisor()), "-append", machine.cmdline]
        machine.start()
        machine.expect(r"(?i)\(XEN\).*(no .*(kernel|module)|module.*missing)", 60)


# The debug build

@pytest.mark.pvisor_only
def test_debug_build_runs_a_domu_with_its_assertions():
    import subprocess
    done = subprocess.run(["make", "-s", "BUILD=debug", "build/debug/pvisor"], cwd=rig.TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with rig.Machine(name="debug-build", hypervisor="build/debug/pvisor") as machine:
        machine.wait_for_dom0()
        machine.ok("truncate -s 16M /tmp/disk")
        domain = rig.Domain(machine, disk=["/tmp/disk,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()
        domain.ok("dd if=/dev/urandom of=/dev/xvda bs=1M count=4; ping -c 2 10.0.2.15")
        domain.destroy()
        assert "ASSERT" not in machine.transcript()
