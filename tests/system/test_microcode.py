"""Microcode by the boot loader and by xen-ucode. An emulated CPU has revision 1 and takes no patch: that is what must be said of it."""
import struct

import pytest

import rig

NEHALEM = 0x106a3       # CPUID's leaf 1, eax, of QEMU's model


def intel_patch(revision, signature=NEHALEM):
    data = bytes(range(64))

    def packed(checksum):
        return struct.pack("<12I", 1, revision, 0x11282026, signature, checksum, 1, 0xff, len(data), 48 + len(data), 0, 0, 0) + data
    return packed(-sum(struct.unpack("<28I", packed(0))) & 0xffffffff)


def archive(name, content):
    """A cpio archive as Linux wants it in front of its ramdisk."""
    def entry(name, content):
        head = "070701" + "".join(f"{n:08x}" for n in (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0))
        start = head.encode() + name.encode() + b"\0"
        return start + b"\0" * (-len(start) % 4) + content + b"\0" * (-len(content) % 4)
    return entry(name, content) + entry("TRAILER!!!", b"")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    initrd = tmp_path_factory.mktemp("microcode") / "initrd"
    initrd.write_bytes(archive("kernel/x86/microcode/GenuineIntel.bin", intel_patch(0x11)) + rig.DEBIAN12.dom0.read_bytes())
    with rig.Machine("microcode", cmdline="ucode=scan", initrd=initrd) as machine:
        machine.wait_for_dom0()
        yield machine


def test_the_ramdisks_microcode_is_found_and_what_the_cpu_did_is_told(machine):
    text = machine.transcript()
    assert "Microcode: 112 bytes in the ramdisk that is searched (ucode=scan)" in text
    assert "Microcode: revision 0x1 to 0x11 on 0 of 1 CPUs" in text
    assert "not every CPU took the patch of revision 0x11" in text


@pytest.mark.parametrize("content, said, error", [
    (intel_patch(0x12), "not every CPU took the patch of revision 0x12", "Input/output error"),
    (intel_patch(1), "has revision 0x1, and 0x1 is loaded", "already up to date"),
    (intel_patch(9, 0x306c3), "there is no patch for this CPU (Intel, signature 0x106a3, platform 0x1)", "No such file or directory"),
    (intel_patch(9)[:-4], "the file ends within a patch", "Invalid argument"),
    (intel_patch(9)[:-4] + b"spoi", "a patch has a wrong checksum", "Invalid argument"),
], ids=["deaf", "old", "another CPU's", "cut", "spoilt"])
def test_xen_ucode_is_told_why(machine, tmp_path, content, said, error):
    file = tmp_path / "patch"
    file.write_bytes(content)
    rig.put(machine, file, "/tmp/patch")
    machine.ok("xl dmesg -c > /dev/null")
    result = machine.run("/usr/lib/xen-4.17/bin/xen-ucode /tmp/patch 2>&1")
    assert error in result
    assert said in machine.hypervisor_log()
