"""Results as a table, as JSON and as a plot."""
import json
import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Optional


@dataclass
class Goal:
    """The limit of the ratio ours / other's, the other being Xen or native Linux."""
    limit: float
    of: str = "Xen"


@dataclass
class Row:
    """One measurement. less_is_better is False for rates. floor: the goal's ratio, had the hypervisor cost nothing at all."""
    name: str
    what: str
    unit: str
    ours: Optional[float]
    xen: Optional[float]
    goal: Optional[Goal] = None
    less_is_better: bool = True
    native: Optional[float] = None
    floor: Optional[float] = None

    @property
    def ratio(self):
        return self.ours / self.xen if self.ours is not None and self.xen else None

    @property
    def native_ratio(self):
        return self.ours / self.native if self.ours is not None and self.native else None

    @property
    def met(self):
        ratio = self.goal and (self.ratio if self.goal.of == "Xen" else self.native_ratio)
        if ratio is None:
            return None
        return ratio <= self.goal.limit if self.less_is_better else ratio >= self.goal.limit


def geomean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def ratio_text(value):
    return "-" if value is None else f"{value:.2f}"


def goal_text(row):
    if not row.goal:
        return "-"
    return f"{'<=' if row.less_is_better else '>='} {row.goal.limit:.2f}" + (" native" if row.goal.of == "native" else "")


def table(rows):
    """Text. The columns about native Linux only if a row has such a figure."""
    native = any(row.native is not None for row in rows)
    floor = any(row.floor is not None for row in rows)
    head = ["", "ours", "Xen", "ours/Xen"] + (["native", "ours/native"] if native else []) + ["goal"] + \
           (["floor"] if floor else []) + [""]
    body = [[f"{row.what} [{row.unit}]" if row.unit != "insns" else row.what, number(row.ours), number(row.xen),
             ratio_text(row.ratio)] + ([number(row.native), ratio_text(row.native_ratio)] if native else []) +
            [goal_text(row)] + ([ratio_text(row.floor)] if floor else []) + ["MISSED" if row.met is False else ""]
            for row in rows]
    return columns([head, *body])


def columns(lines):
    """Lists of cells as text: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip()
                     for line in lines)


def bars(rows, width=50):
    """The ratios as text: | marks Xen's 1.0."""
    out = []
    for row in rows:
        if row.ratio is not None:
            n = min(int(row.ratio * width + 0.5), width * 3 // 2)
            out.append(f"{row.name:>24} {'#' * n}{' ' * (width - n)}{'|' if n <= width else ''} {row.ratio:.2f}")
    return "\n".join(out)


def svg(rows, title):
    rows = [row for row in rows if row.ratio is not None]
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


def write(directory, tables, facts, others):
    """tables: {title: rows}, of which the first is plotted. others: {title: (text, what json makes of it)}."""
    directory.mkdir(parents=True, exist_ok=True)
    results = {title: [asdict(row) | {"ratio": row.ratio, "native_ratio": row.native_ratio, "met": row.met} for row in rows]
               for title, rows in tables.items()}
    results |= {title: plain for title, (_, plain) in others.items()}
    first = next(iter(tables.values()), [])
    texts = {title: table(rows) for title, rows in tables.items()} | {title: text for title, (text, _) in others.items()}
    (directory / "results.json").write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")
    (directory / "results.svg").write_text(svg(first, "Relative to Debian's Xen 4.17 (1.0)") + "\n")
    (directory / "results.txt").write_text("\n\n".join(f"{title}\n\n{text}" for title, text in texts.items()) +
                                           "\n\n" + bars(first) + "\n")
