"""pvisor-inspect: what it says of kernel files of every format, and of files that are none. A program of the host: no machine."""
import gzip
import re
import subprocess

import pytest

import rig

INSPECT = rig.TOP / "build/pvisor-inspect"
GUESTS = rig.TOP / "build/guests"
GRUB = rig.CACHE / "root/usr/lib/grub-xen"


@pytest.fixture(scope="module", autouse=True)
def built(images):
    rig.make("build/xen.gz", "inspect")
    rig.make("-C", "tests/guests", "S=smoke")
    rig.build_images("gnumach/gnumach-dbg")


def inspect(*paths):
    """(exit status, text)"""
    done = subprocess.run([INSPECT, *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


# file: what it must say, in this order
RUNS = {
    "debian-xz": (rig.KERNELS / "vmlinuz", [
        "Linux boot image, boot protocol 2", "Packing +xz", "64 bits", "ELF notes", "Guest OS +linux",
        "Requires +writable_page_tables", "Page tables +64-bit\n", "pvisor runs it: a 64-bit", 'kernel = ".*/vmlinuz"']),
    "debian-zstd": (rig.KERNELS / "vmlinuz-zstd", ["Packing +zstd", "pvisor runs it: a 64-bit"]),
    "elf-gz": (rig.KERNELS / "vmlinux.gz", ["Packing +gzip", "Page tables +64-bit\n", 'kernel = ".*/vmlinux.gz"']),
    "pae": (GUESTS / "smoke-pt32p", [
        "32 bits", "ELF notes", "PAE +yes", "Page tables +32-bit PAE\n", "Entry +0xc0101000", 'kernel = ".*/smoke-pt32p"']),
    "nonpae": (GUESTS / "smoke-pt32", [
        "32 bits", "__xen_guest string", "non-PAE", "Page tables +32-bit non-PAE\n", "Hypercall page +0xc0100000",
        "pvisor runs it: a 32-bit non-PAE", 'kernel = "/usr/lib/pvisor/pv-loader-i386"', 'ramdisk = ".*/smoke-pt32"',
        "appended to the file"]),
    "gnumach": (rig.CACHE / "gnumach/gnumach", [
        "__xen_guest string", "GNU Mach", r"PAE +yes\[extended-cr3\]", "Supports +pae_pgdir_above_4gb", "32-bit PAE\n",
        "pvisor runs it: a 32-bit PAE"]),
    "grub32": (GRUB / "grub-i386-xen.bin", ["GRUB", "32-bit PAE\n", "pvisor runs it"]),
}


@pytest.mark.parametrize("kind", RUNS)
def test_describes_a_kernel(kind):
    path, expected = RUNS[kind]
    status, text = inspect(path)
    assert status == 0
    assert re.search(".*".join(expected), text, re.S), text


# What kernels that name no addresses have for theirs.
BARE = {
    "pt64": ["Base +0\n", "Entry +0x1001", "Hypercall page +0x101000", "pvisor runs it: a 64-bit", 'kernel = ".*/bare-pt64"'],
    "pt32p": ["Base +0\n", "Entry +0x100", "Hypercall page +0x101000", "pvisor runs it: a 32-bit PAE", 'kernel = ".*/bare-pt32p"'],
    "pt32": ["Base +0\n", "pvisor runs it: a 32-bit non-PAE", 'ramdisk = ".*/bare-pt32"'],
    "pt32-string": ["Base +0xc0010000", "Kernel from +0xc0010000", "Hypercall page +0xc0011000", "pvisor runs it: a 32-bit non-PAE"],
}


@pytest.mark.parametrize("kind", BARE)
def test_describes_a_kernel_that_names_no_addresses(kind, tmp_path):
    status, text = inspect(rig.bare_kernel(kind, tmp_path))
    assert status == 0
    assert re.search(".*".join(BARE[kind]), text, re.S), text


# A change to that kernel: what xl then says no to, and we take as dom0.
DOM0_ONLY = {
    "version": (b"XEN_VER=xen-3.0", b"XEN_VER=xen-2.0", "this one says xen-2.0"),
    "loader": (b"LOADER=generic", b"LOADER=special", "generic loader"),
}


@pytest.mark.parametrize("change", DOM0_ONLY)
def test_tells_what_xl_does_not_take(change, tmp_path):
    """GNU Mach's string says both; its own entry and base make it a paravirtual kernel all the same."""
    before, after, why = DOM0_ONLY[change]
    content = RUNS["gnumach"][0].read_bytes()
    assert content.count(before) == 1
    path = tmp_path / "kernel"
    path.write_bytes(content.replace(before, after))
    status, text = inspect(path)
    assert status == 0 and re.search(f"pvisor runs it as dom0 only. In a domU: xl .*{why}", text), text


REFUSED = {
    "empty": (b"", "the file is empty"),
    "garbage": (bytes(range(1, 251)) * 20, "neither ELF nor gzip nor a Linux boot image"),
    "program": (rig.Path("/bin/true"), "neither Xen ELF notes nor a __xen_guest section"),
    "pvh-only": (GRUB / "grub-i386-xen_pvh.bin", "no paravirtual entry point"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_says_why_a_file_does_not_run(kind, tmp_path):
    content, why = REFUSED[kind]
    path = tmp_path / kind
    path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    status, text = inspect(path)
    assert status == 1
    assert re.search(f"pvisor does not run it: .*{why}", text), text


HYPERVISORS = {
    "ours": (lambda: rig.TOP / "build/xen.gz", r"gzip, .*Hypervisor +pvisor 0\.1 \(\w+ build\)\n"),
    "ours-unpacked": (lambda: rig.TOP / "build/xen", r"Hypervisor +pvisor 0\.1 \(\w+ build\)\n"),
    "ours-with-symbols": (lambda: rig.TOP / "build/xen-syms", r"ELF\n +Hypervisor +pvisor 0\.1 \(\w+ build\)\n"),
    "debians": (rig.debian_hypervisor, r"gzip, .*Hypervisor +Xen\n"),
}


@pytest.mark.parametrize("kind", HYPERVISORS)
def test_knows_a_hypervisor(kind):
    path, expected = HYPERVISORS[kind]
    status, text = inspect(path())
    assert status == 1
    assert re.search(expected + r" +pvisor does not run it: it is a hypervisor, no kernel", text, re.S), text


@pytest.mark.parametrize("kind", ["debian-xz", "elf-gz", "pae", "nonpae", "gnumach"])
def test_truncated_kernels_are_named_so(kind, tmp_path):
    content = RUNS[kind][0].read_bytes()
    path = tmp_path / "truncated"
    for length in (60, 3000, len(content) // 2):
        path.write_bytes(content[:length])
        status, text = inspect(path)
        assert status == 1
        assert re.search("pvisor does not run it: .*(truncated|corrupt|not a kernel|malformed|ends)", text), (length, text)


LIES = {
    "PAE key that says nothing known": (b"PAE=yes", b"PAE=yep", "PAE=yep"),
    "base in the hypervisor's hole": (b"VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0xC0000000",
                                      b"VIRT_BASE=0xFD000000,ELF_PADDR_OFFSET=0xC0000000", "hole|0xf58|hypervisor|outside|above"),
    "PAE kernel that calls itself non-PAE": (b"PAE=yes[extended-cr3]", b"PAE=no,xxxxxxxxxxxxxx", None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_string_that_lies(lie, tmp_path):
    """The string is all there is to go by: what cannot be is refused, what can be is believed."""
    before, after, why = LIES[lie]
    content = RUNS["gnumach"][0].read_bytes()
    assert content.count(before) == 1 and len(before) == len(after)
    path = tmp_path / "kernel"
    path.write_bytes(content.replace(before, after))
    status, text = inspect(path)
    if why:
        assert status == 1 and re.search(f"pvisor does not run it: .*({why})", text), text
    else:
        assert status == 0 and "pv-loader-i386" in text, text


def test_several_files_and_the_exit_status(tmp_path):
    assert inspect(GUESTS / "smoke-pt32p", GUESTS / "smoke-pt32")[0] == 0
    assert inspect(GUESTS / "smoke-pt32p", "/bin/true")[0] == 1
    status, text = inspect(tmp_path / "absent", GUESTS / "smoke-pt32p")
    assert status == 2
    assert "cannot be read: No such file" in text and "pvisor runs it" in text
    packed = tmp_path / "smoke.gz"
    packed.write_bytes(gzip.compress((GUESTS / "smoke-pt32").read_bytes()))
    assert 'ramdisk = "' + str(packed) in inspect(packed)[1]
