"""Pictures of Lyapunov exponents: by depth before and after training, by temperature, and deviations over time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts, measured
from diffmamba.reports.cells import Cell, Results

EMPTY = ((Panel("", ()),),)
TEMPERATURE = "temperature"
BRANCHES: dict[int, dict[str, Any]] = {1: {}, 2: {"line": "dashed", "hollow": True}}
ENDS = (0.0, 0.5, 1.0)
"""The quantiles of exponents that are drawn."""
TIMES = 200  # points of a line over time
GONE = 1e-300  # a deviation of 0, on an axis of logarithms
DEPTH = (
    "The half-lives of all states of a layer, in symbols. A line is the median of a branch, its band reaches from the "
    "fastest state to the slowest; both are means over seeds of exponents. Blocks count from 1; feed-forward blocks, "
    "which have no state, are left out."
)
TIME = (
    "Solid: the largest difference of the outputs, over {layers} layers and all channels, after noise of size ε was "
    "added to the state and to the first input; a mean over seeds of its logarithm, with the interval of that mean as "
    "a band. Dashed: from the same start, what a state with the largest exponent of all layers would do."
)
LOOP = (
    "The largest exponent of the model that is fed the mean embedding of softmax(logits / temperature). Points are "
    "means over seeds, with the interval of each mean. Above the line at 0 a small difference would grow."
)


def by_depth(cells: Sequence[Cell], results: Results) -> Chart:
    """The figure itself: a row of panels for each kind of weights, a panel for each model."""
    rows, heights = [], []
    for before in (True, False):
        row = [_of_layers(cell, charts.hues(results)) for cell in cells if ("before" in cell.key.group) == before]
        heights += [height for panel in row for one in panel.series for height in (*one.low, *one.high)]
        rows += [tuple(row)] * bool(row)
    if heights:
        y_range = (min(heights) / 1.5, max(heights) * 1.5)
        rows = [tuple(replace(panel, y_range=y_range) for panel in row) for row in rows]
    alt = "Half-lives of the states of each layer, for each model before and after training. The table has the longest."
    title, size = "By depth, before and after training", (10, 1.2 + 2.5 * max(1, len(rows)))
    return Chart("figure_lyapunov", title, tuple(rows) or EMPTY, alt, DEPTH, size)


def _of_layers(cell: Cell, hues: Mapping[str, str]) -> Panel:
    """A line with a band for each branch. Layers that have a state which forgets nothing are left out."""
    model, found, series = cell.key.fields["model"], quantiles(cell), []
    for branch, look in BRANCHES.items():
        of_branch = found[found["branch"] == branch].pivot(index="block", columns="quantile", values="value")
        of_branch = math.log(2) / -of_branch[(of_branch < 0).all(axis=1)]
        if len(of_branch):
            x, low, y, high = (_numbers(one) for one in (of_branch.index, *(of_branch[share] for share in ENDS)))
            series.append(Series(f"branch {branch}", x, y, hues[model], low=low, high=high, marker="o", **look))
    title = f"{model}, {cell.key.group.rpartition(', ')[2]}"
    ticks = tuple(sorted({at for one in series for at in one.x}))
    return Panel(title, tuple(series), "block", "half-life, symbols", y_scale="log", x_ticks=ticks)


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
        model, found = cell.key.fields["model"], deviations(cell)
        if len(found):
            exponent = fmean(run.record["values"]["bound"] for run in cell.seeds if run.value is not None)
            line = _line("largest deviation", found, "time", charts.hues(results)[model])
            bound = _numbers(line.y[0] * np.exp(exponent * found["time"]))
            dashed = Series("bound by the largest exponent", line.x, bound, charts.GREY, "dashed")
            labels = ("positions after the change", "deviation / ε")
            panels.append(Panel(model, (line, dashed), *labels, y_scale="log"))
    rows = tuple(tuple(panels[start : start + 2]) for start in range(0, len(panels), 2))
    alt = "The largest deviation of the output over positions, for each model, beside the bound by the exponents."
    caption, size = TIME.format(layers=layers(cells) or "all"), (10, 1.2 + 2.5 * max(1, len(rows)))
    return Chart("deviations", "After a small change", rows or EMPTY, alt, caption, size)


def layers(cells: Sequence[Cell]) -> str:
    """How many layers the measurements of these cells are over: "100", or "4 or 100"; empty where none counts."""
    found = {int(run.record["values"]["blocks"]) for cell in cells for run in cell.seeds if run.value is not None}
    return " or ".join(map(str, sorted(found)))


def deviations(cell: Cell) -> pd.DataFrame:
    """Columns time, mean, low and high: the largest deviation over ε, the geometric mean over seeds."""
    rows = {run.seed: measured.chosen(run.rows, "deviation") for run in cell.seeds if run.value is not None}
    by_seed = pd.DataFrame({seed: one.set_index("time")["value"] for seed, one in rows.items() if "time" in one})
    if by_seed.empty:
        return pd.DataFrame()
    some = by_seed.iloc[:: max(1, len(by_seed) // TIMES)].clip(lower=GONE)
    found = measured.with_interval(some.apply(np.log), "time")
    return found.assign(**{name: np.exp(found[name]) for name in measured.COLUMNS})


def by_temperature(cells: Sequence[Cell], results: Results) -> Chart:
    """The exponent of the closed loop by temperature, a panel for each kind of weights."""
    panels = []
    for before in (True, False):
        of_kind = [cell for cell in cells if ("before" in cell.key.group) == before]
        found = [
            (cell.key.fields["model"], measured.curve(cell, "exponent", TEMPERATURE, start=None)) for cell in of_kind
        ]
        hues = charts.hues(results)
        lines = [
            replace(_line(model, one.sort_values(TEMPERATURE), TEMPERATURE, hues[model]), marker="o")
            for model, one in found
            if len(one)
        ]
        if lines:
            ends = [x for one in lines for x in one.x]
            zero = Series("", (min(ends), max(ends)), (0.0, 0.0), charts.GREY, width=0.8)
            title = of_kind[0].key.group.rpartition(", ")[2]
            panels.append(Panel(title, (zero, *lines), TEMPERATURE, "exponent, nats per symbol", x_scale="log"))
    alt = "The largest exponent of the models that read their own output, by temperature. The table has the first."
    rows = (tuple(panels),) if panels else EMPTY
    return Chart("temperatures", "Reading its own output", rows, alt, LOOP, (10, 3.6))


def _line(label: str, found: pd.DataFrame, at: str, hue: str) -> Series:
    """Means, with their intervals as a band where all have one."""
    x, y, low, high = (_numbers(found[name]) for name in (at, *measured.COLUMNS))
    line = Series(label, x, y, hue)
    return line if any(map(math.isnan, low)) else replace(line, low=low, high=high)


def _numbers(column: Iterable[Any]) -> tuple[float, ...]:
    return tuple(map(float, column))


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
            found = measured.curve(cell, "exponent", TEMPERATURE, start=None)
            parts["temperatures"].append(found.assign(**told))
    return {name: pd.concat(found) for name, found in parts.items() if found and any(len(one) for one in found)}
