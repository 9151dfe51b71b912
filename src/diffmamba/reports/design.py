"""What makes one published table or figure different from the next. Each is a file of `designs/`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Grid
from diffmamba.reports.cells import AGREES, DISAGREES, NO_SIGN, UNDECIDED, Cell, Key, Results
from diffmamba.reports.charts import points

MARKS = {AGREES: "agrees", DISAGREES: "disagrees", UNDECIDED: "undecided", NO_SIGN: "undecided"}


@dataclass(frozen=True)
class Column:
    """A column of a table: the text of a cell in it, a word (left) or a number (right), and its mark.

    `{metric}` in the header stands for the label of the metric. `short` is the header where there is little room.
    """

    header: str
    text: Callable[[Cell], str]
    word: bool = False
    mark: Callable[[Cell], str] = lambda cell: ""
    short: str = ""


@dataclass(frozen=True)
class Design:
    """A table or a figure, filled with the runs of its sweep.

    Args:
        name: that of its file, which begins with `table` or `figure`.
        sweep: a file of sweeps/.
        key: what tells its cells apart.
        columns: of the table. Where cells have a group, it stands as a title above them; where not, cells that follow
            each other with the same first column share it.
        metric: the key of the metric; None for the headline that the records name.
        charts: its pictures. The first of a figure is the figure.
        points: what a figure draws, as the rows of its CSV file.
        overview: for a figure, what it shows in numbers; the table itself is then folded.
        caveats: what a reader of these results has to know.
        remarks: what is to be said about the paper's numbers, whatever the results are.
        further: fields that end each row of `table.json`.
    """

    name: str
    title: str
    sweep: str
    key: type[Key]
    columns: tuple[Column, ...]
    charts: Callable[[Results], Sequence[Chart]]
    metric: str | None = None
    overview: Callable[[Results], Grid] | None = None
    points: Callable[[Results], pd.DataFrame] = points
    caveats: Callable[[Results], Sequence[str]] = lambda results: ()
    remarks: Callable[[], Sequence[str]] = tuple
    further: Callable[[Cell], dict[str, Any]] = lambda cell: {}

    @property
    def kind(self) -> str:
        """`table` or `figure`."""
        return kind(self.name)


def kind(name: str) -> str:
    """What a design of this name is: `table`, `figure`, or "" for neither."""
    return next((word for word in ("table", "figure") if name.startswith(word)), "")
