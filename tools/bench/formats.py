"""The three page-table formats beside each other: the primitives of ours, by one benchmark kernel in three builds."""
import argparse
from dataclasses import dataclass
from typing import Optional

import primitives
import report

FORMATS = ("pt64", "pt32p", "pt32")
GOALS = {"pt32p": 1.2, "pt32": 2.0}     # of pt64, of pt32p
PREFIX = "formats:"

# These have goals: page-table updates, page faults that map a page, switches of address spaces.
WITH_GOALS = {
    "update_va_mapping": None,
    "mmu_update": None,
    "mmu_update_batch": None,
    "pte_write": None,
    "demand_fault": "demand page fault: update_va_mapping, and back",
    "demand_fault_clean": "the same, entry neither accessed nor dirty",
    "new_baseptr": None,
    "address_switch": "address-space switch as kernels make it",
}
OTHERS = {"top_entries": "the same by three L3 entries and a flush"}
WHAT = {**primitives.NAMES, **OTHERS, **{name: what for name, what in WITH_GOALS.items() if what}}
NAMES = {PREFIX + name: WHAT[name] for name in [*WITH_GOALS, *OTHERS, *(n for n in primitives.NAMES if n not in WITH_GOALS)]}


@dataclass
class Row:
    """One primitive in each format. None: the format has no such thing."""
    name: str
    what: str
    pt64: Optional[float]
    pt32p: Optional[float]
    pt32: Optional[float]

    def ratio(self, form):
        figure, base = getattr(self, form), getattr(self, FORMATS[FORMATS.index(form) - 1])
        return figure / base if figure is not None and base else None

    def goal(self, form):
        return GOALS[form] if self.name in WITH_GOALS else None

    def missed(self):
        return [form for form in GOALS if self.goal(form) and (self.ratio(form) or 0) > self.goal(form)]


def run(hypervisor, options, wanted, progress):
    """{formats:name: {format: instructions per operation}}"""
    names = [name.removeprefix(PREFIX) for name in wanted]
    found = {name: {} for name in wanted}
    for form in FORMATS:
        this = argparse.Namespace(**{**vars(options), "format": form})
        for name, figure in primitives.run(hypervisor, this, names, lambda text, **more: progress(f"{form} {text}", **more)).items():
            found[PREFIX + name][form] = figure
    return found


def rows(found):
    """found: what run() returned."""
    for name, figures in found.items():
        name = name.removeprefix(PREFIX)
        yield Row(name, WHAT[name], *(figures.get(form) for form in FORMATS))


def table(rows_):
    head = ["", *FORMATS, "pt32p/pt64", "goal", "pt32/pt32p", "goal", ""]
    body = []
    for row in rows_:
        cells = [row.what, *(report.number(getattr(row, form)) for form in FORMATS)]
        for form in GOALS:
            cells += [report.ratio_text(row.ratio(form)), f"<= {row.goal(form):.1f}" if row.goal(form) else "-"]
        body.append(cells + ["MISSED" if row.missed() else ""])
    return report.columns([head, *body])


def as_json(rows_):
    return [{**vars(row), "ratio": {form: row.ratio(form) for form in GOALS}, "goal": {form: row.goal(form) for form in GOALS},
             "missed": row.missed()} for row in rows_]
