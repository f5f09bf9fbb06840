"""What live migration costs: the log of a domain's writes, and a domain that is sent to the same host over a link of 1 Gbit/s.

tools/bench/logged.c works in Debian's Linux as a domU and is the link; tools/bench/dirty-log.c keeps the log from dom0. One CPU does all of
it, sender and receiver too, so a domain's time at rest has what the tools do in it. Debian's Xen has no shadow paging and refuses.
"""
from statistics import mean

import primitives
import systems
from figures import Figure

PREFIX = "migrate:"
RATES = (0, 10)     # MB/s that are written meanwhile
MEMORY = 512 << 20
NAMES = {PREFIX + name: figure for name, figure in {
    "begin": Figure("a log of 1 GiB begins", "insns"),
    "clean": Figure("CLEAN of 1 GiB, nothing written", "insns", 3_000_000),
    "clean_page": Figure("CLEAN, more for each page written", "insns"),
    "first_write": Figure("first write to a logged page", "insns"),
    "first_write_ratio": Figure("... of a page fault in the kernel, and back", "times", 1.5),
    "work": Figure("work done in a time while it is logged, of what is done else", "times", 0.7, False),
    "down_0": Figure("at rest, of 512 MiB that write nothing", "ms", 20),
    "down_10": Figure("at rest, of 512 MiB that write 10 MB/s", "ms", 60),
    "down_all_0": Figure("... in which so many instructions run", "insns"),
    "down_in_0": Figure("... and of them in the hypervisor", "insns"),
    "down_all_10": Figure("the same, writing 10 MB/s", "insns"),
    "down_in_10": Figure("... in the hypervisor", "insns"),
    "sent_0": Figure("sent, of its memory, writing nothing", "times"),
    "sent_10": Figure("sent, of its memory, writing 10 MB/s", "times", 1.3),
    "other_0": Figure("longest wait for the CPU before that, writing nothing", "ms"),
    "other_10": Figure("longest wait for the CPU before that, writing 10 MB/s", "ms"),
}.items()}
CLEAN, CLEANED, BEGIN, BEGUN, BEAT, WAS_DOWN = range(9, 15)     # marks


def log_figures(passed, pages, rounds, logged):
    """passed: marks. pages: dirty ones of each CLEAN. rounds: (ns, least first write). logged: from which of these to before which."""
    cleans = [systems.inside(pair) for pair in systems.spans(passed, CLEAN, CLEANED)]
    rest = [cost for cost, n in zip(cleans, pages) if not n]
    yield "begin", sum(systems.inside(pair) for pair in systems.spans(passed, BEGIN, BEGUN))
    if rest:
        yield "clean", rest[-1]
        yield "clean_page", mean((cost - rest[-1]) / n for cost, n in zip(cleans, pages) if n)
    first, end = logged
    if writes := [write for _, write in rounds[first:end] if write]:
        yield "first_write", min(writes)
    if first > 1 and end > first + 1:
        yield "work", mean(ns for ns, _ in rounds[1:first]) / mean(ns for ns, _ in rounds[first + 1:end])


def down_figures(passed):
    """Of each domain's time at rest, in order."""
    downs = [pair for pair in zip(passed, passed[1:]) if pair[1].id == WAS_DOWN]
    for rate, pair in zip(RATES, downs):
        yield f"down_all_{rate}", systems.in_all(pair)
        yield f"down_in_{rate}", systems.inside(pair)


def migration_figures(rate, sent, down, other):
    yield f"down_{rate}", down / 1e6
    yield f"other_{rate}", other / 1e6
    yield f"sent_{rate}", sent / MEMORY


def run(hypervisor, options, wanted, progress, scratch):
    words = f"bench.migrate={','.join(map(str, RATES))}"
    pages, rounds, logged, figures = [], [], (0, 0), {}
    for _, kind, name, values in systems.converse(systems.linux(hypervisor, options, scratch, words), options, progress):
        if name == "clean":
            pages.append(int(values[0]))
        elif kind == "WORK" and name == "churn":
            rounds.append(tuple(map(int, values)))
        elif name == "logged":
            logged = tuple(map(int, values))
        elif name == "migrated":
            rate, sent, _, _, down, other = values[:6]
            figures |= migration_figures(int(rate), int(sent), int(down), int(other))
    figures |= down_figures(systems.marks(scratch))
    if pages:
        figures |= log_figures(systems.marks(scratch), pages, rounds, logged)
    if "first_write" in figures:
        fault = primitives.run(hypervisor, options, ["page_fault"], progress)
        figures["first_write_ratio"] = figures["first_write"] / fault["page_fault"]
    return {PREFIX + name: figure for name, figure in figures.items() if PREFIX + name in wanted}
