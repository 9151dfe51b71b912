"""Pictures of results as plain data: curves while training, Δ while training, and Δ beside the paper's.

All of them show only the runs that count. A model has the same colour in every picture of a page.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.statistics import half_width

Look = Callable[[Cell], dict[str, Any]]
GREY = "#4d4d4d"
HUES = {"mamba": GREY, "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933", "#44aa99", "#332288")
"""Colours of further models: with `HUES` those of Okabe and Ito, then of Tol."""
CURVES = (
    "The mean of {metric} over the seeds that count. The band reaches from the lowest to the highest seed; it is no "
    "interval of the mean."
)
DELTAS = (
    "Filled dots are our runs, with the interval of Δ to either side if there is one; it may go on beyond the edge."
)
PAPER = "Hollow dots are the paper's."
OVER_TRAINING = (
    "Δ {metric} to {baseline} at each evaluation, paired by seed. The band is its interval{rows}, for each evaluation "
    "by itself. Where it leaves out 0, the seeds support a difference. Line and band may go on beyond the edge."
)
ACROSS = 3  # panels in a row of small ones
PART = re.compile(r'(?:"(?:\\.|[^"\\])*"|\([^)]*\)|,(?! )|[^,])+')
"""A part of a label: up to a comma that stands outside of quotes and brackets."""


def hues(results: Results) -> dict[str, str]:
    """The colour of each model of these results."""
    return hues_of(cell.key.fields["model"] for cell in results.cells)


def hues_of(models: Iterable[str]) -> dict[str, str]:
    """The colour of each model."""
    others = dict.fromkeys(model for model in models if model not in HUES)
    return HUES | dict(zip(others, cycle(OTHER_HUES), strict=False))


def sequence(count: int) -> list[str]:
    """So many colours in an order, from dark to light, for what is numbered."""
    return [to_hex(colormaps["viridis"](0.9 * place / max(1, count - 1))) for place in range(count)]


def curve(cell: Cell, name: str = "") -> pd.DataFrame:
    """Step, epoch, symbols, and mean, low and high over seeds, at the evaluations that all seeds that count share.

    `name` is that of another value of the evaluations than the headline.
    """
    steps = _evaluations(cell, name).groupby("step")
    value = {"mean": ("value", "mean"), "low": ("value", "min"), "high": ("value", "max")}
    points = steps.agg(epoch=("epoch", "first"), symbols=("symbols", "first"), **value)
    return points[steps.size() == len(cell.values)].reset_index()


def differences(cell: Cell) -> pd.DataFrame:
    """Step, epoch, symbols, and mean, low and high of Δ, at the evaluations that all seeds with a Δ share.

    `low` and `high` are the interval of Δ, as in the table; NaN where there is none.
    """
    rows = cell.comparison.rows if cell.comparison else 1
    ours, theirs = _evaluations(cell), _evaluations(cell.baseline) if cell.baseline else None
    if theirs is None or not cell.pairs:
        return curve(cell).iloc[:0]
    both = ours.merge(theirs[["seed", "step", "value"]], on=["seed", "step"], suffixes=("", "_baseline"))
    both["value"] -= both["value_baseline"]
    by_seed = both.pivot_table(index=["step", "epoch", "symbols"], columns="seed", values="value").dropna()
    by_seed = by_seed if len(by_seed.columns) == len(cell.pairs) else by_seed.iloc[:0]
    found = by_seed.mean(axis=1).to_frame("mean")
    half = half_width(by_seed.to_numpy(), rows) if len(by_seed) and len(cell.pairs) > 1 else math.nan
    return found.assign(low=found["mean"] - half, high=found["mean"] + half).reset_index()


def _evaluations(cell: Cell, name: str = "") -> pd.DataFrame:
    """Seed, step, epoch, symbols and value of each evaluation of the seeds that count."""
    names = {"step": "step", "epoch": "epoch", "tokens": "symbols", name or cell.metric.key: "value"}
    counted = [run for run in cell.seeds if run.value is not None]
    found = [(run.seed, at) for run in counted for at in run.record.get("evaluations") or []]
    frame = pd.DataFrame([at for _, at in found], columns=list(names)).rename(columns=names)
    numbers = frame.apply(pd.to_numeric, errors="coerce").replace(math.inf, math.nan)
    return numbers.assign(seed=[seed for seed, _ in found]).dropna()


def points(results: Results) -> pd.DataFrame:
    """All points of all curves, a row each: the key of the cell, its seeds, where the point lies, and its values."""
    rows = [
        cell.key.fields | {"seeds": " ".join(map(str, cell.values))} | point
        for cell in results.cells
        for point in curve(cell).to_dict("records")
    ]
    columns = [*results.cells[0].key.fields, "seeds", "step", "epoch", "symbols", "mean", "low", "high"]
    names = {column: f"{results.metric.name}_{column}" for column in ("mean", "low", "high")}
    return pd.DataFrame(rows, columns=columns).rename(columns=names)


def curves(name: str, results: Results, panels: Iterable[Sequence[Panel]], rule: str) -> Chart:
    """Curves while training, in rows of panels from `panel`. `rule` says how to read them."""
    rows = tuple((first, *(replace(panel, y_label="") for panel in others)) for first, *others in filter(None, panels))
    alt = f"Curves of {results.metric.key} while training. The table says where they end."
    caption = f"{CURVES.format(metric=results.metric.key)} {rule}"
    return Chart(name, "While training", rows, alt, caption, size=(10, 1.4 + 2.6 * len(rows)))


def titled(panels: Sequence[Panel]) -> tuple[list[Panel], str]:
    """The panels with what tells them apart as their titles, and what is in the titles of all of them.

    Settings have the last part of their name, where no other setting has the same.
    """
    parts = [[part.strip() for part in PART.findall(panel.title)] for panel in panels]
    shared = [part for part in parts[0] if all(part in others for others in parts)] if len(panels) > 1 else []
    own = [[part for part in found if part not in shared] for found in parts]
    if not all(own):
        own, shared = parts, []
    names = {name for found in parts for part in found for name, sign, _ in [part.partition("=")] if sign}
    last = Counter(name.rpartition(".")[2] for name in names)
    short = {name: name.rpartition(".")[2] for name in names if last[name.rpartition(".")[2]] == 1}

    def told(found: Sequence[str]) -> str:
        words = (part.partition("=") for part in found)
        return ", ".join(f"{short.get(name, name)}{sign}{value}" for name, sign, value in words)

    return [replace(panel, title=told(found)) for panel, found in zip(panels, own, strict=True)], told(shared)


def over_training(results: Results, baseline: str, cells: Sequence[Cell] | None = None, late: float = 1.0) -> Chart:
    """Δ at each evaluation with its interval, a panel for each cell; `cells`: only these.

    Panels of a group have the same axes. Only the last part of training is shown, as the share `late`.
    """
    asked = [cell for cell in (results.cells if cells is None else cells) if not cell.key.is_baseline]
    drawn = [(cell, points) for cell in asked if len(points := differences(cell))]
    panels: list[Panel] = []
    for group in dict.fromkeys(cell.key.group for cell, _ in drawn):
        panels += _difference_panels(results, [found for found in drawn if found[0].key.group == group], late)
    panels, shared = titled(panels)
    rows = [tuple(panels[start : start + ACROSS]) for start in range(0, len(panels), ACROSS)]
    together = f", for all {count} rows together" if (count := len(results.comparisons)) > 1 else ""
    caption = OVER_TRAINING.format(metric=results.metric.label, baseline=baseline, rows=together)
    caption += f" In all panels: {shared}." * bool(shared)
    alt = f"Δ {results.metric.label} of each cell to {baseline} while training. The table says where it ends."
    size = (10.0, 0.6 + 2.1 * max(1, len(rows)))
    return Chart("over_training", "Differences over training", tuple(rows), alt, caption, size)


def _difference_panels(results: Results, drawn: Sequence[tuple[Cell, pd.DataFrame]], late: float) -> Iterable[Panel]:
    """A panel for each of these cells of one group."""
    (axis, words), colours = _axis(points for _, points in drawn), hues(results)
    end = max(float(points[axis].max()) for _, points in drawn) or 1.0
    settled = [points[points[axis] >= (1 - late / 2) * end] for _, points in drawn]  # differences begin large
    y_range = _around((number for points in settled for number in points["mean"]), reach=1.5)
    for cell, points in drawn:
        hue = colours[cell.key.fields["model"]]
        x, y, low, high = (tuple(points[column].astype(float)) for column in (axis, "mean", "low", "high"))
        line = Series("", x, y, hue, marker="o")
        series = [Series("", ((1 - late) * end, end), (0.0, 0.0), GREY, width=0.8)]  # a line at no difference
        if points["low"].notna().all():
            series.append(replace(line, low=low, high=high))
        else:  # only where there is an interval
            some = [at for at, number in enumerate(low) if not math.isnan(number)]
            x, y, low, high = (tuple(column[at] for at in some) for column in (x, y, low, high))
            series += [Series("", x, y, hue, line="", low=low, high=high), line]
        x_range = ((1 - late) * end, 1.03 * end)
        panel = Panel(cell.key.label, tuple(series), words, f"Δ {results.metric.label}", x_range, y_range)
        yield replace(panel, x_engineering=axis == "symbols")


def _axis(frames: Iterable[pd.DataFrame]) -> tuple[str, str]:
    """Epochs, if training went once over the corpus or more, else symbols: the column of the points, and the words."""
    by_epoch = max(points["epoch"].max() for points in frames) >= 1
    return ("epoch", "training epochs") if by_epoch else ("symbols", "symbols seen")


def _around(numbers: Iterable[float], reach: float) -> tuple[float, float]:
    """From below to above these numbers and 0, with room for intervals: `reach` times their range on either side."""
    found = [0.0, *numbers]
    room = reach * (max(found) - min(found)) or 0.01
    return min(found) - room, max(found) + room


def panel(
    results: Results, title: str, cells: Sequence[Cell], late: float = 1.0, look: Look = lambda cell: {"marker": "o"}
) -> Panel:
    """The curves of these cells, with a dotted line at the published value of those trained as published.

    `look` is how a cell is drawn, as fields of `Series`. Only the last part of training is shown, as the share `late`.
    """
    drawn = [(cell, points) for cell in cells if len(points := curve(cell))]
    if not drawn:
        return Panel(title, ())
    (axis, words), colours = _axis(points for _, points in drawn), hues(results)
    end = max(float(points[axis].max()) for _, points in drawn) or 1.0
    heights = pd.concat([points["mean"][points[axis] >= (1 - late) * end] for _, points in drawn])
    margin = 0.08 * (heights.max() - heights.min()) or 0.01
    series = []
    for cell, points in drawn:
        model, paper = cell.key.fields["model"], cell.key.published.value
        x, y, low, high = (tuple(points[column].astype(float)) for column in (axis, "mean", "low", "high"))
        series.append(Series(x=x, y=y, low=low, high=high, **{"label": model, "colour": colours[model], **look(cell)}))
        if results.scale == "paper" and cell.key.as_published and paper is not None:
            series.append(
                Series("published, at the end", (0, end), (paper, paper), colours[model], line="dotted", width=1.2)
            )
    return Panel(
        title,
        tuple(series),
        x_label=words,
        y_label=results.metric.label,
        x_range=((1 - late) * end, 1.03 * end),
        y_range=(float(heights.min() - margin), float(heights.max() + margin)),
        x_engineering=axis == "symbols",
    )


def deltas(results: Results, baseline: str, relative: bool = False) -> Chart:
    """Δ of each cell with its interval, and the paper's Δ beside it.

    `relative` shows Δ in percent of the baseline's value, for cells that are measured on different symbols.
    """
    others = [cell for cell in results.cells if not cell.key.is_baseline]
    shown = [cell for cell in others if cell.delta is not None or cell.key.published.delta is not None]
    better, colours = results.metric.verdict("left", "right"), hues(results)
    difference = f"Δ {results.metric.label} to {baseline}" + ", %" * relative
    has_paper = any(cell.key.published.delta is not None for cell in shown)
    legend = (
        Series("", (0.0, 0.0), (-0.5, len(shown) - 0.5), GREY, width=0.8),  # a line at no difference
        Series("here, with its interval", (), (), GREY, line="", marker="o"),
        *[Series("published", (), (), GREY, line="", marker="o", hollow=True)] * has_paper,
    )
    found = [dot for y, cell in enumerate(shown) for dot in _dots(cell, y, colours[cell.key.fields["model"]], relative)]
    x_label, names = difference + f"\n({better})" * bool(better), tuple(cell.key.label for cell in shown)
    x_range = _around((dot.x[0] for dot in found), reach=2.0) if any(dot.error for dot in found) else None
    panel = Panel("", (*legend, *found) if found else (), x_label=x_label, x_range=x_range, y_names=names)
    alt = f"{difference} of each cell, with its interval{', beside that of the paper' * has_paper}. The table has all."
    title, caption = ("Against the paper", f"{DELTAS} {PAPER}") if has_paper else ("Differences", DELTAS)
    return Chart("deltas", title, ((panel,),), alt, caption, size=(8, 1.6 + 0.28 * len(shown)))


def _dots(cell: Cell, height: int, hue: str, relative: bool) -> Iterable[Series]:
    """Ours a little above the cell's height and the paper's a little below, so that equal ones stay visible."""
    ours, paper = (cell.mean, cell.delta), (cell.key.published.value, cell.key.published.delta)
    for (value, delta), shift, interval in ((ours, -0.12, cell.interval), (paper, 0.12, None)):
        if value is not None and delta is not None:
            unit = abs(value - delta) / 100 if relative else 1.0
            error = () if interval is None else ((interval.high - interval.low) / 2 / unit,)
            at = (delta / unit,), (height + shift,)
            yield Series("", *at, hue, line="", marker="o", hollow=shift > 0, error=error)
