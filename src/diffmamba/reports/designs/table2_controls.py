"""Table 2 with the controls that the paper does not have: what is due to subtraction, to grouping, to the outer norm?

With a projection for each branch, `M1 - λ M2` and `M1 + λ M2` are one family of functions. So the gain of Diff-Mamba
over Mamba has three parts, and each has its control: two groups (`mamba_grouped`), the outer norm (all models with and
without it), and the minus sign (`diff_mamba_additive`). `reparam_bounded` is the λ of the published code, but able to
learn. docs/study.md has the results at scale `study`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from diffmamba.document import Chart, Panel, Series
from diffmamba.paper.published import DECIMALS, PublishedResult
from diffmamba.reports import charts
from diffmamba.reports.cells import Cell, Key, Results, against
from diffmamba.reports.designs import table2

Named = tuple[str, bool, str | None]
"""Model, outer norm, form of λ."""
CONTRIBUTION: Named = ("diff_mamba", True, "scalar")
EFFECTS: dict[str, tuple[Named, Named]] = {
    "all of it: N-Diff-Mamba over Mamba": (CONTRIBUTION, ("mamba", False, None)),
    "outer norm, of Mamba": (("mamba", True, None), ("mamba", False, None)),
    "outer norm, of Diff-Mamba": (CONTRIBUTION, ("diff_mamba", False, "scalar")),
    "two groups, with the outer norm": (("mamba_grouped", True, None), ("mamba", True, None)),
    "minus in the place of plus": (CONTRIBUTION, ("diff_mamba_additive", True, "scalar")),
    "a λ that can learn": (("diff_mamba", True, "reparam_bounded"), ("diff_mamba", True, "reparam")),
}
"""What each part does: a cell, and the one that lacks the part."""
LAMBDAS = (
    "λ of each residual block with a mixer, the mean over seeds; the band reaches from the lowest to the highest seed. "
    "λ lies between λ_init and λ_init + 1."
)


def key(config: Mapping[str, Any]) -> Key:
    """As in table 2, with the number of layers, so that another depth is another group."""
    found, layers = table2.key(config), config["model"]["n_layers"]
    return replace(found, fields=found.fields | {"layers": layers}, group=f"{layers} layer{'s' * (layers != 1)}")


def effects(results: Results) -> tuple[Cell, ...]:
    """The differences of `EFFECTS` between the cells that there are, in each group."""
    found = []
    for group, cells in results.groups.items():
        named = {_name(cell): cell for cell in cells}
        for what, (ours, other) in EFFECTS.items():
            if ours in named and other in named:
                label = f"{what}, {group}" if len(results.groups) > 1 else what
                found.append(_effect(what, label, named[ours], named[other]))
    return against(found)


def lambdas(results: Results) -> Chart:
    """λ of each block over training, a panel for each cell with one."""
    panels = [panel for cell in results.cells if (panel := _lambda_panel(results, cell)).series]
    rows = tuple(tuple(panels[start : start + charts.ACROSS]) for start in range(0, len(panels), charts.ACROSS))
    alt = "λ of each residual block over training."
    return Chart("lambdas", "λ over training", rows, alt, LAMBDAS, size=(10, 0.6 + 2.1 * max(1, len(rows))))


def _name(cell: Cell) -> Named:
    fields = cell.key.fields
    return fields["model"], fields["outer_norm"], fields["lambda_form"]


def _effect(what: str, label: str, ours: Cell, other: Cell) -> Cell:
    value, base = ours.key.published.value, other.key.published.value
    delta = None if value is None or base is None else round(value - base, DECIMALS)
    return replace(
        ours,
        key=Key(
            {"effect": what, "model": ours.key.fields["model"], "cell": ours.key.label, "minus": other.key.label},
            label=label,
            is_baseline=False,
            group=ours.key.group,
            published=PublishedResult(value, delta) if delta is not None else PublishedResult(),
        ),
        baseline=other,
    )


def _lambda_panel(results: Results, cell: Cell) -> Panel:
    counted = [run.record.get("evaluations") or [] for run in cell.seeds if run.value is not None]
    names = sorted({name for found in counted for at in found for name in at if name.startswith("lambda/")}, key=_block)
    hues = dict(zip(names, charts.sequence(len(names)), strict=True))
    series = []
    for name in names:
        points = charts.curve(cell, name)
        columns = (tuple(points[column].astype(float)) for column in ("epoch", "mean", "low", "high"))
        x, y, low, high = columns
        series.append(Series(f"block {_block(name)}", x, y, hues[name], low=low, high=high))
    return Panel(cell.key.label, tuple(series), "training epochs", "λ")


def _block(name: str) -> int:
    return int(name.rpartition("/")[2])


def _charts(results: Results) -> Sequence[Chart]:
    return [
        table2.curves(results),
        charts.deltas(results, table2.BASELINE),
        charts.over_training(results, table2.BASELINE),
        lambdas(results),
    ]


DESIGN = replace(
    table2.DESIGN,
    name="table2_controls",
    title="Table 2 with its controls: subtraction, grouping, the outer norm, and a λ that can learn",
    sweep="table2_controls",
    key=key,
    baseline=f"{table2.BASELINE} of the same depth",
    charts=_charts,
    effects=effects,
)
