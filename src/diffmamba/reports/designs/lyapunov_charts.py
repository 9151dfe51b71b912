"""Pictures of Lyapunov exponents: by depth before and after training, by temperature, and deviations over time."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts, measured
from diffmamba.reports.cells import Cell, Results

DEPTH = (
    "The half-lives of all states of a layer, in symbols. A line is the median of a branch, its band reaches from the "
    "fastest state to the slowest; both are means over seeds of exponents. Layers count from 0; feed-forward layers, "
    "which have no state, are left out."
)
TIME = (
    "Solid: the largest difference of the outputs, over 100 layers with random weights and all channels, after noise "
    "of size ε was added to the state and to the first input; a mean over seeds of its logarithm, with the interval of "
    "that mean as a band. Dashed: from the same start, what a state with the largest exponent of all layers would do."
)
TEMPERATURE = (
    "The largest exponent of the model that is fed the mean embedding of softmax(logits / temperature). Points are "
    "means over seeds, with the interval of each mean. Above the line at 0 a small difference would grow."
)
TIMES = 200  # points of a line over time


def by_depth(cells: Sequence[Cell], results: Results) -> Chart:
    """The figure itself: a row of panels for each kind of weights, a panel for each model."""
    models, groups = (
        list(dict.fromkeys(one(cell) for cell in cells))
        for one in (lambda c: c.key.fields["model"], lambda c: c.key.group)
    )
    places = {(cell.key.group, cell.key.fields["model"]): cell for cell in cells}
    rows, heights = [], []
    for group in sorted(groups, key=lambda name: "after" in name):
        row = []
        for model in models:
            cell = places.get((group, model))
            series = tuple(_branches(cell, charts.hues(results)[model])) if cell else ()
            heights += [height for one in series for height in (*one.low, *one.high)]
            title = f"{model}, {group.rpartition(', ')[2]}"
            row.append(Panel(title, series, "layer", "half-life, symbols", y_scale="log"))
        rows.append(tuple(row))
    if heights:
        y_range = (min(heights) / 1.5, max(heights) * 1.5)
        rows = [tuple(Panel(**{**vars(panel), "y_range": y_range}) for panel in row) for row in rows]
    alt = "Half-lives of the states of each layer, for each model before and after training. The table has the longest."
    panels = tuple(rows) or ((Panel("", ()),),)
    return Chart(
        "figure_lyapunov", "By depth, before and after training", panels, alt, DEPTH, (10, 1.2 + 2.5 * len(panels))
    )


def _branches(cell: Cell, hue: str) -> Iterator[Series]:
    """A line with a band for each branch."""
    found = quantiles(cell)
    for branch, line in ((1.0, "solid"), (2.0, "dashed")):
        of_branch = found[found["branch"] == branch].pivot(index="block", columns="quantile", values="value")
        of_branch = math.log(2) / -of_branch[(of_branch < 0).all(axis=1)]
        if len(of_branch):
            x, low, middle, high = (
                tuple(map(float, one)) for one in (of_branch.index, *(of_branch[q] for q in (0, 0.5, 1)))
            )
            yield Series(
                f"branch {branch:.0f}", x, middle, hue, line, marker="o", hollow=branch > 1, low=low, high=high
            )


def quantiles(cell: Cell) -> pd.DataFrame:
    """Columns branch, block, quantile and value: exponents, the means over the seeds that count."""
    rows = [run.rows for run in cell.seeds if run.value is not None]
    kept = [one[(one["measure"] == "exponent") & one["quantile"].notna()] for one in rows if "quantile" in one]
    columns = ["branch", "block", "quantile"]
    if not kept:
        return pd.DataFrame(columns=[*columns, "value"])
    return pd.concat(kept).groupby(columns)["value"].mean().reset_index()


def over_time(cells: Sequence[Cell], results: Results) -> Chart:
    """The largest deviation after a change, a panel for each model, beside the bound of the exponents."""
    panels = []
    for cell in cells:
        hue, found = charts.hues(results)[cell.key.fields["model"]], deviations(cell)
        if len(found):
            x, y, low, high = (tuple(found[name].astype(float)) for name in ("time", "mean", "low", "high"))
            bound = np.exp(
                np.mean([run.record["values"]["bound"] for run in cell.seeds if run.value is not None]) * found["time"]
            )
            line = (
                Series("largest deviation", x, y, hue, low=low, high=high)
                if not any(map(math.isnan, low))
                else Series("largest deviation", x, y, hue)
            )
            dashed = Series(
                "bound by the largest exponent",
                x,
                tuple(float(max(y[:8]) * one) for one in bound),
                charts.GREY,
                "dashed",
            )
            panels.append(
                Panel(
                    cell.key.fields["model"],
                    (line, dashed),
                    "positions after the change",
                    "deviation / ε",
                    y_scale="log",
                )
            )
    rows = tuple(tuple(panels[start : start + 2]) for start in range(0, len(panels), 2)) or ((Panel("", ()),),)
    alt = "The largest deviation of the output over positions, falling about as fast as the bound, for each model."
    return Chart("deviations", "After a small change", rows, alt, TIME, (10, 1.2 + 2.5 * len(rows)))


def deviations(cell: Cell) -> pd.DataFrame:
    """Columns time, mean, low and high: the largest deviation over ε, the geometric mean over seeds."""
    rows = {run.seed: measured.chosen(run.rows, "deviation") for run in cell.seeds if run.value is not None}
    rows = {seed: one for seed, one in rows.items() if "time" in one}
    if not rows:
        return pd.DataFrame()
    by_seed = pd.DataFrame(
        {seed: np.log(one.set_index("time")["value"].clip(lower=1e-300)) for seed, one in rows.items()}
    )
    found = measured.summed(by_seed.iloc[:: max(1, len(by_seed) // TIMES)], "time")
    return found.assign(**{name: np.exp(found[name]) for name in measured.COLUMNS})


def by_temperature(cells: Sequence[Cell], results: Results) -> Chart:
    """The exponent of the closed loop by temperature, a panel for each kind of weights."""
    panels = []
    for group in dict.fromkeys(cell.key.group for cell in cells):
        series = [
            line for cell in cells if cell.key.group == group for line in _by_temperature(cell, charts.hues(results))
        ]
        if series:
            ends = [x for one in series for x in one.x]
            zero = Series("", (min(ends), max(ends)), (0.0, 0.0), charts.GREY, width=0.8)
            title = group.rpartition(", ")[2]
            panels.append(Panel(title, (zero, *series), "temperature", "exponent, nats per symbol", x_scale="log"))
    panels.sort(key=lambda panel: "after" in panel.title)
    alt = "The largest exponent of the models that read their own output, by temperature. The table has that of 1."
    return Chart(
        "temperatures", "Reading its own output", (tuple(panels) or (Panel("", ()),),), alt, TEMPERATURE, (10, 3.6)
    )


def _by_temperature(cell: Cell, hues: dict[str, str]) -> Iterator[Series]:
    model, found = cell.key.fields["model"], measured.curve(cell, "exponent", "temperature", start=None)
    if len(found):
        found = found.sort_values("temperature")
        x, y, low, high = (tuple(found[name].astype(float)) for name in ("temperature", *measured.COLUMNS))
        band = {} if any(map(math.isnan, low)) else {"low": low, "high": high}
        yield Series(model, x, y, hues[model], marker="o", **band)


def trajectories(cell: Cell) -> pd.DataFrame:
    """The rows of the single trajectories of a closed loop at the first temperature, over all seeds that count."""
    found = []
    for run in cell.seeds:
        if run.value is not None and {"start", "temperature"} <= set(run.rows.columns):
            rows = run.rows[(run.rows["measure"] == "exponent") & run.rows["start"].notna()]
            found.append(rows[rows["temperature"] == rows["temperature"].iloc[0]])
    return pd.concat(found) if found else pd.DataFrame(columns=["value"])


def points(results: Results) -> dict[str, pd.DataFrame]:
    """By the names of their files: the quantiles of each layer, the deviations, and the exponents by temperature."""
    parts: dict[str, list[pd.DataFrame]] = {"quantiles": [], "deviations": [], "temperatures": []}
    for cell in results.cells:
        told = {name: cell.key.fields[name] for name in ("model", "weights")}
        kind = cell.key.fields["measure"]
        if kind == "Lyapunov":
            parts["quantiles"].append(quantiles(cell).assign(**told))
        elif kind == "Perturbation":
            parts["deviations"].append(deviations(cell).assign(**told))
        elif kind == "FreeRunning":
            found = measured.curve(cell, "exponent", "temperature", start=None)
            parts["temperatures"].append(found.assign(**told))
    return {name: pd.concat(found) for name, found in parts.items() if found and any(len(one) for one in found)}
