"""What mixers attend to: does a differential mixer give less weight to what does not matter?

The paper says so of its design, by analogy with attention, and shows no figure of it; so there are no published numbers
here. Two kinds of weights are told (see `mixers.implicit_attention`). *Matrix*: M of the heads of Mamba, and M1 - λ M2
of a differential mixer. *Output*: the length of what a position adds to the output of the mixer, which is exact for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from diffmamba.reports import columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.designs import attention_charts
from diffmamba.reports.measured import chosen
from diffmamba.reports.records import Headline, SeedResult

BASELINE = "mamba"
NEEDLE, TEXT = "needle", "text"


@dataclass(frozen=True)
class Reading:
    """A group of rows of the table: one figure of one kind of weights, on one kind of data."""

    on: str
    weights: str
    measure: str
    kind: str
    label: str
    digits: int = 4


READINGS = (
    Reading(NEEDLE, "trained", "needle", "matrix", "mass on the needle"),
    Reading(NEEDLE, "trained", "needle", "output", "mass on the needle"),
    Reading(NEEDLE, "trained", "snr", "output", "needle over elsewhere", 2),
    Reading(TEXT, "trained", "entropy", "matrix", "entropy, bits", 3),
    Reading(TEXT, "trained", "entropy", "output", "entropy, bits", 3),
    Reading(TEXT, "trained", "first", "matrix", "mass on the first position"),
    Reading(NEEDLE, "fresh", "needle", "matrix", "mass on the needle"),
    Reading(NEEDLE, "fresh", "needle", "output", "mass on the needle"),
)
READ = (
    "matrix: M of the heads of Mamba, and M1 − λ M2 of a differential mixer, by absolute value. output: the length of "
    "what a position adds to the output of the mixer, with gates, norms and values. A row of weights is that of one "
    "position, without the position itself, and adds up to 1. Figures are means over rows, heads and mixers."
)
NEEDLES = (
    "needle: the symbol that is asked for, the one before it, and the three after it, whose convolution still reads it. "
    "needle over elsewhere: the mean weight of a position of the needle over that of the other positions; equal weights "
    "give 1. Rows of fresh weights are the control: what is there before training."
)
ACCURACY = "Share of needles that are found, mean over seeds: {found}."


def key(config: Mapping[str, Any]) -> Key:
    """The data, the weights and the model."""
    name, data = config["model"]["name"], config["data"]["name"]
    kind = "fresh" if config["weights"]["_target_"].endswith("Fresh") else "trained"
    return Key(
        {"data": data, "on": NEEDLE if data == "needle" else TEXT, "weights": kind, "model": name},
        label=f"{data}, {kind}, {name}",
        is_baseline=name == BASELINE,
        group=f"{data}, {kind}",
    )


def part_of(run: SeedResult, kind: str) -> str:
    """The part of a measurement that is its matrix or its output."""
    if kind == "output":
        return "output"
    return "difference" if (run.rows.get("part") == "difference").any() else "branch1"


def value_of(run: SeedResult, measure: str, kind: str) -> float | None:
    """A figure over all mixers and heads."""
    if run.value is None:
        return None
    found = chosen(run.rows, measure, part=part_of(run, kind), block=None, distance=None, head=None)
    return float(found["value"].iloc[0]) if len(found) else None


def fold(results: Results) -> Results:
    """A row for each reading and model."""
    groups = results.groups
    rows = [
        _row(cell, reading)
        for reading in READINGS
        for cells in groups.values()
        for cell in cells
        if (cell.key.fields["on"], cell.key.fields["weights"]) == (reading.on, reading.weights)
    ]
    return replace(results, metric=Headline("figure", "figure"), cells=tuple(rows), fine=results.cells)


def _row(cell: Cell, reading: Reading) -> Cell:
    group = f"{cell.key.fields['data']}, {reading.weights}: {reading.label}, {reading.kind}"
    made = Key(
        {**cell.key.fields, "figure": reading.measure, "of": reading.kind},
        label=f"{group}, {cell.key.fields['model']}",
        is_baseline=cell.key.is_baseline,
        group=group,
    )
    seeds = []
    for run in cell.seeds:
        value = value_of(run, reading.measure, reading.kind)
        seeds.append(run if run.value is None else replace(run, value=value))
    return Cell(made, tuple(seeds), Headline(reading.measure, reading.label, digits=reading.digits))


def notes_on(results: Results) -> Sequence[str]:
    """Whether the models find the needles at all."""
    found = []
    for cell in results.planned:
        if cell.key.fields["on"] == NEEDLE and cell.values:
            shares = [value for run in cell.seeds if (value := run.part("values").get("accuracy")) is not None]
            found += [
                f"{cell.key.fields['model']} ({cell.key.fields['weights']}) {sum(shares) / len(shares):.3f}"
            ] * bool(shares)
    return [ACCURACY.format(found=", ".join(found))] if found else []


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """`attention`: every figure of every run, by block, part and distance."""
    found = [
        run.rows[run.rows["measure"] != "map"].assign(**{**cell.key.fields, "seed": run.seed, "run": run.id})
        for cell in results.planned
        for run in cell.seeds
        if run.value is not None
    ]
    return {"attention": pd.concat(found).dropna(axis=1, how="all")} if found else {}


DESIGN = Design(
    name="figure_attention",
    kind="figure",
    title="What mixers attend to",
    sweep="figure_attention",
    key=key,
    fold=fold,
    baseline="mamba on the same data",
    metric="entropy",
    columns=(
        columns.MODEL,
        replace(columns.RESULT, header="mean ± std"),
        columns.DELTA,
        columns.DIFFERS,
        columns.INTERVAL,
        columns.SEEDS,
        Column("Δ, %", columns._delta_percent, spare=True),
        columns.SMALLEST,
        columns.P,
        columns.SPREAD,
        columns.PARAMETERS,
    ),
    charts=attention_charts.all_of,
    notes=(READ, NEEDLES),
    notes_on=notes_on,
    points=None,
    tables=tables,
)
