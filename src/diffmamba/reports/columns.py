"""The columns that tables share, with their words and digits."""

from diffmamba.reports.cells import Cell
from diffmamba.reports.design import MARKS, Column


def parameters(number: int | None) -> str:
    """A number of parameters to three digits: `201k`, `1.23M`, `127M`."""
    if number is None:
        return "–"
    unit, suffix = (1e6, "M") if number >= 1e6 else (1e3, "k")
    digits = max(0, 3 - len(str(round(number / unit))))
    return f"{number / unit:.{digits}f}{suffix}"


def _published_parameters(cell: Cell) -> str:
    millions = cell.key.published.params_m
    return parameters(None if millions is None else millions * 1_000_000)


def _result(cell: Cell) -> str:
    """`2.493 ± 0.004`; no second half where there is one seed, and the status where there is no value yet."""
    if cell.mean is None:
        return cell.status
    return cell.metric.text(cell.mean) + ("" if cell.std is None else f" ± {cell.metric.text(cell.std)}")


MODEL = Column("model", lambda cell: cell.key.model, word=True)
SEEDS = Column("seeds", lambda cell: f"{len(cell.counted)}/{len(cell.seeds)}", short="n")
PARAMETERS = Column("params", lambda cell: parameters(cell.parameters))
PUBLISHED_PARAMETERS = Column("paper params", _published_parameters)
RESULT = Column("{metric} ± std", _result, mark=lambda cell: "gap" if cell.mean is None else "")
DELTA = Column("Δ", lambda cell: cell.metric.difference(cell.delta))
SPREAD = Column("s", lambda cell: cell.metric.text(cell.spread))
PUBLISHED = Column("paper {metric}", lambda cell: cell.metric.text(cell.key.published.value))
PUBLISHED_DELTA = Column("paper Δ", lambda cell: cell.metric.difference(cell.key.published.delta))
SIGN = Column("sign", lambda cell: cell.sign, mark=lambda cell: MARKS[cell.sign])
