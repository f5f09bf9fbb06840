"""SMAP: an access of the hypervisor's to a guest's memory that nobody opened stops it and is named, in each page-table format."""
import bisect
import re
import struct
import subprocess

import pytest

import rig

pytestmark = pytest.mark.pvisor_only

IMAGE, SYMBOLS = rig.TOP / "build/xen", rig.TOP / "build/xen-syms"
LOADED_AT = 0xffff82d040200000      # the file's first byte: IMAGE_START and LOAD_BASE
STOPPED = "unexpected access to a guest's closed memory in the hypervisor"


def kinds():
    """{SITE_*: its number}, of asm/sites.h."""
    text = re.sub(r"/\*.*?\*/", "", (rig.TOP / "include/asm/sites.h").read_text(), flags=re.S)
    return {name: number for number, name in enumerate(re.findall(r"SITE_\w+", re.search(r"enum \{(.*?)\}", text, re.S)[1]))}


def symbols():
    """[(address, name)], without what NASM calls its macros' labels."""
    lines = subprocess.run(["nm", "-n", SYMBOLS], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(at, 16), name) for at, _, name in map(str.split, lines) if not name.startswith("..@")]


def sites():
    """[(offset in the file of its kind, kind, address, function)] of all places that are patched at boot."""
    image, table = IMAGE.read_bytes(), symbols()
    places, addresses = {name: at for at, name in table}, [at for at, _ in table]
    found = []
    for entry in range(places["__sites"], places["__sites_end"], 8):
        offset, kind = struct.unpack_from("<iI", image, entry - LOADED_AT)
        at = entry + offset
        found.append((entry + 4 - LOADED_AT, kind, at, table[bisect.bisect_right(addresses, at) - 1][1]))
    return found


def forgetting_to_open(directory, function):
    """The hypervisor with each guest_open() of the function become a guest_close()."""
    image, kind = bytearray(IMAGE.read_bytes()), kinds()
    mine = [place for place, k, _, name in sites() if k == kind["SITE_OPEN"] and name == function]
    assert mine, f"{function} opens nothing"
    for place in mine:
        struct.pack_into("<I", image, place, kind["SITE_CLOSE"])
    path = directory / "xen"
    path.write_bytes(image)
    return path


def run(hypervisor, form, *words):
    command = [rig.TOP / "tests/guests/run", "--hypervisor", hypervisor, "--model", "intel", "--format", form, "--verbose", *words, "traps"]
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", autouse=True)
def kernels():
    subprocess.run(["make", "-s", "-C", rig.TOP / "tests/guests", "S=traps"], check=True)


@pytest.mark.parametrize("form, function", [
    ("pt64", "copy_raw"), ("pt64", "do_multicall"), ("pt64", "pv_deliver_page_fault_64"), ("pt64", "trap_ud"), ("pt64", "short_syscall"),
    ("pt64", "short_iret"), ("pt32p", "copy_raw"), ("pt32", "copy_raw")])
def test_what_is_not_opened_stops_it(scratch, form, function):
    output = run(forgetting_to_open(scratch, function), form)
    assert STOPPED in output
    assert re.search(r"rip [0-9a-f]{4}:[0-9a-f]{16}", output)


def test_it_is_smap_that_stops_it(scratch):
    assert " 0 failed" in run(forgetting_to_open(scratch, "copy_raw"), "pt64", "--cmdline", "smap=no")


def test_prefixes_belong_to_an_instruction(scratch):
    """guest_open() and guest_close() stand in front of what the compiler puts there: with them it must not be too long."""
    plain = scratch / "without-symbols"     # at which objdump would begin anew, behind the prefixes
    subprocess.run(["objcopy", "--strip-all", SYMBOLS, plain], check=True)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", plain], capture_output=True, text=True, check=True).stdout
    lines = [(int(m[1], 16), m[2]) for m in re.finditer(r"^ *([0-9a-f]{16}):\t(.*)$", code, re.M)]
    following = {at: (text, after - at) for (at, text), (after, _) in zip(lines, lines[1:])}
    in_front = [at for _, kind, at, _ in sites() if kind in (kinds()["SITE_OPEN"], kinds()["SITE_CLOSE"])]
    assert in_front
    for at in in_front:
        text, length = following.get(at, ("in the middle of one", 0))
        assert 3 < length <= 15 and not re.match(r"(ds |\(bad\))*$", text.strip() + " "), f"{at:#x}: {text}, {length} bytes"
