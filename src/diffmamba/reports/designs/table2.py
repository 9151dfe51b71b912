"""Table 2 of the paper: which part of the gain comes from the subtraction, from the outer norm and from the form of λ.

The paper trains on Text8 and reads test PPL at epoch 10. Its plain Mamba has no row with the outer norm, so ours is a
control without a published number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from diffmamba.paper import published
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.design import Column, Design
from diffmamba.reports.designs import HUES

MARKERS = {None: "o", "scalar": "o", "reparam": "s", "channel": "^", "exp": "D", "fixed": "v"}
LOOK_RULE = "Solid lines have the outer norm, dashed ones do not; the marker tells the form of λ."


@dataclass(frozen=True)
class Variant(Key):
    """A model with or without the outer norm, and the form of its λ; None: there is no λ."""

    model: str
    outer_norm: bool
    lambda_form: str | None

    baseline = "plain mamba"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        model = config["model"]
        has_lambda = any("lambda_form" in mixer.get("combine", {}) for mixer in model["mixers"])
        return cls(model["name"], model["outer_norm"], model["lambda_form"] if has_lambda else None)

    @property
    def label(self) -> str:
        return ", ".join(filter(None, [self.model, "outer norm" * self.outer_norm, self.lambda_form]))

    @property
    def is_baseline(self) -> bool:
        return self.model == "mamba" and not self.outer_norm

    @property
    def published(self) -> published.Published:
        return published.table2(self.model, self.outer_norm, self.lambda_form)


def caveats(results: Results) -> tuple[str, ...]:
    """What differs from the paper, if anything does."""
    corpora = {run.part("corpus").get("name") for run in results.counted}
    if results.scale == "paper" and corpora <= {"text8"}:
        return ()
    data = ", ".join(sorted(filter(None, corpora))) or "no data yet"
    return (
        f"The paper's columns are Text8 at 127M parameters after 10 epochs; this is scale {results.scale} on {data}. "
        "The values differ by construction; only signs compare, and they are evidence only where |Δ| exceeds s.",
    )


def _look(cell: Cell) -> dict[str, Any]:
    form, line = cell.key.lambda_form, "solid" if cell.key.outer_norm else "dashed"
    return {"line": line, "marker": MARKERS.get(form, "P"), "hollow": form == "reparam"}


DESIGN = Design(
    name="table2",
    title="Table 2: Diff-S6 and Diff-Mamba, with and without the outer norm",
    sweep="table2",
    key=Variant,
    metric="test/ppl",
    columns=(
        columns.MODEL,
        Column("outer norm", lambda cell: "yes" if cell.key.outer_norm else "no", word=True),
        Column("λ", lambda cell: cell.key.lambda_form or "–", word=True),
        columns.SEEDS,
        columns.PARAMETERS,
        columns.RESULT,
        columns.DELTA,
        columns.SPREAD,
        columns.PUBLISHED,
        columns.PUBLISHED_DELTA,
        columns.SIGN,
    ),
    charts=lambda results: [
        *charts.curves(results, _look, LOOK_RULE),
        *charts.deltas(results, Variant.baseline),
    ],
    caveats=caveats,
    hues=HUES,
)
