"""The results of a design as a document: a summary, the table, how to read it, pictures, and where it comes from."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from diffmamba.document import (
    Block,
    Bullets,
    Document,
    Entry,
    Facts,
    Folded,
    Grid,
    Paragraph,
    Rows,
    Section,
)
from diffmamba.document import Column as GridColumn
from diffmamba.paper import published
from diffmamba.reports import provenance
from diffmamba.reports.cells import Results
from diffmamba.reports.design import Design

SPREAD_RULE = "s: standard deviation of Δ taken seed by seed. std and s are sample standard deviations over seeds."
SIGN_RULE = (
    "sign: ✓ Δ has the paper's sign, ✗ the opposite; ~ no verdict, because |Δ| does not exceed s or fewer than two "
    "seeds are shared with the baseline. A ✓ at two or three seeds is a hint, not a test."
)
RUN_HEADERS = ("cell", "run", "status", "seed", "{metric}", "wall time", "tokens/s")


def document(design: Design, results: Results) -> Document:
    """What the page of a table or figure says."""
    table: list[Block] = [grid(design, results), *(Paragraph(rule, "note") for rule in rules(design, results))]
    charts = list(design.charts(results)) if results.counted or design.kind == "figure" else []
    blocks: list[Block] = [Paragraph(_summary(results)), *_list("Before you compare:", provenance.warnings(results))]
    if design.overview is None:
        blocks += [*table, *_notes(design, results), *charts]
    else:
        blocks += [*charts, design.overview(results), *_notes(design, results), Folded("The table", tuple(table))]
    if remarks := tuple(design.remarks()):
        blocks.append(Section("About the paper's numbers", (Bullets(remarks),), terminal=False))
    source = Facts(provenance.facts(results)) if results.counted else Paragraph("No run has finished yet.")
    blocks.append(Section("Where the numbers come from", (source,), terminal=False))
    blocks.append(Folded(f"All {len(results.runs)} runs", (_runs(results),)))
    return Document(design.title, tuple(blocks), data(design, results))


def data(design: Design, results: Results) -> dict[str, Any]:
    """The content of `table.json`: the rows, and what is needed to judge them."""
    return {
        design.kind: design.name,
        "scale": results.scale,
        "metric": results.metric.key,
        "data": provenance.corpora(results),
        "git": {"revisions": provenance.revisions(results), "dirty": provenance.dirty(results)},
        "notes": [*caveats(design, results), *provenance.warnings(results), *design.remarks()],
        "missing": results.missing,
        "rows": [cell.fields() | design.further(cell) for cell in results.cells],
    }


def grid(design: Design, results: Results) -> Grid:
    """The table. Cells of a group stand under its name, those without a group with others of the same first word."""
    columns = design.columns
    headers = [column.header.format(metric=results.metric.label) for column in columns]
    rows = []
    for (title, _), cells in groupby(results.cells, lambda c: (c.key.group, "" if c.key.group else columns[0].text(c))):
        entries = [tuple(Entry(column.text(cell), column.mark(cell)) for column in columns) for cell in cells]
        rows.append(Rows(tuple(entries), title))
    described = [GridColumn(h, column.word, column.short) for h, column in zip(headers, columns, strict=True)]
    return Grid(tuple(described), tuple(rows))


def rules(design: Design, results: Results) -> list[str]:
    """How to read the table: what Δ and s are, and the sign if the paper has numbers beside ours."""
    better = results.metric.verdict("negative", "positive")
    what = f"Δ: {results.metric.label} minus that of {design.baseline}" + f", {better}" * bool(better)
    has_paper = any(cell.key.published.delta for cell in results.cells)
    return [f"{what}. {SPREAD_RULE}", *[SIGN_RULE] * has_paper]


def caveats(design: Design, results: Results) -> list[str]:
    """What a reader of these results has to know."""
    told = [f"All runs with {' '.join(results.settings)}."] if results.settings else []
    return [*told, *design.caveats(results)]


def _summary(results: Results) -> str:
    """What you see, in a line or two."""
    names = [str(corpus.get("name")) for corpus in provenance.corpora(results)]
    on = f" on {_and(dict.fromkeys(names))}" if names else ""
    seeds = sorted({run.seed for run in results.counted})
    counted = f"{len(results.counted)} of {len(results.runs)} runs count"
    with_seeds = f", with seed{'s' * (len(seeds) > 1)} {_and(map(str, seeds))}" if seeds else ""
    has_paper = any(cell.key.published.value is not None for cell in results.cells)
    source = f" The paper's numbers are from {published.numbers()['source']}." * has_paper
    return f"Scale {results.scale}, {results.metric.key}{on}. {counted}{with_seeds}.{source}"


def _notes(design: Design, results: Results) -> list[Block]:
    """The caveats, and which runs are missing."""
    count = len(results.runs) - len(results.counted)
    missing = _list(f"{count} of {len(results.runs)} runs missing:", results.missing)
    return [*(Paragraph(sentence, "note") for sentence in caveats(design, results)), *missing]


def _list(title: str, items: list[str]) -> list[Block]:
    """A warning with its items; nothing if there are none."""
    return [Paragraph(title, "warning"), Bullets(tuple(items), "warning")] if items else []


def _runs(results: Results) -> Grid:
    """Every run of the sweep."""
    rows = [
        (
            cell.label,
            run.id,
            run.reason or run.status,
            str(run.seed),
            results.metric.text(run.value),
            "–" if (seconds := run.number("wall_seconds")) is None else provenance.duration(seconds),
            "–" if (speed := run.number("tokens_per_second")) is None else f"{speed:,.0f}",
        )
        for cell in results.cells
        for run in cell.seeds
    ]
    return Grid.of([header.format(metric=results.metric.label) for header in RUN_HEADERS], rows, words=3)


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
