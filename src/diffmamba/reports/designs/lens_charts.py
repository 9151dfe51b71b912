"""Pictures of lenses: what they say after each layer, and differences to the baseline there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.measured import curve, difference

BASELINE = "mamba"
CONFIDENCE = 1.96  # standard errors to either side, 95% of a normal distribution
MEASURES = ("probability", "other_probability", "kl", "cross_entropy", "entropy")
LINES = {"tuned": "solid", "logit": "dashed"}
BITS = {"kl": "KL to the model, bits", "cross_entropy": "cross-entropy, bits", "entropy": "entropy, bits"}
DIFFERENCES = {"probability": "Δ probability, percentage points", "kl": "Δ KL to the model, bits"}
LAYERS = {"embedding": "layer (0: embedding)", "published": "layer as published (1: block 2)"}
SEEDS = (
    "Bands are the interval of the mean over seeds, for each layer by itself, and may go on beyond the edge; of one "
    "seed they are that over sequences."
)
FIGURE = (
    "The probability of the right symbol after each layer, by the tuned lens, in per cent; the last layer is the model "
    "itself. Dotted, in the colour of the model: what the lens gives there to another symbol, drawn among the targets "
    f"of other positions. The grey line is one of all symbols. {SEEDS}"
)
LENSES = (
    "Solid: tuned lens; dashed: logit lens, which reads a layer with the model's own head and is not trained. KL is 0 "
    f"at the last layer by definition, so it is not drawn there. {SEEDS}"
)
APART = (
    "Each model minus mamba at the same layer, by the tuned lens, paired by seed. The band is the interval of the "
    "difference, for each layer by itself; the section Effects has those that hold for all layers together."
)


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
        series = [line for cell in cells for line in _probability_lines(cell, charts.hues(results))]
        sizes = {run.part("corpus").get("vocabulary") for cell in cells for run in cell.seeds if run.value is not None}
        level = [Series("uniform", _ends(series), (100 / size,) * 2, charts.GREY, width=0.8) for size in sizes if size]
        panels.append(_panel(group, cells, [*series, *level] if series else [], "probability of the right symbol, %"))
    alt = "The probability of the right symbol after each layer, by the tuned lens. The table has its means."
    return Chart("figure6", "The right symbol, layer by layer", (tuple(panels),), alt, FIGURE, size=(10, 4))


def _probability_lines(cell: Cell, hues: dict[str, str]) -> Iterator[Series]:
    model = cell.key.fields["model"]
    if len(points := at_layers(cell, "probability", "tuned")):
        yield _line(points, hues[model], label=model, marker="o")
    if len(points := at_layers(cell, "other_probability", "tuned")):
        yield replace(_line(points, hues[model], label="another symbol", line="dotted"), width=1.0, low=(), high=())


def lenses(results: Results) -> Chart:
    """KL, cross-entropy and entropy by layer, for both lenses; a row for each text or task."""
    hues = charts.hues(results)
    rows = [
        tuple(_panel(group, cells, _lens_lines(cells, measure, hues), label) for measure, label in BITS.items())
        for group, cells in results.groups.items()
    ]
    rows = [(replace(kl, y_scale="log", y_range=_decades(kl.series)), *others) for kl, *others in rows]
    alt = "KL to the model, cross-entropy and entropy after each layer, by the logit lens and the tuned lens."
    return Chart("lenses", "Both lenses, layer by layer", tuple(rows), alt, LENSES, (10.0, 0.8 + 2.9 * len(rows)))


def _lens_lines(cells: Sequence[Cell], measure: str, hues: dict[str, str]) -> list[Series]:
    found = []
    for cell in cells:
        model = cell.key.fields["model"]
        for lens, line in LINES.items():
            points = at_layers(cell, measure, lens)
            points = points.iloc[:-1] if measure == "kl" else points
            if len(points):
                found.append(_line(points, hues[model], label=f"{model}, {lens}", line=line))
    return found


def differences(results: Results) -> Chart:
    """The difference to the baseline at each layer: of the probability, and of KL before the last layer."""
    hues, rows = charts.hues(results), []
    for group, cells in results.groups.items():
        panels = []
        for measure, label in DIFFERENCES.items():
            found = [(cell, difference(cell, measure, "layer", lens="tuned")) for cell in cells if cell.comparison]
            series = [
                _line(
                    points.iloc[:-1] if measure == "kl" else points,
                    hues[model := cell.key.fields["model"]],
                    label=model,
                    marker="o",
                )
                for cell, points in found
                if len(points) > 1
            ]
            level = [Series("", _ends(series), (0.0, 0.0), charts.GREY, width=0.8)] if series else []
            panels.append(replace(_panel(group, cells, [*series, *level], label), y_range=_beside(series)))
        rows.append(tuple(panels))
    alt = "The difference of each model to mamba after each layer."
    size = (10.0, 0.8 + 2.9 * len(rows))
    return Chart("differences", "Differences to mamba, layer by layer", tuple(rows), alt, APART, size)


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


def _line(points: pd.DataFrame, hue: str, **look: Any) -> Series:
    x, y, low, high = (tuple(points[name].astype(float)) for name in ("layer", "mean", "low", "high"))
    line = Series(x=x, y=y, colour=hue, **look)
    return line if points[["low", "high"]].isna().to_numpy().any() else replace(line, low=low, high=high)


def _panel(title: str, cells: Sequence[Cell], series: Sequence[Series], label: str) -> Panel:
    """Lines over the layers of cells that count them alike, from 0 up to a little above the highest."""
    if not series:
        return Panel(title, ())
    top = 1.08 * max(max(line.y) for line in series)
    layers = range(round(_ends(series)[1]) + 1)
    ticks = tuple(float(layer) for layer in layers[:: 1 + len(layers) // 16])
    return Panel(
        title, tuple(series), LAYERS[cells[0].key.fields["numbering"]], label, y_range=(0.0, top), x_ticks=ticks
    )


def _ends(series: Sequence[Series]) -> tuple[float, float]:
    return (0.0, max((max(line.x) for line in series), default=0.0))


def _decades(series: Sequence[Series]) -> tuple[float, float] | None:
    """Half the lowest and twice the highest value above 0, for an axis of powers of ten."""
    heights = [y for line in series for y in line.y if y > 0]
    return (min(heights) / 2, 2 * max(heights)) if heights else None


def _beside(series: Sequence[Series]) -> tuple[float, float] | None:
    """Room for values and 0, and for bands up to twice their range."""
    heights = [0.0, *(y for line in series for y in line.y)]
    room = max(heights) - min(heights)
    return (min(heights) - room, max(heights) + room) if room else None
