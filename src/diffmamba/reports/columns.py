"""The columns of tables: what a column is, and those that tables share, with their words and digits."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from diffmamba.reports.cells import Cell
from diffmamba.reports.records import Headline
from diffmamba.reports.statistics import ERROR

MOST = 100  # seeds needed: a larger number, from a few seeds, says only that it is large
MARKS = {"✓": "agrees", "✗": "disagrees", "better": "agrees", "worse": "disagrees"}


@dataclass(frozen=True)
class Column:
    """A column of a table: the text of a cell in it, a word (left) or a number (right), and its mark.

    `{metric}` in the header stands for the label of the metric. `short` is the header where there is little room. A
    `spare` column is left out where it says nothing (– in each row), and by a narrow terminal, the last one first.
    """

    header: str
    text: Callable[[Cell], str]
    word: bool = False
    mark: Callable[[Cell], str] = lambda cell: ""
    short: str = ""
    spare: bool = False


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


def _interval(cell: Cell) -> str:
    """`−0.361, +0.261`."""
    found = cell.interval
    if found is None:
        return "–"
    metric = _rough(cell.metric, max(abs(found.low), abs(found.high)))
    return f"{metric.difference(found.low)}, {metric.difference(found.high)}"


def _rough(metric: Headline, size: float) -> Headline:
    """The metric with three digits for a number of this size, and no more: a few seeds do not support others."""
    return replace(
        metric, digits=max(0, min(metric.digits, 2 - math.floor(math.log10(size)))) if size else metric.digits
    )


def _p(cell: Cell) -> str:
    """p, corrected for the rows that are compared, where there are seeds enough that it could be below 0.05."""
    found = cell.comparison
    if found is None or found.p_corrected is None or found.lowest_p > ERROR:
        return "–"
    return f"{found.p_corrected:.3f}" if found.p_corrected >= 0.001 else "<0.001"


def _needed(cell: Cell) -> str:
    count = cell.seeds_needed
    return "–" if count is None else f">{MOST}" if count > MOST else f"{count}"


def _smallest(cell: Cell) -> str:
    found = cell.comparison.smallest if cell.comparison else None
    return "–" if found is None else _rough(cell.metric, found).text(found)


def _percent(number: float | None, base: float | None, sign: str = "+") -> str:
    """A difference in percent of the size of a value."""
    return "–" if number is None or not base else f"{100 * number / abs(base):{sign}.1f}".replace("-", "−")


def _delta_percent(cell: Cell) -> str:
    return _percent(cell.delta, cell.baseline.mean if cell.baseline else None)


def _smallest_percent(cell: Cell) -> str:
    smallest = cell.comparison.smallest if cell.comparison else None
    return _percent(smallest, cell.baseline.mean if cell.baseline else None, "")


def _published_percent(cell: Cell) -> str:
    value, delta = cell.key.published.value, cell.key.published.delta
    return _percent(delta, None if value is None or delta is None else value - delta)


def _mark(word: str) -> str:
    return MARKS.get(word, "undecided")


MODEL = Column("model", lambda cell: cell.key.fields["model"], word=True)
SEEDS = Column("seeds", lambda cell: f"{len(cell.values)}/{len(cell.seeds)}", short="n")
PARAMETERS = Column("params", lambda cell: parameters(cell.parameters), spare=True)
PUBLISHED_PARAMETERS = Column("paper params", lambda cell: parameters(cell.key.published.params_m, 1e6), spare=True)
RESULT = Column("{metric} ± std", _result, mark=lambda cell: "gap" if cell.mean is None else "")
DELTA = Column("Δ", lambda cell: cell.metric.difference(cell.delta))
INTERVAL = Column("interval of Δ", _interval, short="interval")
SPREAD = Column("s", lambda cell: cell.metric.text(cell.spread), spare=True)
P = Column("p", _p, spare=True)
PUBLISHED = Column("paper {metric}", lambda cell: cell.metric.text(cell.key.published.value), spare=True)
PUBLISHED_DELTA = Column("paper Δ", lambda cell: cell.metric.difference(cell.key.published.delta))
SIGN = Column("sign", lambda cell: cell.sign, mark=lambda cell: _mark(cell.sign))
NEEDED = Column("seeds needed", _needed, short="need", spare=True)
DIFFERS = Column("differs", lambda cell: cell.differs, mark=lambda cell: _mark(cell.differs))
SMALLEST = Column("could see", _smallest, spare=True)
VERDICT = (RESULT, DELTA, SIGN, INTERVAL, SEEDS, PUBLISHED_DELTA, NEEDED, P, PUBLISHED, SPREAD, PARAMETERS)
"""How a table ends that stands beside the paper's: what matters most comes first, where a phone shows it."""
OTHER = "the other cell"
EFFECT = (
    Column("effect", lambda cell: cell.key.fields["effect"], word=True),
    DELTA,
    DIFFERS,
    INTERVAL,
    Column("pairs", lambda cell: str(len(cell.pairs))),
    Column("Δ, %", _delta_percent),
    Column("could see, %", _smallest_percent),
    Column("paper Δ, %", _published_percent, spare=True),
    P,
)
"""The table of differences between two cells: the smallest difference that the seeds could see, beside the paper's."""
OWN_VERDICT = (RESULT, DELTA, DIFFERS, INTERVAL, SEEDS, SMALLEST, P, SPREAD, PARAMETERS)
"""How a table ends for which the paper has no numbers."""
