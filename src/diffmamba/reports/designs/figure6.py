"""Figure 6 of the paper: the probability of the right symbol after each layer, by the tuned lens; with KL and entropy.

The paper shows it for models of 370M parameters on BABILong's prompts. Here it is of any run: on text the right symbol
is the next one, on a task's examples the answer, on prompts the first symbol of the target.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts, columns, statistics
from diffmamba.reports.cells import Cell, Key, Results, against
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.measured import chosen, curve, difference
from diffmamba.reports.statistics import Interval

BASELINE = "mamba"
CONFIDENCE = 1.96  # standard errors to either side, 95% of a normal distribution
PLACES = ("layer", "lens")
MEASURES = ("probability", "other_probability", "kl", "cross_entropy", "entropy")
LINES = {"tuned": "solid", "logit": "dashed"}
BITS = {"kl": "KL to the model, bits", "cross_entropy": "cross-entropy, bits", "entropy": "entropy, bits"}
MEANING = (
    "The value is the mean, over the layers before the last, of the probability that the tuned lens gives to the right "
    "symbol: the next one of a text, the answer of a task. at the end: the same of the model itself. KL: from what the "
    "model says at its end to what a lens says, the mean over the layers before the last. All are of a split that the "
    "lens was not trained on."
)
NEARER = (
    "Δ KL tuned: that of the baseline is subtracted, over the seeds of both. Its interval is Student's t over seeds, 95%, "
    "for each row by itself."
)
EFFECTS = (
    "The section Effects has the difference at each layer, as layers correspond where models have as many. A higher "
    "probability at a layer may come from a model that is better at its end: compare the last layer first."
)
FIGURE = (
    "The probability of the right symbol after each layer, by the tuned lens, in per cent; the last layer is the model "
    "itself. Dotted: what the lens gives there to another symbol, drawn among the targets of other positions. The grey "
    "line is 1 of all symbols. {bands}"
)
LENSES = (
    "Solid: tuned lens; dashed: logit lens, which reads a layer with the model's own head and is not trained. KL is 0 "
    "at the last layer by definition, so it is not drawn there. {bands}"
)
DIFFERENCES = (
    "Each model minus mamba at the same layer, by the tuned lens, paired by seed. The band is the interval of the "
    "difference, for each layer by itself; the section Effects has those that hold for all layers together."
)
SEEDS = "Bands are the interval of the mean over seeds, for each layer by itself; of one seed, that over sequences."


def key(config: Mapping[str, Any]) -> Key:
    """A model, and what it is measured on: each text or task is a group of its own."""
    model, measure = config["model"], config["measure"]
    on = (config.get("measured") or config["data"])["name"]
    if measure.get("prompts"):
        on = Path(measure["prompts"]).stem
    return Key(
        {"data": on, "model": model["name"], "blocks": len(model["layer"]) * model["n_layers"]},
        label=f"{on}, {model['name']}",
        is_baseline=model["name"] == BASELINE,
        group=on,
    )


def effects(results: Results) -> tuple[Cell, ...]:
    """The probability of the right symbol at each layer before the last, minus that of the baseline there.

    Only where both have as many layers.
    """
    found = []
    for cell in results.cells:
        base = cell.baseline
        if base is not None and not cell.key.is_baseline and cell.key.fields["blocks"] == base.key.fields["blocks"]:
            layers = curve(cell, "probability", "layer", lens="tuned")["layer"].astype(int).tolist()
            found += [_at_layer(cell, base, layer) for layer in layers[:-1]]
    return against(found)


def _at_layer(cell: Cell, base: Cell, layer: int) -> Cell:
    model, group = cell.key.fields["model"], cell.key.group
    named = Key(
        {"effect": f"{model}, layer {layer}", "model": model, "data": group, "layer": layer},
        label=f"{group}, {model}, layer {layer}",
        is_baseline=False,
        group=group,
    )
    return replace(_with_values(cell, layer), key=named, baseline=_with_values(base, layer))


def _with_values(cell: Cell, layer: int) -> Cell:
    """The cell with the probability at a layer as the value of each seed that counts."""
    seeds = []
    for run in cell.seeds:
        at = chosen(run.rows, "probability", layer=layer, lens="tuned") if run.value is not None else pd.DataFrame()
        seeds.append(replace(run, value=float(at["value"].iloc[0]) if len(at) else None))
    return replace(cell, seeds=tuple(seeds))


def at_layers(cell: Cell, measure: str, lens: str) -> pd.DataFrame:
    """layer, mean, low, high, and error, the standard error over sequences as a mean over seeds.

    low and high are the interval over seeds; of one seed that over sequences.
    """
    found = curve(cell, measure, "layer", lens=lens)
    errors = curve(cell, f"{measure}_error", "layer", lens=lens).set_index("layer")["mean"]
    found["error"] = found["layer"].map(errors)
    half = CONFIDENCE * found["error"]
    return found.assign(low=found["low"].fillna(found["mean"] - half), high=found["high"].fillna(found["mean"] + half))


def probabilities(results: Results) -> Chart:
    """Figure 6: a panel for each text or task."""
    panels = []
    for group, cells in results.groups.items():
        series = [line for cell in cells for line in _probability_lines(cell, results)]
        sizes = {run.part("corpus").get("vocabulary") for cell in cells for run in cell.seeds if run.value is not None}
        if series and all(isinstance(size, int) and size for size in sizes):
            ends = (0.0, max(max(line.x) for line in series))
            series += [Series("uniform", ends, (100 / size,) * 2, charts.GREY, width=0.8) for size in sizes if size]
        panels.append(Panel(group, tuple(series), "layer (0: embedding)", "probability of the right symbol, %"))
    alt = "The probability of the right symbol after each layer, by the tuned lens. The table has its means."
    caption = FIGURE.format(bands=SEEDS)
    return Chart("figure6", "The right symbol, layer by layer", (tuple(panels),), alt, caption, size=(10, 4))


def _probability_lines(cell: Cell, results: Results) -> Iterator[Series]:
    model = cell.key.fields["model"]
    hue = charts.hues(results)[model]
    for measure, look in (
        ("probability", {"label": model, "marker": "o"}),
        ("other_probability", {"label": f"{model}, another symbol", "line": "dotted", "width": 1.0}),
    ):
        if len(points := at_layers(cell, measure, "tuned")):
            yield _line(points, hue, **look)


def _line(points: pd.DataFrame, hue: str, **look: Any) -> Series:
    x, y, low, high = (tuple(points[name].astype(float)) for name in ("layer", "mean", "low", "high"))
    line = Series(x=x, y=y, colour=hue, **look)
    return line if any(map(math.isnan, low)) else replace(line, low=low, high=high)


def lenses(results: Results) -> Chart:
    """KL, cross-entropy and entropy by layer, for both lenses; a row for each text or task."""
    hues, rows = charts.hues(results), []
    for group, cells in results.groups.items():
        panels = []
        for measure, label in BITS.items():
            series = []
            for cell in cells:
                model = cell.key.fields["model"]
                for lens, line in LINES.items():
                    points = at_layers(cell, measure, lens)
                    points = points.iloc[:-1] if measure == "kl" else points
                    if len(points):
                        series.append(_line(points, hues[model], label=f"{model}, {lens}", line=line))
            scale = "log" if measure == "kl" else "linear"
            panels.append(Panel(group, tuple(series), "layer (0: embedding)", label, y_scale=scale))
        rows.append(tuple(panels))
    alt = "KL to the model, cross-entropy and entropy after each layer, by the logit lens and the tuned lens."
    size = (10.0, 0.8 + 2.9 * len(rows))
    return Chart("lenses", "Both lenses, layer by layer", tuple(rows), alt, LENSES.format(bands=SEEDS), size)


def differences(results: Results) -> Chart:
    """The difference to the baseline at each layer: of the probability and of KL, by the tuned lens."""
    hues, rows = charts.hues(results), []
    for group, cells in results.groups.items():
        panels = []
        for measure, label in (("probability", "Δ probability, percentage points"), ("kl", "Δ KL to the model, bits")):
            series = [
                _line(points, hues[model := cell.key.fields["model"]], label=model, marker="o")
                for cell in cells
                if not cell.key.is_baseline and len(points := difference(cell, measure, "layer", lens="tuned"))
            ]
            if series:
                ends = (0.0, max(max(line.x) for line in series))
                series.append(Series("", ends, (0.0, 0.0), charts.GREY, width=0.8))
            panels.append(Panel(group, tuple(series), "layer (0: embedding)", label))
        rows.append(tuple(panels))
    alt = "The difference of each model to mamba after each layer."
    size = (10.0, 0.8 + 2.9 * len(rows))
    return Chart("differences", "Differences to mamba, layer by layer", tuple(rows), alt, DIFFERENCES, size)


def points(results: Results) -> pd.DataFrame:
    """All points of the pictures: a row for each cell, quantity, lens and layer."""
    found = []
    for cell in results.cells:
        told = cell.key.fields | {"seeds": " ".join(map(str, cell.values))}
        for measure in MEASURES:
            for lens in LINES:
                at = at_layers(cell, measure, lens).to_dict("records")
                found += [told | {"measure": measure, "lens": lens} | one for one in at]
    fields = [*results.cells[0].key.fields, "seeds", "measure", "lens", "layer", "mean", "low", "high", "error"]
    return pd.DataFrame(found, columns=fields)


def figure(cell: Cell, name: str) -> float | None:
    """The mean over seeds of another figure of the measurements."""
    found = [run.part("values").get(name) for run in cell.seeds if run.value is not None]
    numbers = [one for one in found if isinstance(one, int | float)]
    return fmean(numbers) if numbers and len(numbers) == len(found) else None


def nearer(cell: Cell) -> tuple[float, Interval | None] | None:
    """The KL of the tuned lens minus that of the baseline, over the seeds of both, and where it lies."""
    base = cell.baseline
    if base is None or cell.key.is_baseline:
        return None
    ours, theirs = ({run.seed: run.part("values").get("kl") for run in one.seeds} for one in (cell, base))
    found = [ours[seed] - theirs[seed] for seed in cell.pairs if None not in (ours[seed], theirs[seed])]
    return (fmean(found), statistics.mean_interval(found)) if found else None


def _nearer_text(cell: Cell) -> str:
    found = nearer(cell)
    if found is None:
        return "–"
    delta, interval = found
    told = f"{delta:+.3f}" + (f" ({interval.low:+.3f}, {interval.high:+.3f})" if interval else "")
    return told.replace("-", "−")


def further(cell: Cell) -> dict[str, Any]:
    """What a row of `figure6.json` has beside the fields of every table."""
    delta, interval = nearer(cell) or (None, None)
    of_kl = {"delta_kl": delta, "delta_kl_low": None, "delta_kl_high": None}
    if interval is not None:
        of_kl |= {"delta_kl_low": interval.low, "delta_kl_high": interval.high}
    return {name: figure(cell, name) for name in FIGURES} | of_kl


def notes_on(results: Results) -> Sequence[str]:
    """How to read the table; the section of effects, which is of its cells, does not say it again."""
    of_effects = any("effect" in cell.key.fields for cell in results.cells)
    return () if of_effects else (MEANING, NEARER, EFFECTS)


def _column(header: str, name: str, digits: int = 3) -> Column:
    def text(cell: Cell) -> str:
        found = figure(cell, name)
        return "–" if found is None else f"{found:.{digits}f}"

    return Column(header, text, spare=True)


FIGURES = {
    "probability": "at the end, %",
    "kl": "KL tuned, bits",
    "logit_kl": "KL logit, bits",
    "bits": "bits per symbol",
}


def _charts(results: Results) -> Sequence[Chart]:
    return [probabilities(results), lenses(results), differences(results), charts.deltas(results, BASELINE)]


DESIGN = Design(
    name="figure6",
    kind="figure",
    title="Figure 6: what a model would say after each layer",
    sweep="figure6",
    key=key,
    baseline="mamba on the same data",
    metric="early_probability",
    columns=(
        columns.MODEL,
        columns.RESULT,
        columns.DELTA,
        columns.DIFFERS,
        columns.INTERVAL,
        columns.SEEDS,
        *(_column(header, name) for name, header in FIGURES.items()),
        Column("Δ KL tuned", _nearer_text, spare=True),
        columns.SMALLEST,
        columns.SPREAD,
        columns.PARAMETERS,
    ),
    charts=_charts,
    further=further,
    notes_on=notes_on,
    points=points,
    effects=effects,
)
