"""Pictures of any sweep: curves while training, and the metric against each setting that is a number."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.factors import ANY, Factor

MOST = 12  # lines in a picture; more cannot be told apart
PANELS = 3  # in a row
LINES = ("solid", "dashed", "dotted")
HUES = (*charts.HUES.values(), *charts.OTHER_HUES)
MARKERS = ("o", "s", "^", "D", "v", "P")
NEAR = 0.08  # of an axis: numbers that are nearer than this would lie upon each other
AGAINST = (
    "Each point is the mean over the seeds that count; the band reaches from the lowest to the highest seed. {limits}"
)


def all_of(results: Results, factors: Sequence[Factor], baseline: str, chosen: Sequence[str]) -> list[Chart]:
    """The pictures of a sweep: those that its runs can fill.

    `baseline` is the cell that Δ is taken to, in words, and `chosen` are the names of the factors that it is named by.
    """
    against = [factor for factor in factors if factor.numeric and len(factor.texts) > 2]
    found = [_curves(results, factors, chosen), *(_against(results, factor, factors) for factor in against)]
    if chosen:
        found += [charts.deltas(results, baseline)]
        found += [charts.over_training(results, baseline)] if len(results.comparisons) <= MOST else []
    return [chart for chart in found if any(panel.series for row in chart.panels for panel in row)]


def _curves(results: Results, factors: Sequence[Factor], chosen: Sequence[str]) -> Chart:
    """Curves in a panel for each group; where there are no groups, all of them, and the last half enlarged."""
    ranked = sorted(results.groups, key=lambda title: min(map(_rank, results.groups[title])))[:MOST]
    groups = {title: _best(cells) for title, cells in results.groups.items() if title in ranked}
    if len(groups) == 1:
        ((title, cells),) = groups.items()
        drawn = [(title or "all of training", cells, 1.0), ("last half", cells, 0.5)]
    else:
        drawn = [(title, cells, 1.0) for title, cells in groups.items()]
    inner = [factor for factor in factors if factor.name in chosen] or factors  # the rest is in the titles
    look = partial(_look, inner)
    panels, shared = charts.titled([charts.panel(results, title, cells, late, look) for title, cells, late in drawn])
    rows = [panels[start : start + PANELS] for start in range(0, len(panels), PANELS)]
    rules = (
        _limits(len(groups), len(results.groups), "groups"),
        _limits(sum(map(len, groups.values())), sum(len(results.groups[title]) for title in groups), named=chosen),
        f"In all panels: {shared}." * bool(shared),
    )
    return charts.curves("curves", results, rows, " ".join(filter(None, rules)))


def _look(inner: Sequence[Factor], cell: Cell) -> dict[str, Any]:
    """A colour for each value of the first factor, and a line for those of the second; labels tell the `inner` ones."""
    look = {"label": _told(inner, cell) or cell.key.label, "marker": "o"}
    for factor, name, ways in zip(inner, ("colour", "line", "marker"), (HUES, LINES, MARKERS), strict=False):
        places = list(factor.texts.values())
        value = _value(cell, factor)
        look[name] = ways[(places.index(value) if value in places else len(places)) % len(ways)]
    return look


def _against(results: Results, factor: Factor, factors: Sequence[Factor]) -> Chart:
    """The metric against a setting that is a number: a line for the cells that differ in it alone."""
    lines: dict[str, list[Cell]] = {}
    for cell in results.cells:
        lines.setdefault(_told([other for other in factors if other != factor], cell), []).append(cell)
    best = sorted(lines, key=lambda rest: _rank(min(lines[rest], key=_rank)))[:MOST]
    shown = [rest for rest in lines if rest in best]
    series = (_line(rest, lines[rest], factor, hue) for rest, hue in zip(shown, cycle(HUES)))
    panel = Panel(
        "",
        tuple(one for one in series if one.x),
        x_label=factor.word,
        y_label=results.metric.label,
        x_scale="log" if _spans(factor.values) else "linear",
        x_ticks=_ticks(factor.values),
    )
    alt = f"{results.metric.label} against {factor.word}. The table holds these numbers."
    caption = AGAINST.format(limits=_limits(len(shown), len(lines), "lines"))
    return Chart(f"against-{factor.word}", f"Against {factor.word}", ((panel,),), alt, caption.strip(), size=(8, 4.2))


def _line(label: str, cells: Iterable[Cell], factor: Factor, hue: str) -> Series:
    placed = sorted(filter(partial(_placed, factor), cells), key=lambda cell: cell.key.fields[factor.key_in_table])
    x = tuple(float(cell.key.fields[factor.key_in_table]) for cell in placed)
    values = [list(cell.values.values()) for cell in placed]
    mean = tuple(sum(seeds) / len(seeds) for seeds in values)
    return Series(label, x, mean, hue, marker="o", low=tuple(map(min, values)), high=tuple(map(max, values)))


def _placed(factor: Factor, cell: Cell) -> bool:
    return bool(cell.values) and isinstance(cell.key.fields[factor.key_in_table], int | float)


def _told(factors: Iterable[Factor], cell: Cell) -> str:
    """These factors in words, without those that a cell does not have: which it has, its label says."""
    told = (factor.words(_value(cell, factor)) for factor in factors)
    return ", ".join(words for words in told if words in cell.key.label or words.endswith(f"={ANY}"))


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


def _limits(shown: int, there: int, what: str = "cells", named: Sequence[str] = ()) -> str:
    """What a picture leaves out. A baseline is shown in any case, if one is `named`."""
    best = f"{shown} of {there} {what}: the baseline and the best" if named else f"the best {shown} of {there} {what}"
    return f"Shown are {best}." if shown < there else ""


def _ticks(values: Sequence[float]) -> tuple[float, ...]:
    """The values that have room for a number on their axis."""
    place = math.log if _spans(values) else float
    found: list[float] = []
    for value in sorted(values):
        near = NEAR * (place(max(values)) - place(min(values)))
        if not found or place(value) - place(found[-1]) >= near:
            found.append(value)
    return tuple(found)


def _spans(values: Sequence[float]) -> bool:
    """Whether values that are numbers lie so far apart that their logarithms are to be shown."""
    return min(values) > 0 and max(values) >= 10 * min(values)
