"""Whole systems: Debian's Linux as dom0, as domU and without a hypervisor; boot, life cycle, memory, many domains.

A figure in ns is one of the guest's clock, which under -icount counts instructions. What is spent inside the hypervisor is
counted from outside, by tools/bench/count.c: a plugin for QEMU that tells the hypervisor's addresses from all others.
"""
import re
import struct
from collections import namedtuple

import machine
from report import Goal

CACHE = machine.TOP / "build/cache"
System = namedtuple("System", "what unit goal less_is_better", defaults=(None, True))

# tools/bench/work.c's names: what, unit, and the goals of dom0 and of a domU.
WORK = {
    "getppid": ("getppid", "ns", Goal(1.6, "native"), Goal(1.6, "native")),
    "clock_gettime": ("clock_gettime", "ns", None, None),
    "rdtsc": ("RDTSC", "ns", None, None),
    "fault": ("anonymous page fault", "ns", Goal(1.5, "native"), Goal(1.5, "native")),
    "mprotect": ("mprotect of 32 MiB, and back", "ns", Goal(3, "native"), Goal(3, "native")),
    "munmap": ("munmap, per page", "ns", None, None),
    "fork": ("fork+exit", "ns", Goal(2.2, "native"), Goal(2.2, "native")),
    "exec": ("fork+exec", "ns", None, None),
    "pipe": ("pipe round trip", "ns", Goal(1.5, "native"), Goal(1.5, "native")),
    "read4k": ("block read, 4K", "MB/s", None, Goal(3)),
    "write4k": ("block write, 4K", "MB/s", None, None),
    "read1m": ("block read, 1M", "MB/s", None, None),
    "write1m": ("block write, 1M", "MB/s", None, None),
    "random": ("random read, 4K", "1/s", None, None),
    "tcp": ("TCP to dom0", "MB/s", None, Goal(1.5)),
    "tcp_back": ("TCP from dom0", "MB/s", None, Goal(1.5)),
    "udp": ("UDP round trip", "ns", None, None),
}
# Each Linux that is measured has as much memory, since its page allocator takes pages in batches that grow with it.
MACHINE_MIB, LINUX_MIB = 2048, 512
BEFORE, AFTER = 0x100, 0x200        # marks around the n-th of them
PAIR_WORK = {"tcp": "TCP", "tcp_back": "TCP, back", "udp": "UDP round trip"}
LOOPBACK = {"tcp": "TCP, loopback", "tcp_back": "TCP, loopback, back", "udp": "UDP round trip, loopback"}
CROWDS = (1, 4, 16, 64)
CROWD_WORK = ("getppid", "fork", "pipe")

# Other marks.
KERNEL, USER = 0xfffe, 0xffff
CREATE, CREATED, DOMU_USER, DESTROY, DESTROYED, CREATE_IDLE, CREATED_IDLE, PAIR = range(1, 9)


def work_rows():
    for name, (what, unit, goal, _) in WORK.items():
        yield f"dom0_{name}", System(f"dom0: {LOOPBACK.get(name, what)}", unit, goal, unit == "ns")
    for name, (what, unit, _, goal) in WORK.items():
        yield f"domu_{name}", System(f"domU: {what}", unit, goal, unit == "ns")


def pair_rows():
    for name, what in PAIR_WORK.items():
        yield f"pair_{name}", System(f"domU to domU: {what}", WORK[name][1], None, WORK[name][1] == "ns")


def crowd_rows():
    for n in CROWDS:
        for name in CROWD_WORK:
            yield f"crowd{n}_{name}", System(f"dom0 beside {n} idle domUs: {WORK[name][0]}", "ns")
        yield f"crowd{n}_create", System(f"xl create of idle domU {n}, in the hypervisor", "insns", Goal(0.5))


BOOT = {
    "boot": System("boot, firmware included, until a small dom0 runs", "insns", Goal(0.6)),
    "memory_512": System("memory kept, of 512 MiB", "KiB", Goal(0.5)),
    "memory_2048": System("memory kept, of 2 GiB", "KiB", Goal(0.5)),
}
LINUX = {
    "boot_kernel": System("boot (xz kernel) until dom0's kernel runs", "insns"),
    "boot_user": System("boot (xz kernel) until dom0's user space runs", "insns", Goal(0.6)),
    "boot_user_in": System("the same, in the hypervisor", "insns"),
    "create": System("xl create until the domU's user space runs", "insns"),
    "create_in": System("the same, in the hypervisor", "insns", Goal(0.5)),
    "destroy_in": System("xl destroy, in the hypervisor", "insns"),
}
# tools/bench/pair.c's.
KERNELS = {
    "pair_round": System("domU to domU: event to one that waits, and back", "insns"),
    "pair_switch": System("switch between two domUs, by yielding", "insns"),
    "pair_map": System("domU to domU: grant mapped and unmapped, one page", "insns"),
    "pair_map_batch": System("domU to domU: grant mapped and unmapped, batch of 32, per page", "insns"),
    "pair_copy": System("domU to domU: grant copy of 4 KiB, batch of 32, per page", "insns"),
}
CROWD = {**dict(crowd_rows()), "memory_domain": System("memory of an idle domU of 8 MiB, beyond these", "KiB", Goal(0.5))}
IMAGE = {"image": System("compressed image", "bytes")}
NAMES = {**BOOT, **IMAGE, **LINUX, **dict(work_rows()), **KERNELS, **dict(pair_rows()), **CROWD}


