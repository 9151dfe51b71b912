"""Table 2 of the paper: which part of the gain comes from the subtraction, from the outer norm and from the form of λ.

The paper trains on Text8 and reads test PPL at epoch 10; its plain Mamba has no row with the outer norm, so ours is a
control without a published number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from diffmamba.paper import published
from diffmamba.reports import columns, figure
from diffmamba.reports.table import Column, Design, Key, Line

MARKERS = {None: "o", "scalar": "o", "reparam": "s", "channel": "^", "exp": "D", "fixed": "v"}
STROKES_RULE = "Solid lines have the outer norm, dashed ones do not; the marker tells the form of λ."


@dataclass(frozen=True)
class Variant(Key):
    """A model with or without the outer norm, and the form of its λ; λ form `None`: there is no λ."""

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
    def group(self) -> str:
        return ""

    @property
    def is_baseline(self) -> bool:
        return self.model == "mamba" and not self.outer_norm

    @property
    def published(self) -> published.Published:
        return published.table2(self.model, self.outer_norm, self.lambda_form)


def _variant(line: Line) -> Variant:
    assert isinstance(line.cell.key, Variant)
    return line.cell.key


def _stroke(line: Line) -> dict[str, Any]:
    variant = _variant(line)
    stroke = {"linestyle": "-" if variant.outer_norm else (0, (4, 2)), "marker": MARKERS.get(variant.lambda_form, "P")}
    return stroke | ({"markerfacecolor": "white"} if variant.lambda_form == "reparam" else {})


def _caveats(scale: str, lines: Sequence[Line]) -> tuple[str, ...]:
    corpora = {run.corpus.get("name") for line in lines for run in line.counted}
    if scale == "paper" and corpora <= {"text8"}:
        return ()
    data = ", ".join(sorted(filter(None, corpora))) or "no data yet"
    return (
        f"The paper's columns are Text8 at 127M parameters after 10 epochs; this is scale {scale} on {data}. The "
        "values differ by construction; only signs compare, and they are evidence only where |Δ| exceeds s.",
    )


DESIGN = Design(
    name="table2",
    title="Table 2: Diff-S6 and Diff-Mamba, with and without the outer norm",
    key=Variant,
    columns=(
        columns.MODEL,
        Column("outer norm", lambda line: "yes" if _variant(line).outer_norm else "no", word=True),
        Column("λ", lambda line: _variant(line).lambda_form or "–", word=True),
        columns.SEEDS,
        columns.PARAMS,
        columns.PPL,
        columns.DELTA,
        columns.SPREAD,
        columns.PAPER_PPL,
        columns.PAPER_DELTA,
        columns.SIGN,
    ),
    caveats=_caveats,
    pictures=lambda table: [figure.curves(table, _stroke, STROKES_RULE), figure.deltas(table)],
)
