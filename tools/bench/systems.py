"""The machine as a whole: what a boot costs up to dom0's first instructions, and what memory the hypervisor keeps."""
import re
from collections import namedtuple

import machine

System = namedtuple("System", "what unit goal less_is_better")
NAMES = {
    "boot": System("boot, firmware included, until a small dom0 runs", "insns", 0.6, True),
    "memory_512": System("memory kept, of 512 MiB", "KiB", 0.5, True),
    "memory_2048": System("memory kept, of 2 GiB", "KiB", 0.5, True),
    "image": System("compressed image", "bytes", None, True),
}


def boot(hypervisor, options, memory):
    """{figure: value} that the benchmark kernel prints about its start on a machine of so many MiB."""
    kernel = machine.TOP / f"build/guests/primitives-{options.format}"
    command = machine.qemu(hypervisor, [f"{kernel} test=start"], memory=memory, dom0="128M", options=options)
    figures = {}
    for line in machine.lines(command, options.timeout):
        if match := re.match(r"BENCH (\w+) (\d+)", line):
            figures[match[1]] = int(match[2])
        elif re.match(r"PVTEST (\d+ passed|panic)", line):
            break
    return figures


def run(hypervisor, options, wanted, progress):
    results = {}
    if "image" in wanted:
        results["image"] = hypervisor.packed.stat().st_size
    for memory in (512, 2048):
        if f"memory_{memory}" in wanted or (memory == 512 and "boot" in wanted):
            figures = boot(hypervisor, options, memory)
            progress(f"{memory} MiB: {figures}")
            if "used_pages" in figures:
                results[f"memory_{memory}"] = memory * 1024 - 4 * figures["used_pages"]
            if memory == 512 and "started" in figures:
                results["boot"] = figures["started"]
    return {name: value for name, value in results.items() if name in wanted}