def counter(options, scratch):
    """QEMU's arguments for tools/bench/count.c, which writes anew."""
    (scratch / "counts").unlink(missing_ok=True)
    if options.wall_clock:
        return []
    return ["-plugin", f"file={machine.need(CACHE / 'count.so', 'make bench-images')},out={scratch}/counts"]


def boot(hypervisor, options, memory, progress, scratch):
    """
    {figure: value} that the benchmark kernel prints about its start on a machine of so many MiB. The TSC that it prints runs on
    while a CPU waits, so where instructions can be counted, "started" becomes their number.
    """
    kernel = machine.benchmark_kernel("primitives", options)
    command = machine.qemu(hypervisor, [f"{kernel} test=start"], memory, "128M", options, counter(options, scratch))
    figures = machine.figures(command, options, lambda text, **more: progress(f"{memory} MiB: {text}", **more))
    if started := [m for m in marks(scratch) if m.id == KERNEL]:
        figures["started"] = started[0].hypervisor + started[0].other
    return figures


def small_boots(hypervisor, options, wanted, progress, scratch):
    results = {}
    for memory in (512, 2048):
        if f"memory_{memory}" in wanted or (memory == 512 and "boot" in wanted):
            figures = boot(hypervisor, options, memory, progress, scratch)
            if "used_pages" in figures:
                results[f"memory_{memory}"] = memory * 1024 - 4 * figures["used_pages"]
            if memory == 512 and "started" in figures:
                results["boot"] = figures["started"]
    return results


# --- Linux ---

def linux(hypervisor, options, scratch, words, devices=(), hypervisor_words="", dom0_mib=LINUX_MIB):
    """The command line of a machine with Debian's Linux and tools/bench/work-dom0, without a hypervisor if that is None."""
    words = f"quiet rdinit=/bench {options.linux_words} bench.memory={LINUX_MIB} {words}"
    kernel, initrd = (machine.need(CACHE / name, "make bench-images") for name in ("kernel/vmlinuz", "bench-dom0.cpio"))
    extra = counter(options, scratch)
    if hypervisor.elf is None:
        return machine.machine(options, LINUX_MIB, kernel, f"console=ttyS0 {words}", str(initrd), extra)
    module = f"{kernel} console=hvc0 {words}".replace(",", ",,")
    return machine.qemu(hypervisor, [module, initrd], MACHINE_MIB, f"{dom0_mib}M", options, [*extra, *devices], words=hypervisor_words)


Mark = namedtuple("Mark", "id hypervisor other")
MAX_MARKS = 65536


def marks(scratch):
    """What count.c has left, in order."""
    path = scratch / "counts"
    if not path.exists():
        return []
    data = path.read_bytes()
    n = min(struct.unpack_from("<4Q", data)[2], MAX_MARKS)
    return [Mark(*struct.unpack_from("<3Q", data, 32 + 24 * i)) for i in range(n)]


def converse(command, options, progress):
    """(place, line) of what the machine prints: its results, and where they were measured."""
    place = ""
    for line in machine.lines(command, options.timeout):
        if match := re.search(r"BENCH place (.*)", line):
            place = match[1]
        elif match := re.search(r"(WORK|BENCH) (\w+) ?(.*)", line):
            progress(f"{place} {match[2]} {match[3]}".strip())
            yield place, match[1], match[2], match[3].split()
            if match[2] == "end":
                return
        elif "panic" in line or line.startswith(("xl:", "libxl:", "work:", "pvisor-template:", "FAIL")):
            progress(line, keep=True)
    progress("the machine stopped before its end", keep=True)


def spans(passed, first, last):
    """Pairs of marks (first, the next last)."""
    start = None
    for m in passed:
        if m.id == first:
            start = m
        elif m.id == last and start:
            yield start, m
            start = None


def inside(pair): return pair[1].hypervisor - pair[0].hypervisor
def in_all(pair): return inside(pair) + pair[1].other - pair[0].other


