"""Table 1 of the paper: Mamba and Diff-Mamba of 6 and 12 layers on WikiText-103, Text8 and Enwik8.

A row is named after the paper's. What was really trained for it is part of the name wherever it differs: the scales
below `paper` have fewer layers, and `smoke` takes corpora that every machine has in the place of the published ones.
"""

from collections.abc import Sequence
from math import log2
from typing import Any

from diffmamba.paper import published
from diffmamba.reports import columns, contradictions, figure, panels
from diffmamba.reports.setting import Setting, setting
from diffmamba.reports.table import Column, Design, Line

PER_SYMBOL = ("text8", "enwik8")  # whose PPL is per character or byte; its logarithm is what the field calls bpc or bpb


def _caveats(scale: str, lines: Sequence[Line]) -> tuple[str, ...]:
    if scale == "paper" and all(setting(line).is_as_published for line in lines):
        return ()
    rows = [
        row[model]["params_m"] for row in published.numbers()["table1"]["rows"] for model in ("mamba", "diff_mamba")
    ]
    return (
        f"Rows are named after the paper's, which are models of {min(rows)}M to {max(rows)}M parameters after 40 "
        f"epochs; this is scale {scale}, trained on what stands after “here”. The values differ by construction; only "
        "signs compare, and they are evidence only where |Δ| exceeds s.",
    )


def _bits(line: Line) -> dict[str, Any]:
    """Bits per character or byte, and their Δ, which the paper's text takes Δ PPL for; `None` for words."""
    row, paper = line.row, line.cell.key.published
    per_symbol = setting(line).data in PER_SYMBOL
    bits, bits_delta = _log2(row.ppl_mean, row.delta) if per_symbol else (None, None)
    paper_bits, paper_bits_delta = _log2(paper.ppl, paper.delta) if per_symbol else (None, None)
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


DESIGN = Design(
    name="table1",
    title="Table 1: Mamba and Diff-Mamba of 6 and 12 layers on three corpora",
    key=Setting,
    columns=(
        Column("data, layers", lambda line: line.cell.key.group, word=True),
        columns.MODEL,
        columns.SEEDS,
        columns.PARAMS,
        columns.PAPER_PARAMS,
        columns.PPL,
        columns.DELTA,
        columns.SPREAD,
        columns.PAPER_PPL,
        columns.PAPER_DELTA,
        columns.SIGN,
    ),
    caveats=_caveats,
    pictures=lambda table: [panels.picture(table), figure.deltas(table, relative=True)],
    titled=True,
    remarks=contradictions.of_table1,
    further=_bits,
)
