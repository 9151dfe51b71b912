"""Table 2 of the paper: which part of the gain comes from the subtraction, from the outer norm and from the form of λ.

The paper trains on Text8 and reads test PPL at epoch 10. Its plain Mamba has no row with the outer norm, so ours is a
control without a published number.
"""

from collections.abc import Mapping
from typing import Any

from diffmamba.document import Chart
from diffmamba.paper import published
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design

BASELINE = "plain mamba"
MARKERS = {None: "o", "scalar": "o", "reparam": "s", "channel": "^", "exp": "D", "fixed": "v"}
CURVES = (
    "Solid lines have the outer norm, dashed ones do not; the marker tells the form of λ. The right panel enlarges the "
    "second half, where the lines lie close together."
)


def key(config: Mapping[str, Any]) -> Key:
    """A model with or without the outer norm, and the form of its λ; None: there is no λ."""
    model = config["model"]
    name, outer_norm = model["name"], model["outer_norm"]
    has_lambda = any("lambda_form" in {**mixer, **mixer.get("combine", {})} for mixer in model["mixers"])
    form = model["lambda_form"] if has_lambda else None
    return Key(
        {"model": name, "outer_norm": outer_norm, "lambda_form": form},
        label=", ".join(filter(None, [name, "outer norm" * outer_norm, form])),
        is_baseline=name == "mamba" and not outer_norm,
        published=published.table2(name, outer_norm, form),
        as_published=config["data"]["name"] == "text8",
    )


def curves(results: Results) -> Chart:
    """All curves in one panel, and the last half of training enlarged beside it."""
    whole = charts.panel(results, "all of training", results.cells, look=_look)
    late = charts.panel(results, "last half", results.cells, late=0.5, look=_look)
    return charts.curves("curves", results, [(whole, late)], CURVES)


def _look(cell: Cell) -> dict[str, Any]:
    form, line = cell.key.fields["lambda_form"], "solid" if cell.key.fields["outer_norm"] else "dashed"
    return {"label": cell.key.label, "line": line, "marker": MARKERS.get(form, "P"), "hollow": form == "reparam"}


DESIGN = Design(
    name="table2",
    title="Table 2: Diff-S6 and Diff-Mamba, with and without the outer norm",
    sweep="table2",
    key=key,
    baseline=BASELINE,
    metric="test/ppl",
    columns=(
        columns.MODEL,
        Column("outer norm", lambda cell: "yes" if cell.key.fields["outer_norm"] else "no", word=True),
        Column("λ", lambda cell: cell.key.fields["lambda_form"] or "–", word=True),
        *columns.VERDICT,
    ),
    charts=lambda results: [
        curves(results),
        charts.deltas(results, BASELINE),
        charts.over_training(results, BASELINE),
    ],
    setting="models with 127M parameters after 10 epochs on Text8",
)
