"""The words and digits of a table, the same in the terminal, in Markdown and on the page."""

from diffmamba.paper.published import DECIMALS
from diffmamba.reports.table import Column, Line

VERDICTS = {"✓": "agrees", "✗": "disagrees", "~": "undecided", "–": "undecided"}


def value(number: float | None) -> str:
    """A PPL or a spread, with the paper's number of decimals."""
    return "–" if number is None else f"{number:.{DECIMALS}f}"


def ppl(mean: float, std: float | None) -> str:
    """`2.493 ± 0.004`; without the second half where there is one seed."""
    return value(mean) if std is None else f"{value(mean)} ± {value(std)}"


def delta(number: float | None) -> str:
    """A difference with its sign; a real minus sign, and none before a zero."""
    if number is None:
        return "–"
    text = f"{number:+.{DECIMALS}f}"
    return value(0.0) if float(text) == 0 else text.replace("-", "−")


def params(number: int | None) -> str:
    """Parameters to three digits: `201k`, `1.23M`, `127M`."""
    if number is None:
        return "–"
    unit, suffix = (1e6, "M") if number >= 1e6 else (1e3, "k")
    digits = max(0, 3 - len(str(round(number / unit))))
    return f"{number / unit:.{digits}f}{suffix}"


def _paper_params(line: Line) -> str:
    millions = line.cell.key.published.params_m
    return params(None if millions is None else millions * 1_000_000)


def _result(line: Line) -> str:
    """The status where there is no PPL yet."""
    return line.row.status if line.row.ppl_mean is None else ppl(line.row.ppl_mean, line.row.ppl_std)


MODEL = Column("model", lambda line: line.cell.key.model, word=True)
SEEDS = Column("seeds", lambda line: f"{len(line.row.seeds)}/{len(line.runs)}")
PARAMS = Column("params", lambda line: params(line.row.params))
PAPER_PARAMS = Column("paper params", _paper_params)
PPL = Column("PPL ± std", _result, mark=lambda line: "gap" if line.row.ppl_mean is None else "")
DELTA = Column("Δ", lambda line: delta(line.row.delta))
SPREAD = Column("s", lambda line: value(line.spread))
PAPER_PPL = Column("paper PPL", lambda line: value(line.row.paper_ppl))
PAPER_DELTA = Column("paper Δ", lambda line: delta(line.row.paper_delta))
SIGN = Column("sign", lambda line: line.sign, mark=lambda line: VERDICTS[line.sign])
