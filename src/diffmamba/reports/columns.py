"""The words and digits of a table, the same in the terminal, in Markdown and on the page."""

from diffmamba.reports.published import DECIMALS
from diffmamba.reports.table import Line

HEADERS = ("model", "outer norm", "λ", "seeds", "params", "PPL ± std", "Δ", "s", "paper PPL", "paper Δ", "sign")
WORDS = 3  # the first columns are words, the rest numbers


def texts(line: Line) -> tuple[str, ...]:
    """One text per column of `HEADERS`; "–" where there is no value, the status where there is no PPL yet."""
    row = line.row
    return (
        row.model,
        "yes" if row.outer_norm else "no",
        row.lambda_form or "–",
        f"{len(row.seeds)}/{len(line.runs)}",
        params(row.params),
        ppl(row.ppl_mean, row.ppl_std) if row.ppl_mean is not None else row.status,
        delta(row.delta),
        value(line.spread),
        value(row.paper_ppl),
        delta(row.paper_delta),
        line.sign,
    )


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
    digits = 0 if number >= 100 * unit else 1 if number >= 10 * unit else 2
    return f"{number / unit:.{digits}f}{suffix}"
