"""Figures of whole operations, each with its goal if there is one, beside another hypervisor's: what migrate.py and template.py measure."""
from collections import namedtuple

import report

Figure = namedtuple("Figure", "what unit limit less_is_better", defaults=(None, True))


def met(figure, value):
    return None if figure.limit is None or value is None else value <= figure.limit if figure.less_is_better else value >= figure.limit


def goal(figure):
    return "-" if figure.limit is None else f"{'<=' if figure.less_is_better else '>='} {report.number(figure.limit)}"


def cell(hypervisor, value):
    return "refused" if hypervisor == "Xen" and value is None else report.number(value)


def table(all_figures, found, names):
    """all_figures: {name: Figure}. found: {hypervisor: {benchmark: figure}}."""
    hypervisors = [h for h in ("ours", "Xen") if h in found]
    body = [[f"{figure.what} [{figure.unit}]", *(cell(h, found[h].get(name)) for h in hypervisors), goal(figure),
             "MISSED" if met(figure, found.get("ours", {}).get(name)) is False else ""]
            for name in names for figure in [all_figures[name]]]
    return report.columns([["", *hypervisors, "goal", ""], *body])


def as_json(all_figures, found, names):
    return [{"name": name, **all_figures[name]._asdict(), **{h: found[h].get(name) for h in found},
             "met": met(all_figures[name], found.get("ours", {}).get(name))} for name in names]
