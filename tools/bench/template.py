"""What it costs to restore one saved domain again and again: tools/template, beside xl restore of the same file.

The domain is Debian's Linux of 128 MiB, with a disk and a network card, which waits for somebody to talk to. What is counted is all that
runs until the domain could: the hypervisor and dom0 with its kernel, tools, daemons and backends. The domain itself stays paused.
"""
import systems
from figures import Figure

PREFIX = "template:"
NAMES = {PREFIX + name: figure for name, figure in {
    "kept": Figure("a domain of 128 MiB from a template that is kept", "insns", 100_000_000),
    "kept_in": Figure("... and of them in the hypervisor", "insns"),
    "bare_kept": Figure("the same without a disk and a card", "insns"),
    "bare_kept_in": Figure("... in the hypervisor", "insns"),
    "file": Figure("a domain of 128 MiB from a template's file", "insns", 100_000_000),
    "file_in": Figure("... in the hypervisor", "insns"),
    "bare_file": Figure("the same without a disk and a card", "insns"),
    "bare_file_in": Figure("... in the hypervisor", "insns"),
    "make": Figure("the template made of what xl save has written", "insns"),
    "xl": Figure("xl restore of the same file", "insns"),
    "xl_in": Figure("... in the hypervisor", "insns"),
}.items()}
PAIRS = {"xl": (20, 21), "make": (22, 23), "file": (24, 25), "bare_file": (26, 27), "kept": (28, 29),
         "bare_kept": (30, 31)}     # marks


DOM0_MIB = 1024     # it keeps both files in memory


def run(hypervisor, options, wanted, progress, scratch):
    machine = systems.linux(hypervisor, options, scratch, "bench.template=1", DOM0_MIB)
    for _ in systems.converse(machine, options, progress):
        pass        # what is told is in the marks
    figures = {}
    for name, (begin, end) in PAIRS.items():
        for pair in systems.spans(systems.marks(scratch), begin, end):      # of several the last: all that can be known is known by then
            figures |= {PREFIX + name: systems.in_all(pair), PREFIX + f"{name}_in": systems.inside(pair)}
    return {name: figure for name, figure in figures.items() if name in wanted}
