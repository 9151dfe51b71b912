"""Lyapunov exponents of Mamba, Diff-S6 and Diff-Mamba, before and after training (*Mamba State-Space Models Are
Lyapunov-Stable Learners*, arXiv 2406.00209).

Each cell is a measurement of one kind (see `KINDS`), and its value is an exponent: the largest of all states on a text,
that of the model that reads its own output, or the rate at which a small change is forgotten.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from diffmamba.document import Chart
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results, against
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.designs import lyapunov_charts
from diffmamba.reports.records import Headline

BASELINE = "mamba, measured in the same way"
KINDS = {
    "Lyapunov": "teacher-forced",
    "FreeRunning": "reads its own output",
    "Perturbation": "random inputs, changed once",
}
WEIGHTS = {"Trained": "after training", "Fresh": "before training"}
UNIT = (
    "All exponents are in nats per symbol: a difference is multiplied by e^exponent at each symbol, so it halves in "
    "half-life = ln 2 / -exponent symbols."
)
READING = (
    "teacher-forced: the largest exponent of all states of all state-space layers on the test split. reads its own "
    "output: the model is fed the mean embedding of its own prediction (at its first temperature), and the growth of a "
    "small difference of its whole state is measured. random inputs, changed once: the value is the rate at which the "
    "largest deviation of all layers shrinks, and bound the largest of their exponents."
)
FURTHER = (
    "above 0: the share of exponents above 0: of all states, or of trajectories. gain: the deviation of the difference "
    "of two branches over that of the larger branch, beside the most that it can be, 1 + λ. peak / ε: the largest "
    "deviation of the output over the size of the change; relative: the same over the root mean square of the output. "
    "diverged: the share of greedy texts that become others when the first symbol of the prompt does."
)
NONE_ABOVE = (
    "Of {count:,} exponents of states in {runs} teacher-forced measurements {positive} lie above 0. The largest is "
    "{largest}, the smallest {smallest}."
)
NORMAL = (
    "With few seeds an interval may reach above 0 where no exponent can: Student's t knows nothing of that limit, and "
    "exponents of few heads are skewed."
)
LOOPS = "Of {count} trajectories that read their own output, {positive} have an exponent above 0 at temperature {at}."
CHANGED = "Of each network on random inputs {layers} layers are measured, {weights}."


def key(config: Mapping[str, Any]) -> Key:
    """What is measured of a model, and whether before or after its training."""
    kind, weights = (str(config[name]["_target_"]).rpartition(".")[2] for name in ("measure", "weights"))
    model = config["model"]["name"]
    group = f"{KINDS.get(kind, kind)}, {WEIGHTS.get(weights, 'given weights')}"
    return Key(
        {"model": model, "measure": kind, "weights": weights},
        label=f"{model}, {group}",
        is_baseline=model == "mamba",
        group=group,
    )


def figure(cell: Cell, name: str) -> float | None:
    """The mean over seeds of one figure of the measurements."""
    found = [value for run in cell.seeds if run.value is not None and (value := _value(run.record, name)) is not None]
    return sum(found) / len(found) if found else None


def _value(record: Mapping[str, Any], name: str) -> float | None:
    value = (record.get("values") or {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def _column(header: str, name: str, digits: int = 2) -> Column:
    metric = Headline(name, name, digits=digits)
    return Column(header, lambda cell: metric.text(figure(cell, name)), spare=True)


def half_life(cell: Cell) -> float | None:
    """That of the mean exponent; None where nothing is forgotten."""
    return math.log(2) / -cell.mean if cell.mean is not None and cell.mean < 0 else None


def _half_life_text(cell: Cell) -> str:
    found = half_life(cell)
    return "–" if found is None else f"{found:.1f}" if found < 100 else f"{found:.0f}"


def _mean_interval_text(cell: Cell) -> str:
    found = cell.mean_interval
    return "–" if found is None else f"{cell.metric.difference(found.low)}, {cell.metric.difference(found.high)}"


def notes_on(results: Results) -> list[str]:
    """What the paper claims, counted: whether an exponent is above 0, and of trajectories that read themselves."""
    found = []
    forced = [run.record["values"] for cell in _of(results, "Lyapunov") for run in cell.seeds if run.value is not None]
    if forced:
        text = Headline("", "", digits=4).difference
        found.append(
            NONE_ABOVE.format(
                count=int(sum(values["exponents"] for values in forced)),
                runs=len(forced),
                positive=round(sum(values["positive"] * values["exponents"] for values in forced)),
                largest=text(max(values["exponent"] for values in forced)),
                smallest=text(min(values["smallest"] for values in forced)),
            )
        )
    loops = pd.concat(
        [pd.DataFrame(columns=["value"]), *(lyapunov_charts.trajectories(cell) for cell in _of(results, "FreeRunning"))]
    )
    if len(loops):
        at = " or ".join(f"{one:g}" for one in loops["temperature"].unique())
        found.append(LOOPS.format(count=len(loops), positive=int((loops["value"] > 0).sum()), at=at))
    if changed := _of(results, "Perturbation"):
        weights = " or ".join(
            dict.fromkeys(WEIGHTS.get(cell.key.fields["weights"], "given weights") for cell in changed)
        )
        if layers := lyapunov_charts.layers(changed):
            found.append(CHANGED.format(layers=layers, weights=weights))
    return found


def _of(results: Results, kind: str) -> list[Cell]:
    return [cell for cell in results.cells if cell.key.fields["measure"] == kind]


def further(cell: Cell) -> dict[str, Any]:
    """What a row of `figure_lyapunov.json` has beside the fields of every table."""
    names = ("bound", "straight", "peak", "relative_peak", "gain", "gain_bound", "median", "smallest", "positive")
    more = ("spread", "drift", "diverged", "exponents", "symbols", "blocks")
    return {"half_life": half_life(cell)} | {name: figure(cell, name) for name in (*names, *more)}


def pictures(results: Results) -> Sequence[Chart]:
    """By depth, over time, by temperature, and the differences to the baseline."""
    others = (
        lyapunov_charts.over_time(_of(results, "Perturbation"), results),
        lyapunov_charts.by_temperature(_of(results, "FreeRunning"), results),
    )
    drawn = [chart for chart in others if any(panel.series for row in chart.panels for panel in row)]
    deltas = [charts.deltas(results, "mamba")] * bool(results.comparisons)
    return [lyapunov_charts.by_depth(_of(results, "Lyapunov"), results), *drawn, *deltas]


def effects(results: Results) -> Sequence[Cell]:
    """What training does: after it minus before it, of the same networks."""
    places = {tuple(cell.key.fields.values()): cell for cell in results.cells}
    found = []
    for (model, kind, weights), after in places.items():
        before = places.get((model, kind, "Fresh"))
        if weights == "Trained" and before:
            label = f"training, {model}, {KINDS[kind]}"
            fields = {"effect": label, "model": model, "cell": after.key.label, "minus": before.key.label}
            found.append(replace(after, key=Key(fields, label, False, after.key.group), baseline=before))
    return against(found)


DESIGN = Design(
    name="figure_lyapunov",
    kind="figure",
    title="Lyapunov exponents: how fast state-space models forget",
    sweep="figure_lyapunov",
    key=key,
    baseline=BASELINE,
    metric="exponent",
    columns=(
        columns.MODEL,
        columns.RESULT,
        Column("interval of the mean", _mean_interval_text, short="its interval"),
        Column("half-life", _half_life_text),
        columns.DELTA,
        columns.DIFFERS,
        columns.INTERVAL,
        columns.SEEDS,
        _column("above 0", "positive"),
        _column("bound", "bound", 4),
        _column("gain", "gain"),
        _column("1 + λ", "gain_bound"),
        _column("peak / ε", "peak"),
        _column("relative", "relative_peak"),
        _column("diverged", "diverged"),
        columns.SMALLEST,
        columns.P,
        columns.SPREAD,
        columns.PARAMETERS,
    ),
    charts=pictures,
    further=further,
    notes=(UNIT, READING, FURTHER, NORMAL),
    notes_on=notes_on,
    points=None,
    effects=effects,
    tables=lyapunov_charts.points,
)
