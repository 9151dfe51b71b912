"""Table 1 of the paper: Mamba and Diff-Mamba of 6 and 12 layers on WikiText-103, Text8 and Enwik8.

A row is named after the paper's. What was really trained for it is part of the name wherever it differs: the scales
below `paper` have fewer layers, and `smoke` takes corpora that every machine has in place of the published ones.
"""

from collections.abc import Mapping
from math import log2
from typing import Any

from diffmamba.document import Chart, Panel
from diffmamba.errors import SettingError
from diffmamba.paper import published, remarks
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.design import Design

BASELINE = "mamba of the same data and layers"
PER_SYMBOL = ("text8", "enwik8")  # their PPL is per character or byte; its logarithm is in bits per character or byte
COUNTS = [row[model]["params_m"] for row in published.numbers()["table1"]["rows"] for model in ("mamba", "diff_mamba")]
LATE = 0.65  # the share of training, counted from its end, that a panel shows
PANELS = (
    f"Each panel shows the last {LATE:.0%} of training, where the curves lie close together. It is named after the "
    "paper's; what was trained for it instead stands in brackets."
)


def key(config: Mapping[str, Any]) -> Key:
    """A model at a published corpus and depth; in brackets the corpus and the layers really trained, if others."""
    row, trained_on, model = config["published"], config["data"]["name"], config["model"]
    if row is None:
        raise SettingError("published is not set: table 1 is made of runs with experiments=table1")
    data, layers, trained_layers = row["data"], row["layers"], model["n_layers"]
    others = [trained_on] * (trained_on != data) + [_layers(trained_layers)] * (trained_layers != layers)
    group = f"{data}, {_layers(layers)}" + (f" (here {', '.join(others)})" if others else "")
    fields = {"data": data, "layers": layers, "trained_on": trained_on, "trained_layers": trained_layers}
    return Key(
        fields | {"model": model["name"]},
        label=f"{group}, {model['name']}",
        is_baseline=model["name"] == "mamba",
        group=group,
        published=published.table1(data, layers, model["name"]),
        as_published=not others,
    )


def panels(results: Results) -> Chart:
    """The paper's figure 2: the test curves of these runs, a panel for each corpus and a row for each depth."""
    rows: dict[int, list[Panel]] = {}
    for group, cells in results.groups.items():
        panel = charts.panel(results, group.replace(" (", "\n("), cells, LATE)
        rows.setdefault(cells[0].key.fields["layers"], []).append(panel)
    return charts.curves("figure2", results, rows.values(), PANELS)


def _bits(cell: Cell) -> dict[str, Any]:
    """Bits per character or byte, and their Δ (the paper's text calls Δ PPL so); None for words."""
    paper = cell.key.published
    found: dict[str, float | None] = {"paper_params_m": paper.params_m}
    for whose, ppl, delta in (("", cell.mean, cell.delta), ("paper_", paper.value, paper.delta)):
        bits = bits_delta = None
        if ppl is not None and cell.key.fields["data"] in PER_SYMBOL:
            bits, bits_delta = log2(ppl), None if delta is None else log2(ppl) - log2(ppl - delta)
        found |= {f"{whose}bits_per_symbol": bits, f"{whose}bits_delta": bits_delta}
    return found


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"


DESIGN = Design(
    name="table1",
    title="Table 1: Mamba and Diff-Mamba of 6 and 12 layers on three corpora",
    sweep="table1",
    key=key,
    baseline=BASELINE,
    metric="test/ppl",
    columns=(columns.MODEL, *columns.VERDICT, columns.PUBLISHED_PARAMETERS),
    charts=lambda results: [
        panels(results),
        charts.deltas(results, BASELINE, relative=True),
        charts.over_training(results, BASELINE),
    ],
    setting=f"models with {min(COUNTS)}M to {max(COUNTS)}M parameters after 40 epochs on the corpora of the rows",
    remarks=remarks.on_table1,
    further=_bits,
)