def life_cycle(passed):
    at = {m.id: m for m in passed}
    zero = Mark(0, 0, 0)
    pairs = {"boot_kernel": (zero, at.get(KERNEL)), "boot_user": (zero, at.get(USER)), "boot_user_in": (zero, at.get(USER)),
             "create": (at.get(CREATE), at.get(DOMU_USER)), "create_in": (at.get(CREATE), at.get(DOMU_USER)),
             "destroy_in": (at.get(DESTROY), at.get(DESTROYED))}
    return {name: (inside if name.endswith("_in") else in_all)(pair) for name, pair in pairs.items() if all(pair)}


def inside_work(passed, operations):
    """{row.in: instructions in the hypervisor per operation}: of each round, the least. dom0's, the domU's, the pair's."""
    results = {}
    domu, pair = (next((i for i, m in enumerate(passed) if m.id == mark), len(passed)) for mark in (DOMU_USER, PAIR))
    for place, part in (("dom0", passed[:min(domu, pair)]), ("domu", passed[domu:pair]), ("pair", passed[pair:])):
        for n, name in enumerate(WORK):
            rounds = [inside(pair) for pair in spans(part, BEFORE + n, AFTER + n)]
            if rounds and f"{place}_{name}" in operations:
                results[f"{place}_{name}.in"] = min(rounds) / operations[f"{place}_{name}"]
    return results


BYTES = {"read4k": 4096, "write4k": 4096, "read1m": 1 << 20, "write1m": 1 << 20, "tcp": 65536, "tcp_back": 65536}


def each(name, value):
    """ns of one operation, for a figure in any unit."""
    unit = NAMES[name].unit
    return value if unit == "ns" else BYTES.get(name.split("_", 1)[1], 1) * (1000 if unit == "MB/s" else 1e9) / value


def floor(name, ours, other):
    """The ratio to the other's figure if of ours only the guests' own instructions were left."""
    if not NAMES[name].goal or f"{name}.in" not in ours or not other.get(name):
        return None
    own, others = each(name, ours[name]) - ours[f"{name}.in"], each(name, other[name])
    return own / others if NAMES[name].less_is_better else others / own


def one_linux(hypervisor, options, wanted, progress, scratch):
    here, there, between = ([n for n in WORK if f"{place}_{n}" in wanted] for place in ("dom0", "domu", "pair"))
    if hypervisor.elf is None:
        here = [n for n in WORK if n in here or n in there or n in between]
    words = f"bench.work={','.join(here)}"
    if hypervisor.elf:
        if there or any(name in wanted for name in ("create", "create_in", "destroy_in")):
            words += f" bench.domu={','.join(there or ['getppid'])}"
        if any(name in KERNELS for name in wanted):
            words += " bench.kernels=1"
        if between:
            words += f" bench.pair={','.join(between)}"
    results, operations = {}, {}
    for place, kind, name, values in converse(linux(hypervisor, options, scratch, words), options, progress):
        if kind == "WORK":
            key = f"{place.lower()}_{name}"
            results[key], operations[key] = float(values[0]), int(values[1])
        elif name in KERNELS:
            results[name] = int(values[0])
    passed = marks(scratch)
    if hypervisor.elf is None:          # what a domU is compared with, too
        results |= {name.replace("dom0_", place): value for name, value in results.items() for place in ("domu_", "pair_")}
        return results | {k: v for k, v in life_cycle(passed).items() if k in ("boot_kernel", "boot_user")}
    return results | life_cycle(passed) | inside_work(passed, operations)


def crowd(hypervisor, options, wanted, progress, scratch):
    counts = [n for n in CROWDS if any(name.startswith(f"crowd{n}_") for name in wanted)] or [4]
    words = f"bench.domains={','.join(map(str, counts))} bench.work={','.join(CROWD_WORK)}"
    results, pages = {}, []
    for place, kind, name, values in converse(linux(hypervisor, options, scratch, words), options, progress):
        if kind == "WORK" and (match := re.match(r"(\d+) domains", place)):
            results[f"crowd{match[1]}_{name}"] = float(values[0])
        elif name == "domain" and len(values) == 2:
            pages.append(int(values[1]))
    for n, pair in zip(counts, spans(marks(scratch), CREATE_IDLE, CREATED_IDLE)):
        results[f"crowd{n}_create"] = inside(pair)
    if pages:
        results["memory_domain"] = 4 * sum(pages) / len(pages) - 8192
    return results


def run(hypervisor, options, wanted, progress, scratch):
    results = {}
    if hypervisor.elf:
        if "image" in wanted:
            results["image"] = hypervisor.packed.stat().st_size
        results |= small_boots(hypervisor, options, wanted, progress, scratch)
    if any(name in LINUX or name.startswith(("dom0_", "domu_", "pair_")) for name in wanted):
        results |= one_linux(hypervisor, options, wanted, progress, scratch)
    if hypervisor.elf and any(name in CROWD for name in wanted):
        results |= crowd(hypervisor, options, wanted, progress, scratch)
    return {name: value for name, value in results.items() if name.split(".")[0] in wanted}
