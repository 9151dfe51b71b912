"""Figure 3a of the paper: the loss by position of long texts, and what the two faults of the published script do to it.

Cells without a fault are models that compare with Mamba. Cells with a fault are compared with Mamba without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffmamba.document import Chart, Panel, Series
from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.measured import curve, difference
from diffmamba.reports.records import SeedResult

BASELINE = "mamba on the same text, without a fault"
SAME_TEXT = {"pydoc_foreign": "pydoc_tokens"}
FAULTS = {
    (1, False): "",
    (2, False): "target shifted twice",
    (1, True): "ids of another tokenizer",
    (2, True): "both faults",
}
DRAWN = 300  # points of a curve, at equal distances where positions are drawn by their logarithm
LINES = ("uniform_nats", "unigram_nats")
SMOOTHED = (
    "Each point is the mean over {width} positions around it, as published; near an end over fewer, as many to either "
    "side. The band is the interval of the mean over seeds, for each position by itself."
)
FAULTS_RULE = (
    "Dotted: equal chances for all symbols. Dashed: the entropy of the symbols to be predicted, the loss of the best "
    "guess that knows no symbol before."
)
LATE = "last 1/8: the same in the last eighth of the positions. uniform, unigram: the two lines of the second picture."
PUBLISHED = (
    "The published curves lie near {nats} nats per token. A uniform guess over the 50,280 tokens of the models costs "
    "10.8 nats. The paper prints no values, and its models are not public, so nothing here stands beside them."
)


def key(config: Mapping[str, Any]) -> Key:
    """A model, measured with or without each of the two faults; the group is the text."""
    model, own, measured = config["model"]["name"], config["data"]["name"], config.get("measured") or config["data"]
    fault = FAULTS[config["measure"]["shift"], not measured["module"].get("reencode", True)]
    text = SAME_TEXT.get(measured["name"], measured["name"])
    width = (config["published"] or {}).get("smoothing", 1)
    if not isinstance(width, int) or width < 1 or width % 2 == 0:
        raise SettingError(f"published.smoothing={width} must be an odd number of positions, such as 101; 1: none")
    return Key(
        {"model": model, "trained_on": own, "measured_on": measured["name"], "fault": fault, "smoothing": width},
        label=", ".join(filter(None, [model, fault, text])),
        is_baseline=model == "mamba" and not fault,
        group=text if text == own else f"{text}, of models of {own}",
    )


def smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean over `width` values around each; near an end over fewer, as many to either side."""
    at = np.arange(len(values))
    half = np.minimum(np.minimum(at, at[::-1]), width // 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[at + half + 1] - sums[at - half]) / (2 * half + 1)


def drawn(cell: Cell) -> Cell:
    """The cell with the rows of its curve alone, smoothed, at the positions that are drawn; so is its baseline."""

    def rows(run: SeedResult) -> pd.DataFrame:
        found = run.rows[(run.rows["measure"] == "nats") & run.rows["position"].notna()].sort_values("position")
        places = np.unique(np.geomspace(1, max(1, len(found)), DRAWN).round().astype(int))[: len(found)] - 1
        shown = found.iloc[places].copy()
        shown["value"] = smoothed(found["value"].to_numpy(float), cell.key.fields["smoothing"])[places]
        return shown

    counted = {run.id: rows(run) for run in cell.seeds if run.value is not None}
    seeds = tuple(replace(run, rows_of=counted.__getitem__) for run in cell.seeds)
    return replace(cell, seeds=seeds, baseline=drawn(cell.baseline) if cell.baseline else None)


def all_of(results: Results) -> list[Chart]:
    """The curves of the models with their differences to Mamba, and those of the faults."""
    ready = [drawn(cell) for cell in results.cells if cell.values]
    models = {name: [cell for cell in cells if not cell.key.fields["fault"]] for name, cells in _groups(ready).items()}
    rows = [_models(results, name, cells) for name, cells in models.items() if len(cells) > 1 or len(models) == 1]
    widths = sorted({cell.key.fields["smoothing"] for cell in results.cells})
    caption = SMOOTHED.format(width=" or ".join(map(str, widths)))
    alt = "Nats per symbol by position of each model, and their difference to those of Mamba."
    main = Chart("figure3a", "Loss by position", tuple(rows), alt, caption, size=(10, 1.0 + 3.2 * max(1, len(rows))))
    faulty = {name: cells for name, cells in _groups(ready).items() if any(one.key.fields["fault"] for one in cells)}
    panels = tuple(_faults(name, cells) for name, cells in faulty.items())
    told = "Nats per symbol by position with and without the two faults of the published script."
    return [main, *[Chart("faults", "The published faults", (panels,), told, FAULTS_RULE, (8, 4.2))] * bool(panels)]


def points(results: Results) -> pd.DataFrame:
    """All points of the curves: the key of the cell, the position, and mean and interval of nats and of Δ."""
    found = []
    for cell in map(drawn, results.cells):
        curves = _suffixed(curve(cell, "nats", "position"), "nats")
        if cell.baseline and not cell.key.is_baseline:
            of_delta = _suffixed(difference(cell, "nats", "position"), "delta")
            curves = curves.merge(of_delta, on="position", how="left")
        found += [cell.key.fields | point for point in curves.to_dict("records")]
    return pd.DataFrame(found)


def _suffixed(curves: pd.DataFrame, name: str) -> pd.DataFrame:
    return curves.rename(columns={one: f"{name}_{one}" for one in ("mean", "low", "high")})


def _groups(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    names = dict.fromkeys(cell.key.group for cell in cells)
    return {name: [cell for cell in cells if cell.key.group == name] for name in names}


def _models(results: Results, name: str, cells: Sequence[Cell]) -> tuple[Panel, Panel]:
    """The curves of the models on one text, and their differences to Mamba."""
    hues = charts.hues(results)
    of_models = [(cell.key.fields["model"], cell) for cell in cells]
    curves = tuple(_series(model, hues[model], curve(cell, "nats", "position")) for model, cell in of_models)
    differences = tuple(
        _series(model, hues[model], difference(cell, "nats", "position"))
        for model, cell in of_models
        if cell.baseline and not cell.key.is_baseline
    )
    level = Series("", curves[0].x[:: max(1, len(curves[0].x) - 1)], (0.0, 0.0), charts.GREY, width=0.8)
    left = Panel(f"{name}: nats per symbol", curves, "position", "nats per symbol", x_scale="log")
    right = Panel("Δ to mamba", (level, *differences), "position", "Δ nats per symbol", x_scale="log")
    return left, right


def _faults(name: str, cells: Sequence[Cell]) -> Panel:
    """The curves with and without each fault, and the two lines of no knowledge."""
    hues = dict(zip(FAULTS.values(), (charts.GREY, "#e69f00", "#009e73", "#d55e00"), strict=True))
    several = len({cell.key.fields["model"] for cell in cells}) > 1
    series = []
    for cell in cells:
        fault = cell.key.fields["fault"]
        label = ", ".join([cell.key.fields["model"]] * several + [fault or "without a fault"])
        series.append(_series(label, hues[fault], curve(cell, "nats", "position")))
    ends = (1.0, max(max(one.x, default=1.0) for one in series))
    for figure, line, label in zip(LINES, ("dotted", "dashed"), ("uniform", "unigram"), strict=True):
        height = _figure(cells[0], figure)
        if height is not None:
            series.append(Series(label, ends, (height, height), charts.GREY, line=line, width=1.0))
    return Panel(name, tuple(series), "position", "nats per symbol", x_scale="log")


def _series(label: str, hue: str, found: pd.DataFrame) -> Series:
    x, y, low, high = (tuple(found[name].astype(float)) for name in ("position", "mean", "low", "high"))
    series = Series(label, x, y, hue)
    return replace(series, low=low, high=high) if found["low"].notna().all() else series


def _figure(cell: Cell, name: str) -> float | None:
    """A figure of the measurements, as the mean over seeds."""
    counted = (run.part("values").get(name) for run in cell.seeds if run.value is not None)
    found = [value for value in counted if value is not None]
    return fmean(found) if found else None


def further(cell: Cell) -> dict[str, float | None]:
    """What a row of `figure3a.json` has beside the fields of every table."""
    return {name: _figure(cell, name) for name in ("late_nats", *LINES)}


def _column(header: str, name: str) -> Column:
    return Column(header, lambda cell: cell.metric.text(_figure(cell, name)), spare=True)


DESIGN = Design(
    name="figure3a",
    kind="figure",
    title="Figure 3a: loss by position of long texts",
    sweep="figure3a",
    key=key,
    baseline=BASELINE,
    metric="nats",
    columns=(
        columns.MODEL,
        Column("fault", lambda cell: cell.key.fields["fault"] or "–", word=True),
        columns.RESULT,
        columns.DELTA,
        columns.DIFFERS,
        columns.INTERVAL,
        columns.SEEDS,
        _column("last 1/8", "late_nats"),
        _column("uniform", "uniform_nats"),
        _column("unigram", "unigram_nats"),
        *columns.OWN_VERDICT[5:],
    ),
    charts=all_of,
    further=further,
    notes=(LATE, PUBLISHED.format(nats=published.numbers()["figure3a"]["approximate_nats"])),
    points=points,
)
