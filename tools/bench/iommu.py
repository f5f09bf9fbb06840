"""What an IOMMU costs dom0, whose disk and cards are the machine's: the same work behind it with `iommu=on` and with `iommu=off`.

A figure is all the instructions that the machine executes for one operation, guests' and hypervisor's, without the time in which it
waits for a device. The disk is an NVMe controller's over nothing (null-co), the network two e1000e on one wire, both of them dom0's.
"""
from collections import namedtuple

import report
import systems

Figure = namedtuple("Figure", "what limit")
PREFIX = "iommu:"
MODES = ("off", "on")
LIMIT = 1.05        # on, of off
SIZES = {"read1m": ", 1M", "write1m": ", 1M", "tcp": ", 64K", "tcp_back": ", 64K"}
WORK = {name: systems.WORK[name][0].replace("to dom0", "out").replace("from dom0", "in").replace(", 1M", "") + SIZES.get(name, "")
        for name in ("read4k", "write4k", "random", "read1m", "write1m", "tcp", "tcp_back", "udp")}
NAMES = {PREFIX + name: Figure(what, LIMIT) for name, what in WORK.items()}
DEVICES = ["-device", "intel-iommu,intremap=on",
           "-blockdev", "null-co,node-name=disk,size=67108864,read-zeroes=on", "-device", "nvme,drive=disk,serial=disk",
           *(argument for card in "ab" for argument in ("-netdev", f"hubport,hubid=1,id={card}", "-device", f"e1000e,netdev={card}"))]


def costs(passed, operations):
    """{name: instructions for an operation, of the best round}."""
    for n, name in enumerate(systems.WORK):
        rounds = [systems.in_all(pair) for pair in systems.spans(passed, systems.BEFORE + n, systems.AFTER + n)]
        if rounds and name in operations:
            yield name, min(rounds) / operations[name]


def one(hypervisor, options, mode, names, progress, scratch):
    """{name: instructions}. Nothing if the hypervisor does not say of the IOMMU what it was told."""
    command = systems.linux(hypervisor, options, scratch, f"bench.devices={','.join(names)}", DEVICES, f"iommu={mode}")
    operations, is_on = {}, None
    for _, kind, name, values in systems.converse(command, options, progress):
        if kind == "WORK":
            operations[name] = int(values[1])
        elif name == "virt_caps":
            is_on = "pv_directio" in values
    if is_on is not (mode == "on"):
        progress(f"iommu={mode}, but it is {'on' if is_on else 'off'}", keep=True)
        return {}
    return dict(costs(systems.marks(scratch), operations))


def run(hypervisor, options, wanted, progress, scratch):
    """{iommu:NAME: {mode: instructions}}"""
    names = [name for name in WORK if PREFIX + name in wanted]
    found = {mode: one(hypervisor, options, mode, names, lambda text, mode=mode, **more: progress(f"iommu={mode}: {text}", **more), scratch)
             for mode in MODES}
    return {PREFIX + name: {mode: found[mode].get(name) for mode in MODES} for name in names}


def ratio(figures):
    return figures["on"] / figures["off"] if figures and all(figures.get(mode) for mode in MODES) else None


def missed(name, found):
    measured = ratio(found.get("ours", {}).get(name))
    return measured is not None and measured > NAMES[name].limit


def table(found, names):
    """found: {hypervisor: {benchmark: figures of run()}}."""
    hypervisors = [h for h in ("ours", "Xen") if h in found]
    head = ["", *(text for h in hypervisors for text in (f"{h}, off", "on", "on/off")), "goal", ""]
    body = [[NAMES[name].what,
             *(text for h in hypervisors for text in cells(found[h].get(name) or {})),
             f"<= {NAMES[name].limit:.2f}", "MISSED" if missed(name, found) else ""] for name in names]
    return report.columns([head, *body])


def cells(figures):
    return [*(report.number(figures.get(mode)) for mode in MODES), f"{ratio(figures):.3f}" if ratio(figures) else "-"]


def as_json(found, names):
    return [{"name": name, **NAMES[name]._asdict(), **{h: found[h].get(name) for h in found}, "met": not missed(name, found)}
            for name in names]
