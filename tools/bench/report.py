"""Results as a table, as JSON and as a plot."""
import json
import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Optional


@dataclass
class Row:
    """One measurement. less_is_better is False for rates; goal is the limit of the ratio ours / Xen's, if there is one."""
    name: str
    what: str
    unit: str
    ours: Optional[float]
    xen: Optional[float]
    goal: Optional[float] = None
    less_is_better: bool = True
    native: Optional[float] = None

    @property
    def ratio(self):
        return self.ours / self.xen if self.ours and self.xen else None

    @property
    def met(self):
        if self.ratio is None or self.goal is None:
            return None
        return self.ratio <= self.goal if self.less_is_better else self.ratio >= self.goal


def geomean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def table(rows):
    head = ("name", "ours", "Xen", "ratio", "goal", "")
    body = [(f"{row.what} [{row.unit}]" if row.unit != "insns" else row.what, number(row.ours), number(row.xen),
             f"{row.ratio:.2f}" if row.ratio else "-", f"{row.goal:.2f}" if row.goal else "-",
             {True: "", False: "MISSED", None: ""}[row.met]) for row in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
                     for line in [head, *body])


def bars(rows, width=50):
    """The ratios as text: | marks Xen's 1.0."""
    out = []
    for row in rows:
        if row.ratio:
            n = min(int(row.ratio * width + 0.5), width * 3 // 2)
            out.append(f"{row.name:>24} {'#' * n}{' ' * (width - n)}{'|' if n <= width else ''} {row.ratio:.2f}")
    return "\n".join(out)


def svg(rows, title):
    rows = [row for row in rows if row.ratio]
    left, scale, step = 300, 400, 20
    height = step * len(rows) + 60
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + scale + 120}" height="{height}" '
             f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
             f'<text x="10" y="20" font-size="14">{escape(title)}</text>']
    for i, row in enumerate(rows):
        y = 40 + i * step
        colour = "#c0392b" if row.met is False else "#2e7d5b"
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(row.what)}</text>'
                     f'<rect x="{left}" y="{y}" width="{min(row.ratio, 1.25) * scale:.0f}" height="{step - 6}" fill="{colour}"/>'
                     f'<text x="{left + min(row.ratio, 1.25) * scale + 5:.0f}" y="{y + 12}">{row.ratio:.2f}</text>')
    parts.append(f'<line x1="{left + scale}" x2="{left + scale}" y1="34" y2="{height - 20}" stroke="#555" '
                 f'stroke-dasharray="4"/><text x="{left + scale}" y="{height - 6}" text-anchor="middle">Xen</text></svg>')
    return "\n".join(parts)


def write(directory, rows, facts):
    directory.mkdir(parents=True, exist_ok=True)
    results = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows]
    (directory / "results.json").write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")
    (directory / "results.svg").write_text(svg(rows, "Cost relative to Debian's Xen 4.17 (1.0)") + "\n")
    (directory / "results.txt").write_text(table(rows) + "\n\n" + bars(rows) + "\n")
