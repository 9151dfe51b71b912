"""What mixers attend to: does a differential mixer give less weight to what does not matter?

The paper says so of its design, by analogy with attention, and shows no figure of it, so no numbers are published. Two
kinds of weights are told (see `mixers.implicit_attention`). *Matrix*: M of the heads of Mamba, and M1 - λ M2 of a
differential mixer. *Output*: the length of what a position adds to the output of the mixer, which is exact for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pandas as pd

from diffmamba.reports import columns
from diffmamba.reports.cells import Cell, Key, Results, against
from diffmamba.reports.design import Design
from diffmamba.reports.designs import attention_charts
from diffmamba.reports.designs.attention_charts import part_of
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
    "matrix: M of the heads of Mamba, and M1 − λ M2 of a differential mixer, by absolute value. output: the length "
    "of what a position adds to the output of the mixer, with gates, norms and values. The weights of a position are "
    "those of the earlier ones, and add up to 1. Figures are means over positions, heads and mixers."
)
NEEDLES = (
    "needle: the symbol that is asked for, the one before it, and the three after it, whose convolution still reads "
    "it. needle over elsewhere: the mean weight of a position of the needle over that of the other positions; equal "
    "weights give 1. Rows of fresh weights are the control: what is there before training."
)
SUBTRACTION = (
    "Effects: what the subtraction does within a differential mixer, M1 − λ M2 against M1 of the same weights. Were it "
    "to cancel what does not matter, the mass on the needle would rise."
)
EFFECTS = ((NEEDLE, "needle", "mass on the needle", 4), (TEXT, "entropy", "entropy, bits", 3))
ACCURACY = "Share of needles that are found, mean over seeds: {found}."


def key(config: Mapping[str, Any]) -> Key:
    """The data that are measured on, the weights and the model. Examples of recall count as needles, MAD's too."""
    on, name = config.get("measured") or config["data"], config["model"]["name"]
    data, of_task = on["name"], "rule" in on
    kind = "fresh" if config["weights"]["_target_"].endswith("Fresh") else "trained"
    return Key(
        {"data": data, "on": NEEDLE if of_task else TEXT, "weights": kind, "model": name},
        label=f"{data}, {kind}, {name}",
        is_baseline=name == BASELINE,
        group=f"{data}, {kind}",
    )


def figure(run: SeedResult, measure: str, part: str) -> float | None:
    """A figure over all mixers and heads; None where the run does not count."""
    found = chosen(run.rows, measure, part=part, block=None, distance=None, head=None)
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


def effects(results: Results) -> tuple[Cell, ...]:
    """The difference of the branches against branch 1, of the trained weights of each differential mixer."""
    found = []
    for on, measure, words, digits in EFFECTS:
        for cell in results.planned:
            fields = cell.key.fields
            if (fields["on"], fields["weights"]) == (on, "trained") and part_of(cell, "matrix") == "difference":
                ours, other = (_of_part(cell, measure, part, words, digits) for part in ("difference", "branch1"))
                found.append(replace(ours, baseline=other))
    return against(found)


def _of_part(cell: Cell, measure: str, part: str, words: str, digits: int) -> Cell:
    fields, what = cell.key.fields, f"{cell.key.fields['model']}, {cell.key.fields['data']}: {words}"
    seeds = (replace(run, value=figure(run, measure, part)) for run in cell.seeds)
    made = Key({"effect": what, **fields, "figure": measure}, label=f"{what}, {part}", is_baseline=False)
    return Cell(made, tuple(seeds), Headline(measure, words, digits=digits))


def _row(cell: Cell, reading: Reading) -> Cell:
    group = f"{cell.key.fields['data']}, {reading.weights}: {reading.label}, {reading.kind}"
    made = Key(
        {**cell.key.fields, "figure": reading.measure, "of": reading.kind},
        label=f"{group}, {cell.key.fields['model']}",
        is_baseline=cell.key.is_baseline,
        group=group,
    )
    part = part_of(cell, reading.kind)
    seeds = (replace(run, value=figure(run, reading.measure, part)) for run in cell.seeds)
    return Cell(made, tuple(seeds), Headline(reading.measure, reading.label, digits=reading.digits))


def notes_on(results: Results) -> Sequence[str]:
    """Whether the models find the needles at all."""
    found = []
    for cell in results.planned:
        shares = [float(run.part("values").get("accuracy") or 0) for run in cell.seeds if run.value is not None]
        if cell.key.fields["on"] == NEEDLE and shares:
            found.append(f"{cell.key.fields['model']} ({cell.key.fields['weights']}) {fmean(shares):.3f}")
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
        columns.SMALLEST,
        columns.P,
        columns.SPREAD,
        columns.PARAMETERS,
    ),
    charts=attention_charts.all_of,
    notes=(READ, NEEDLES, SUBTRACTION),
    effects=effects,
    notes_on=notes_on,
    points=None,
    tables=tables,
)
