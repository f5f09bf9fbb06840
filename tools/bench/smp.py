"""What CPUs cost each other: rates of several at once, wake-ups and interrupts between them, switches on one.

The kernel is tools/bench/cpus.c. A scaling is N times the cost of one operation on one CPU over its cost when N CPUs make it
at once. Under -icount the CPUs take turns: what shows is work that grows with the CPUs (waiting for locks, cross calls), not
the traffic of caches, which only real CPUs have.
"""
from collections import namedtuple

import machine

Figure = namedtuple("Figure", "what unit goal less_is_better")
NAMES = {
    "wake": Figure("wake a blocked vCPU on another CPU", "insns", None, True),
    "ipi": Figure("event to a vCPU running on another CPU, to its handler", "insns", None, True),
    "switch": Figure("switch between two vCPUs on one CPU", "insns", None, True),
    "hypercall_scale": Figure("empty hypercalls: 4 CPUs over one", "times", None, False),
    "event_scale": Figure("events to oneself: 4 CPUs over one", "times", None, False),
}
TESTS = {"wake": ("wake", 2), "ipi": ("ipi", 2), "switch": ("switch_vcpus", 1), "hypercall_scale": ("scale", 4),
         "event_scale": ("scale", 4)}


def measure(hypervisor, options, test, cpus, progress):
    """{name: figure} that one test of the kernel prints on a machine of so many CPUs."""
    kernel = machine.benchmark_kernel("cpus", options)
    words = f"dom0_max_vcpus={max(cpus, 2)}"
    command = machine.qemu(hypervisor, [f"{kernel} test={test}"], memory=512, dom0="128M", options=options, cpus=cpus, words=words)
    return machine.figures(command, options, progress)


def run(hypervisor, options, wanted, progress):
    figures = {}
    for test, cpus in dict.fromkeys(TESTS[name] for name in wanted):
        figures |= measure(hypervisor, options, test, cpus, progress)
    for name in ("hypercall", "event"):
        if f"{name}_1" in figures and f"{name}_4" in figures:
            figures[f"{name}_scale"] = 4 * figures[f"{name}_1"] / figures[f"{name}_4"]
    return {name: value for name, value in figures.items() if name in wanted}
