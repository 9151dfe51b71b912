"""The small print of the page: the provenance of a table and the list of its runs, as HTML."""

from html import escape

from diffmamba.reports import provenance
from diffmamba.reports.columns import value
from diffmamba.reports.record import Run
from diffmamba.reports.table import Line, Table

RUN_HEADERS = ("cell", "seed", "run", "status", "PPL", "wall time", "tokens/s")
RUN_WORDS = {"cell", "run", "status"}


def origin(table: Table) -> str:
    """Revision, corpus, versions, hardware and time behind the numbers, as a description list."""
    source = provenance.of(table)
    corpora = [f"{corpus.get('name')}, fingerprint {corpus.get('fingerprint')}" for corpus in source.corpora]
    entries = {
        "git revision": "; ".join(f"{revision} ({_share(n, table)})" for revision, n in source.revisions.items()),
        "uncommitted changes": f"in {_share(source.dirty, table)}" if source.dirty else "none",
        "corpus": "; ".join(corpora),
        "versions": ", ".join(f"{package} {' and '.join(seen)}" for package, seen in source.versions.items()),
        "hardware": "; ".join(f"{name} ({_share(n, table)})" for name, n in source.hardware.items()),
        "time": f"{duration(source.wall_seconds)} over all runs",
        "tokens/s": _speed(source.tokens_per_second),
        "last run finished": source.last_finished or "",
    }
    if not table.counted:
        return "<p>No run has finished yet.</p>"
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{escape(text) or '–'}</dd>" for key, text in entries.items()) + "</dl>"


def runs(table: Table) -> str:
    """Every run of the grid, folded away."""
    head = "".join(f'<th scope="col"{_word(header)}>{header}</th>' for header in RUN_HEADERS)
    rows = "".join(_run(line, run) for line in table.lines for run in line.runs)
    return (
        f"<details><summary>All {len(table.runs)} runs</summary>\n"
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div></details>'
    )


def duration(seconds: float) -> str:
    """`40 s`, `13 min`, `2.5 h`: as exact as a reader cares."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _share(count: int, table: Table) -> str:
    return f"{count} of {len(table.counted)} runs"


def _speed(tokens_per_second: tuple[float, float, float] | None) -> str:
    if tokens_per_second is None:
        return ""
    low, middle, high = tokens_per_second
    return f"{middle:,.0f} (median; {low:,.0f} to {high:,.0f})"


def _run(line: Line, run: Run) -> str:
    texts = (
        line.cell.label,
        str(run.seed),
        run.id,
        run.reason or run.status,
        value(run.ppl),
        "–" if run.wall_seconds is None else duration(run.wall_seconds),
        "–" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}",
    )
    cells = (f"<td{_word(header)}>{escape(text)}</td>" for header, text in zip(RUN_HEADERS, texts, strict=True))
    return f"<tr>{''.join(cells)}</tr>\n"


def _word(header: str) -> str:
    return ' class="word"' if header in RUN_WORDS else ""
