"""Tables of a comparison as Markdown and LaTeX."""

from __future__ import annotations

import math

from audiointerp.results import text
from audiointerp.results.reading import LEFT_OUT_WHEN_SILENT, describe, format_score
from audiointerp.runs.comparison.tables import Cell, Table

__all__ = ["latex", "markdown"]


def _text(cell: Cell, metric: str, plain: bool = False) -> str:
    if not cell.n:
        counted = f" ({cell.silent} silent)" if cell.silent and metric in LEFT_OUT_WHEN_SILENT else ""
        return ("-" if plain else "–") + counted
    shown = format_score(cell.mean, describe(metric).unit, show_unit=False)
    if math.isfinite(cell.low):
        shown += f" [{', '.join(format_score(each, describe(metric).unit, False) for each in (cell.low, cell.high))}]"
    if math.isfinite(cell.sd):
        shown += f" ± {format_score(cell.sd, describe(metric).unit, False)}"
    shown += f" ({cell.silent} silent)" if cell.silent else ""
    return shown.replace("−", "-") if plain else shown


def markdown(table: Table) -> str:
    """A heading and one Markdown table per block."""
    lines = [f"### {table.title}", ""]
    for block, metrics in table.blocks().items():
        ranked = block == "Decision" and bool(table.mean_rank)
        checked = block == "Decision" and bool(table.verdicts)
        head = [f"{describe(name).label} {describe(name).arrow}{_unit(name)}".strip() for name in metrics]
        head += [f"mean rank ({table.ranked_n} items)"] * ranked + ["sanity checks"] * checked
        rows = []
        for name, row in table.rows.items():
            cells = [_text(row[metric], metric) for metric in metrics]
            if any(row[metric].n for metric in metrics):
                cells += [f"{table.mean_rank[name]:.2f}" if name in table.mean_rank else "–"] * ranked
                cells += [table.verdicts.get(name, "–")] * checked
                rows.append([name, str(table.rows_n[name]), *cells])
        lines.append(text.markdown([block, "items", *head], rows))
    if not table.mean_rank:
        lines += ["No mean rank: on every item some method is silent.", ""]
    if reasons := _blank(table):
        lines += [reasons, ""]
    if several := _several(table):
        lines += [several, ""]
    return "\n".join(lines)


def _blank(table: Table) -> str:
    reasons = sorted({row["frechet_distance"].note for row in table.rows.values()} - {""})
    return f"Frechet distance left blank: {'; '.join(reasons)}." if reasons else ""


def _several(table: Table) -> str:
    """What the cells of methods given as several runs mean; empty without one."""
    counts = {name: max((cell.runs for cell in row.values()), default=1) for name, row in table.rows.items()}
    named = ", ".join(f"{name} ({count})" for name, count in counts.items() if count > 1)
    return f"Means over several runs, ± the standard deviation of the runs' means: {named}." if named else ""


def latex(table: Table) -> str:
    """One LaTeX table (booktabs) per block."""
    parts = []
    for block, metrics in table.blocks().items():
        head = ["Method", "$n$", *(f"{describe(name).label}{_unit(name)}" for name in metrics)]
        rows = [
            [name, str(table.rows_n[name]), *(_text(row[metric], metric, plain=True) for metric in metrics)]
            for name, row in table.rows.items()
        ]
        caption = f"{block}; {table.title}. Mean [95 % interval, bootstrap over source recordings]."
        notes = [_blank(table)] * ("frechet_distance" in metrics) + [_several(table)]
        parts.append(text.latex(head, rows, " ".join([caption, *filter(None, notes)])))
    return "\n".join(parts)


def _unit(metric: str) -> str:
    unit = describe(metric).unit
    return f" ({unit})" if unit else ""
