"""Figure 6 of the paper: the probability of the right symbol after each layer, by the tuned lens; with KL and entropy.

The paper shows it for models of 370M parameters on BABILong's prompts. Here it is of any run: on text the right symbol
is the next one, on a task's examples the answer, on prompts the first symbol of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from diffmamba.document import Chart
from diffmamba.reports import charts, columns, statistics
from diffmamba.reports.cells import Cell, Key, Results, against
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.designs import lens_charts
from diffmamba.reports.designs.lens_charts import BASELINE
from diffmamba.reports.measured import chosen, curve
from diffmamba.reports.statistics import Interval

MEANING = (
    "The value is the mean, over the layers before the last, of the probability that the tuned lens gives to the right "
    "symbol: the next one of a text, the answer of a task. at the end: the same of the model itself. KL: from what the "
    "model says at its end to what a lens says, the mean over the layers before the last. All are of a split that the "
    "lens was not trained on."
)
NEARER = (
    "Δ KL tuned: that of the baseline is subtracted, over the seeds of both. Its interval is Student's t over seeds "
    "(95%, each row by itself)."
)
EFFECTS = (
    "The section Effects has the difference at each layer, as layers correspond where models have as many. A higher "
    "probability at a layer may come from a model that is better at its end: compare the last layer first."
)


def key(config: Mapping[str, Any]) -> Key:
    """A model, and what it is measured on: each text or task is a group of its own."""
    model, measure, name = config["model"], config["measure"], _name(config["model"])
    on = (config.get("measured") or config["data"])["name"]
    if measure.get("prompts"):
        on = Path(measure["prompts"]).stem
    numbering = measure.get("numbering", "embedding")
    group = f"{on}, layers as published" if numbering == "published" else on
    return Key(
        {"data": on, "model": name, "blocks": len(model["layer"]) * model["n_layers"], "numbering": numbering},
        label=f"{group}, {name}",
        is_baseline=name == BASELINE,
        group=group,
    )


def _name(model: Mapping[str, Any]) -> str:
    """The name of a model. Mamba with the outer norm of the differential models is the control for that norm."""
    return f"{model['name']}, outer norm" if model["name"] == BASELINE and model.get("outer_norm") else model["name"]


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
    both = [(ours[seed], theirs[seed]) for seed in cell.pairs]
    found = [one - other for one, other in both if one is not None and other is not None]
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
    drawn = (lens_charts.probabilities, lens_charts.lenses, lens_charts.differences)
    return [*(draw(results) for draw in drawn), charts.deltas(results, BASELINE)]


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
    points=lens_charts.points,
    effects=effects,
)
