"""Pictures of any sweep: curves while training, and the metric against each setting that is a number."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.factors import Factor

MOST = 12  # lines in a picture; more cannot be told apart
PANELS = 3  # in a row
LINES = ("solid", "dashed", "dotted")
HUES = (*charts.HUES.values(), *charts.OTHER_HUES)
CURVES = "One colour is one {first}. {limits}"
AGAINST = (
    "Each point is the mean over the seeds that count; the band reaches from the lowest to the highest seed. {limits}"
)


def all_of(results: Results, factors: Sequence[Factor], baseline: str) -> list[Chart]:
    """The pictures of a sweep: those that its runs can fill."""
    against = [factor for factor in factors if factor.numeric and len(factor.texts) > 2]
    found = [_curves(results, factors), *(_against(results, factor, factors) for factor in against)]
    return [chart for chart in found if any(panel.series for row in chart.panels for panel in row)]


def _curves(results: Results, factors: Sequence[Factor]) -> Chart:
    """Curves in a panel for each group; where there are no groups, all of them, and the last half enlarged."""
    groups = {title: _best(cells) for title, cells in results.groups.items()}
    if len(groups) == 1:
        ((title, cells),) = groups.items()
        drawn = [(title or "all of training", cells, 1.0), ("last half", cells, 0.5)]
    else:
        drawn = [(title, cells, 1.0) for title, cells in list(groups.items())[:MOST]]
    panels = [
        _recoloured(charts.panel(results, _plain(title), cells, late, _look), cells, factors)
        for title, cells, late in drawn
    ]
    shown = sum(map(len, list(groups.values())[:MOST]))
    first = factors[0].word if factors else "seed"
    rows = [panels[start : start + PANELS] for start in range(0, len(panels), PANELS)]
    rule = CURVES.format(first=first, limits=_limits(shown, len(results.cells), results))
    return charts.curves("curves", results, rows, rule.strip())


def _look(cell: Cell) -> dict[str, str]:
    return {"label": _plain(cell.key.label), "marker": "o"}


def _recoloured(panel: Panel, cells: Iterable[Cell], factors: Sequence[Factor]) -> Panel:
    """Curves whose colour is that of their first factor, and whose line is that of all others."""
    looks = _looks(cells, factors)
    return replace(panel, series=tuple(replace(one, **looks.get(one.label, {})) for one in panel.series))


def _looks(cells: Iterable[Cell], factors: Sequence[Factor]) -> dict[str, dict[str, Any]]:
    """The colour and the line of each cell by its label."""
    if not factors:
        return {}
    first, *others = factors
    hues = dict(zip(first.texts.values(), cycle(HUES)))
    lines: dict[tuple[str, ...], str] = {}
    ways, found = cycle(LINES), {}
    for cell in cells:
        rest = tuple(_value(cell, factor) for factor in others)
        if rest not in lines:
            lines[rest] = next(ways)
        hue = hues.get(_value(cell, first), charts.GREY)
        found[_plain(cell.key.label)] = {"colour": hue, "line": lines[rest]}
    return found


def _against(results: Results, factor: Factor, factors: Sequence[Factor]) -> Chart:
    """The metric against a setting that is a number: a line for the cells that differ in it alone."""
    lines: dict[str, list[Cell]] = {}
    for cell in results.cells:
        rest = ", ".join(f"{other.word}={_value(cell, other)}" for other in factors if other != factor)
        lines.setdefault(rest, []).append(cell)
    best = sorted(lines, key=lambda rest: _rank(min(lines[rest], key=_rank)))[:MOST]
    shown = [rest for rest in lines if rest in best]
    series = (_line(rest, lines[rest], factor, hue) for rest, hue in zip(shown, cycle(HUES)))
    panel = Panel(
        "",
        tuple(one for one in series if one.x),
        x_label=_plain(factor.word),
        y_label=results.metric.label,
        x_scale="log" if _spans(factor.values) else "linear",
    )
    alt = f"{results.metric.label} against {factor.word}. The table holds these numbers."
    caption = AGAINST.format(limits=_limits(len(shown), len(lines), results, "lines"))
    return Chart(f"against-{factor.word}", f"Against {factor.word}", ((panel,),), alt, caption.strip(), size=(8, 4.2))


def _line(label: str, cells: Iterable[Cell], factor: Factor, hue: str) -> Series:
    placed = sorted(filter(partial(_placed, factor), cells), key=lambda cell: cell.key.fields[factor.key_in_table])
    x = tuple(float(cell.key.fields[factor.key_in_table]) for cell in placed)
    values = [list(cell.values.values()) for cell in placed]
    mean = tuple(sum(seeds) / len(seeds) for seeds in values)
    return Series(_plain(label), x, mean, hue, marker="o", low=tuple(map(min, values)), high=tuple(map(max, values)))


def _placed(factor: Factor, cell: Cell) -> bool:
    return bool(cell.values) and isinstance(cell.key.fields[factor.key_in_table], int | float)


def _value(cell: Cell, factor: Factor) -> str:
    return factor.text(cell.key.fields[factor.key_in_table])


def _best(cells: Sequence[Cell]) -> list[Cell]:
    """The baseline and the best of these cells, in their order: as many as a picture can show."""
    ranked = sorted(cells, key=lambda cell: (not cell.key.is_baseline, _rank(cell)))[:MOST]
    return [cell for cell in cells if cell in ranked]


def _rank(cell: Cell) -> float:
    """The lower, the better; cells without a value come last."""
    if cell.mean is None:
        return float("inf")
    return -cell.mean if cell.metric.better == "higher" else cell.mean


def _limits(shown: int, there: int, results: Results, what: str = "cells") -> str:
    return f"Shown are the best {shown} of {there} {what}." if shown < there else ""


def _spans(values: Sequence[float]) -> bool:
    """Whether values that are numbers lie so far apart that their logarithms are to be shown."""
    return min(values) > 0 and max(values) >= 10 * min(values)


def _plain(label: str) -> str:
    """A label that a picture shows as it is: matplotlib reads what stands between dollars, and hides a leading `_`."""
    told = label.replace("$", r"\$").replace("\n", " ")
    return f" {told}" if told.startswith("_") else told
