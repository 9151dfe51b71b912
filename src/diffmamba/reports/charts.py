"""Pictures of results as plain data: curves while training, in one panel or in a grid of them, and Δ beside the paper's.

All of them show only the runs that count. A model has the same colour in every picture of a page.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.cells import AGREES, DISAGREES, UNDECIDED, Cell, Key, Results

OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
GREY = "#4d4d4d"
LATE = 0.65  # the end of training, as a share, whose heights a panel of `panels` shows
TRAINING = (
    "Test {metric} while training, mean over the seeds that count. The band reaches from the lowest to the highest "
    "seed. "
)
PANELS = (
    f"Each panel shows the heights of the last {LATE:.0%} of training, where the curves lie close together. What is "
    "outside is cut off. A panel is named after the paper's; what was trained for it instead stands in brackets."
)
DELTAS = (
    "{difference} to {baseline}: filled dots are our runs, with s to either side if at least two seeds are shared with "
    "the baseline. Hollow dots are the paper's."
)


@dataclass(frozen=True)
class CurvePoint:
    """The metric at one evaluation, over seeds. `epoch` may be a fraction, `tokens` counts symbols seen."""

    step: int
    epoch: float
    tokens: int
    mean: float
    low: float
    high: float


def curve(cell: Cell) -> list[CurvePoint]:
    """The metric while training, at the evaluations that all seeds that count share."""
    runs = [{point.step: point for point in run.curve} for run in cell.counted]
    points = []
    for step in sorted(set.intersection(*map(set, runs))) if runs else []:
        seeds = [run[step] for run in runs]
        values = [point.value for point in seeds]
        points.append(CurvePoint(step, seeds[0].epoch, seeds[0].tokens, fmean(values), min(values), max(values)))
    return points


def points(results: Results) -> pd.DataFrame:
    """All points of all curves, a row each: the key of the cell, its seeds, where the point lies, and its values."""
    name = results.metric.name
    columns = ("step", "epoch", "symbols", f"{name}_mean", f"{name}_low", f"{name}_high")
    rows: list[dict[str, Any]] = []
    for cell in results.cells:
        key = vars(cell.key) | {"seeds": " ".join(map(str, cell.values))}
        rows += [key | dict(zip(columns, vars(point).values(), strict=True)) for point in curve(cell)]
    return pd.DataFrame(rows, columns=[*vars(results.cells[0].key), "seeds", *columns])


def curves(
    results: Results, hues: Mapping[str, str], look: Callable[[Cell], dict[str, Any]], look_rule: str
) -> list[Chart]:
    """All curves in one panel, and the last half of training enlarged beside it; no chart where there is no curve.

    `look` gives the line and marker of a cell, as fields of `Series`, and `look_rule` says this to the reader.
    """
    cells = [cell for cell in results.cells if curve(cell)]
    if not cells:
        return []
    by_epoch = _lasted_an_epoch(cells)
    drawn = [_series(cell, by_epoch, colour=_hue(results, hues, cell), **look(cell)) for cell in cells]
    end = max(x for series in drawn for x in series.x)
    whole = Panel("all of training", tuple(drawn), _x_label(by_epoch), f"test {results.metric.label}")
    late = replace(whole, title="last half", y_label="", x_range=(0.49 * end, 1.01 * end), y_range=_late(drawn, 0.5))
    pick = max if results.metric.better == "higher" else min
    mean, label = pick((cell.mean or 0.0, cell.label) for cell in cells)
    best = f"{results.metric.best.capitalize()} at the end: {label} with {results.metric.text(mean)}."
    return [
        Chart(
            name="curves",
            title="While training",
            panels=(tuple(replace(panel, x_engineering=not by_epoch) for panel in (whole, late)),),
            alt=f"Test {results.metric.label} against training. {best}",
            caption=f"{TRAINING.format(metric=results.metric.label)}{look_rule} The right panel enlarges the second "
            "half, where the lines lie close together.",
            size=(10, 3.9),
            widths=(1, 1.25),
        )
    ]


def panels(
    results: Results,
    hues: Mapping[str, str],
    name: str,
    place: Callable[[Key], tuple[Hashable, Hashable]],
    as_published: Callable[[Cell], bool],
) -> Chart:
    """A panel for each group of cells, each with axes of its own; `place` gives its row and its column.

    The published values are drawn only for cells trained `as_published`: elsewhere they are about something else.
    """
    found = {place(cells[0].key): _panel(results, hues, group, cells, as_published) for group, cells in results.groups.items()}
    rows, columns = (list(dict.fromkeys(axis)) for axis in zip(*found, strict=True))
    label = results.metric.label
    ends = [f"{cell.label} {results.metric.text(cell.mean)}" for cell in results.cells if cell.mean is not None]
    return Chart(
        name=name,
        title="While training",
        panels=tuple(tuple(found.get((row, column)) for column in columns) for row in rows),
        alt=f"Test {label} against training. " + (f"At the end: {'; '.join(ends)}." if ends else "No run yet."),
        caption=TRAINING.format(metric=label) + PANELS,
        size=(0.4 + 3.2 * len(columns), 0.7 + 2.6 * len(rows)),
        legend=_panels_legend(results, hues, any(map(as_published, results.cells))),
    )


def deltas(results: Results, hues: Mapping[str, str], baseline: str, relative: bool = False) -> list[Chart]:
    """Δ of each cell with its spread, and the paper's Δ beside it; no chart where there is neither.

    `relative` shows Δ in percent of the baseline's value, for cells that are measured on different symbols.
    """
    others = [cell for cell in results.cells if not cell.key.is_baseline]
    shown = [cell for cell in others if cell.delta is not None or cell.key.published.delta is not None]
    if not shown:
        return []
    better = results.metric.verdict("left", "right")
    series = [s for y, cell in enumerate(shown) for s in _delta(cell, y, _hue(results, hues, cell), relative)]
    label = f"Δ {results.metric.label} to {baseline}" + ", %" * relative + f"\n({better})" * bool(better)
    difference = f"Δ in percent of {results.metric.label}" if relative else "Δ"
    signs = [cell.sign for cell in results.cells]
    agree, differ, open_ = (signs.count(sign) for sign in (AGREES, DISAGREES, UNDECIDED))
    panel = Panel("", tuple(series), label, y_names=tuple(cell.label for cell in shown), lines_at=(("x", 0.0),))
    return [
        Chart(
            name="deltas",
            title="Against the paper",
            panels=((panel,),),
            alt=f"{difference} to {baseline} for each cell. The sign agrees with the paper in {agree}, differs in "
            f"{differ} and is undecided in {open_}.",
            caption=DELTAS.format(difference=difference, baseline=baseline),
            size=(8, 1.2 + 0.28 * len(shown)),
            broad=False,
            legend=(
                Series("here, ± s over seeds", (), (), GREY, line="", marker="o"),
                Series("published", (), (), GREY, line="", marker="o", hollow=True),
            ),
        )
    ]


def _panel(
    results: Results, hues: Mapping[str, str], group: str, cells: Sequence[Cell], as_published: Callable[[Cell], bool]
) -> Panel:
    title, with_curve = group.replace(" (", "\n("), [cell for cell in cells if curve(cell)]
    if not with_curve:
        return Panel(title, (), y_label=f"test {results.metric.label}")
    by_epoch = _lasted_an_epoch(cells)
    drawn = [_series(cell, by_epoch, colour=_hue(results, hues, cell), marker="o") for cell in with_curve]
    end = 1.05 * max(x for series in drawn for x in series.x)
    published = [
        Series("", (0.0, end), (value, value), _hue(results, hues, cell), line="dotted", width=1.2)
        for cell in cells
        if as_published(cell) and (value := cell.key.published.value) is not None
    ]
    return Panel(
        title,
        (*drawn, *published),
        _x_label(by_epoch),
        f"test {results.metric.label}",
        x_range=(0.0, end),
        y_range=_late(drawn, LATE),
        x_engineering=not by_epoch,
    )


def _panels_legend(results: Results, hues: Mapping[str, str], published: bool) -> tuple[Series, ...]:
    models = {cell.key.model: _hue(results, hues, cell) for cell in results.cells}
    legend = [Series(model, (), (), hue, marker="o") for model, hue in models.items()]
    legend.append(Series("lowest to highest seed", (), (), GREY, line=""))
    return (*legend, *[Series("published, at the end", (), (), GREY, line="dotted")] * published)


def _delta(cell: Cell, height: int, hue: str, relative: bool) -> Iterable[Series]:
    """Ours a little above the cell's height and the paper's a little below, so that equal ones stay visible."""
    if cell.delta is not None and cell.mean is not None:
        unit = abs(cell.mean - cell.delta) / 100 if relative else 1.0
        error = () if cell.spread is None else (cell.spread / unit,)
        yield Series("", (cell.delta / unit,), (height - 0.12,), hue, line="", marker="o", error=error)
    value, delta = cell.key.published.value, cell.key.published.delta
    if value is not None and delta is not None:
        unit = abs(value - delta) / 100 if relative else 1.0
        yield Series("", (delta / unit,), (height + 0.12,), hue, line="", marker="o", hollow=True)


def _series(cell: Cell, by_epoch: bool, **look: Any) -> Series:
    found = curve(cell)
    return Series(
        cell.label,
        tuple(point.epoch if by_epoch else float(point.tokens) for point in found),
        tuple(point.mean for point in found),
        low=tuple(point.low for point in found),
        high=tuple(point.high for point in found),
        **look,
    )


def _late(drawn: Sequence[Series], share: float) -> tuple[float, float]:
    """The heights that the curves have in the last `share` of the x axis, with a margin."""
    end = max(x for series in drawn for x in series.x)
    late = [y for series in drawn for x, y in zip(series.x, series.y, strict=True) if x >= (1 - share) * end]
    margin = 0.08 * (max(late) - min(late)) or 0.01
    return min(late) - margin, max(late) + margin


def _lasted_an_epoch(cells: Iterable[Cell]) -> bool:
    """Whether training went over a corpus at least once: then epochs are a better scale than symbols."""
    return max((point.epoch for cell in cells for run in cell.counted for point in run.curve), default=0.0) >= 1


def _x_label(by_epoch: bool) -> str:
    return "training epochs" if by_epoch else "symbols seen"


def _hue(results: Results, hues: Mapping[str, str], cell: Cell) -> str:
    """The colour of a model: from `hues`, or else one of the other hues."""
    model = cell.key.model
    others = [name for name in dict.fromkeys(cell.key.model for cell in results.cells) if name not in hues]
    return hues[model] if model in hues else OTHER_HUES[others.index(model) % len(OTHER_HUES)]
