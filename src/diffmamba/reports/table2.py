"""Table 2 of the paper: which part of the gain comes from the subtraction, from the outer norm and from the form of λ.

The paper trains on Text8 and reads test PPL at epoch 10; its plain Mamba has no row with the outer norm, so ours is a
control without a published number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.reports import published
from diffmamba.reports.table import Cell, Table, lines

NAME = "table2"
TITLE = "Table 2: Diff-S6 and Diff-Mamba, with and without the outer norm"


def build(cells: Sequence[Cell], records: Mapping[str, dict[str, Any]], scale: str) -> Table:
    """The table at `scale`: one line per cell, in the order of `cells`."""
    metric = published.numbers()[NAME]["metric"]
    found = lines(cells, records, metric, _paper)
    corpora = {run.corpus.get("name") for line in found for run in line.counted}
    return Table(NAME, TITLE, scale, metric, found, _caveats(scale, corpora))


def _paper(cell: Cell) -> published.Published:
    return published.table2(cell.model, cell.outer_norm, cell.lambda_form)


def _caveats(scale: str, corpora: set[str | None]) -> tuple[str, ...]:
    if scale == "paper" and corpora <= {"text8"}:
        return ()
    data = ", ".join(sorted(filter(None, corpora))) or "no data yet"
    return (
        f"The paper's columns are Text8 at 127M parameters after 10 epochs; this is scale {scale} on {data}. The "
        "values differ by construction; only signs compare, and they are evidence only where |Δ| exceeds s.",
    )
