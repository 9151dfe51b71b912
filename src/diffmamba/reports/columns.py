"""The columns of tables: what a column is, and those that tables share, with their words and digits."""

from collections.abc import Callable
from dataclasses import dataclass

from diffmamba.reports.cells import Cell

MARKS = {"✓": "agrees", "✗": "disagrees", "~": "undecided", "–": "undecided"}


@dataclass(frozen=True)
class Column:
    """A column of a table: the text of a cell in it, a word (left) or a number (right), and its mark.

    `{metric}` in the header stands for the label of the metric. `short` is the header where there is little room. A
    `minor` column stands last on a narrow screen.
    """

    header: str
    text: Callable[[Cell], str]
    word: bool = False
    mark: Callable[[Cell], str] = lambda cell: ""
    short: str = ""
    minor: bool = False


def parameters(count: int | None, times: float = 1) -> str:
    """A number of parameters to three digits: `201k`, `1.23M`, `127M`."""
    if count is None:
        return "–"
    number = count * times
    unit, suffix = (1e6, "M") if number >= 1e6 else (1e3, "k")
    digits = max(0, 3 - len(str(round(number / unit))))
    return f"{number / unit:.{digits}f}{suffix}"


def _result(cell: Cell) -> str:
    """`2.493 ± 0.004`; no second half where there is one seed, and the status where there is no value yet."""
    if cell.mean is None:
        return cell.status
    return cell.metric.text(cell.mean) + ("" if cell.std is None else f" ± {cell.metric.text(cell.std)}")


MODEL = Column("model", lambda cell: cell.key.fields["model"], word=True)
SEEDS = Column("seeds", lambda cell: f"{len(cell.values)}/{len(cell.seeds)}", short="n", minor=True)
PARAMETERS = Column("params", lambda cell: parameters(cell.parameters), minor=True)
PUBLISHED_PARAMETERS = Column("paper params", lambda cell: parameters(cell.key.published.params_m, 1e6), minor=True)
RESULT = Column("{metric} ± std", _result, mark=lambda cell: "gap" if cell.mean is None else "")
DELTA = Column("Δ", lambda cell: cell.metric.difference(cell.delta))
SPREAD = Column("s", lambda cell: cell.metric.text(cell.spread), minor=True)
PUBLISHED = Column("paper {metric}", lambda cell: cell.metric.text(cell.key.published.value), minor=True)
PUBLISHED_DELTA = Column("paper Δ", lambda cell: cell.metric.difference(cell.key.published.delta), minor=True)
SIGN = Column("sign", lambda cell: cell.sign, mark=lambda cell: MARKS[cell.sign])
VERDICT = (RESULT, DELTA, SPREAD, PUBLISHED, PUBLISHED_DELTA, SIGN)  # ours beside the paper's: how the tables end
