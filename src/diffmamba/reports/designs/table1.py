"""Table 1 of the paper: Mamba and Diff-Mamba of 6 and 12 layers on WikiText-103, Text8 and Enwik8.

A row is named after the paper's. What was really trained for it is part of the name wherever it differs: the scales
below `paper` have fewer layers, and `smoke` takes corpora that every machine has in place of the published ones.
"""

from collections.abc import Mapping
from math import log2
from typing import Any

from diffmamba.document import Chart
from diffmamba.errors import SettingError
from diffmamba.paper import published, remarks
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.design import Design
from diffmamba.reports.designs import HUES

BASELINE = "mamba of the same data and layers"
PER_SYMBOL = ("text8", "enwik8")  # their PPL is per character or byte; its logarithm is in bits per character or byte


def key(config: Mapping[str, Any]) -> Key:
    """A model at a published corpus and depth; in brackets the corpus and the layers really trained, if others."""
    row, trained_on, model = config["published"], config["data"]["name"], config["model"]
    if row is None:
        raise SettingError("published is not set: table 1 is made of experiments like experiments=table1/text8_6l")
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
    )


def is_as_published(cell: Cell) -> bool:
    """Whether corpus and depth are the paper's."""
    at = cell.key.fields
    return (at["trained_on"], at["trained_layers"]) == (at["data"], at["layers"])


def panels(results: Results) -> Chart:
    """The paper's figure 2: the test curves of these runs, a column for each corpus and a row for each depth."""
    return charts.panels(
        results,
        "figure2",
        place=lambda key: (_fields(key, "layers", "trained_layers"), _fields(key, "data", "trained_on")),
        as_published=lambda cell: results.scale == "paper" and is_as_published(cell),
    )


def caveats(results: Results) -> tuple[str, ...]:
    """What differs from the paper, if anything does."""
    if results.scale == "paper" and all(map(is_as_published, results.cells)):
        return ()
    rows = published.numbers()["table1"]["rows"]
    counts = [row[model]["params_m"] for row in rows for model in ("mamba", "diff_mamba")]
    return (
        f"Rows are named after the paper's, which are models of {min(counts)}M to {max(counts)}M parameters after 40 "
        f"epochs; this is scale {results.scale}, trained on what stands after “here”. The values differ by "
        "construction; only signs compare, and they are evidence only where |Δ| exceeds s.",
    )


def _bits(cell: Cell) -> dict[str, Any]:
    """Bits per character or byte, and their Δ (the paper's text calls Δ PPL so); None for words."""
    paper, per_symbol = cell.key.published, cell.key.fields["data"] in PER_SYMBOL
    bits, bits_delta = _log2(cell.mean, cell.delta) if per_symbol else (None, None)
    paper_bits, paper_bits_delta = _log2(paper.value, paper.delta) if per_symbol else (None, None)
    return {
        "paper_params_m": paper.params_m,
        "bits_per_symbol": bits,
        "bits_delta": bits_delta,
        "paper_bits_per_symbol": paper_bits,
        "paper_bits_delta": paper_bits_delta,
    }


def _log2(ppl: float | None, delta: float | None) -> tuple[float | None, float | None]:
    """The logarithm of a PPL, and its difference to that of the PPL that is `delta` less."""
    if ppl is None:
        return None, None
    return log2(ppl), None if delta is None else log2(ppl) - log2(ppl - delta)


def _fields(key: Key, *names: str) -> tuple[Any, ...]:
    return tuple(key.fields[name] for name in names)


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"


DESIGN = Design(
    name="table1",
    title="Table 1: Mamba and Diff-Mamba of 6 and 12 layers on three corpora",
    sweep="table1",
    key=key,
    baseline=BASELINE,
    metric="test/ppl",
    columns=(
        columns.MODEL,
        columns.SEEDS,
        columns.PARAMETERS,
        columns.PUBLISHED_PARAMETERS,
        columns.RESULT,
        columns.DELTA,
        columns.SPREAD,
        columns.PUBLISHED,
        columns.PUBLISHED_DELTA,
        columns.SIGN,
    ),
    charts=lambda results: [panels(results), *charts.deltas(results, BASELINE, relative=True)],
    caveats=caveats,
    remarks=remarks.on_table1,
    further=_bits,
    hues=HUES,
)
