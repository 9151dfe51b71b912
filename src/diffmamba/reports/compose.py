"""The results of a design as a document: a summary, the table, how to read it, pictures, and where it comes from."""

from datetime import timedelta
from itertools import groupby
from typing import Any

from diffmamba.document import Block, Bullets, Document, Entry, Folded, Grid, GridColumn, Paragraph, RowGroup, Section
from diffmamba.paper import published
from diffmamba.reports import provenance
from diffmamba.reports.cells import Results
from diffmamba.reports.design import Design
from diffmamba.reports.records import rank

DELTA_RULE = (
    "Δ: {metric} minus that of {baseline}{better}. s: standard deviation of Δ taken seed by seed. std and s are sample "
    "standard deviations over seeds."
)
SIGN_RULE = (
    "sign: ✓ Δ has the paper's sign, ✗ the opposite; ~ no verdict, because |Δ| does not exceed s or fewer than two "
    "seeds are shared with the baseline. A ✓ at two or three seeds is a hint, not a test."
)
OTHER_SETTING = (
    "The paper's numbers are of {setting}; this is scale {scale} on {data}. The values differ by construction; "
    "only signs compare, and they are evidence only where |Δ| exceeds s."
)


def document(design: Design, results: Results) -> Document:
    """What the page of a table or figure says."""
    charts = tuple(design.charts(results)) if results.counted or design.kind == "figure" else ()
    count = f"{len(results.runs) - len(results.counted)} of {len(results.runs)} runs missing:"
    table = (
        grid(design, results),
        *(Paragraph(text, "note") for text in (*rules(design, results), *caveats(design, results))),
        *_warnings(count, results.missing),
    )
    facts = Grid.of(("what", "of the runs that count"), list(provenance.facts(results).items()), words=2)
    source = facts if results.counted else Paragraph("No run has finished yet.")
    remarks = tuple(design.remarks())
    blocks = (
        Paragraph(_summary(results)),
        *_warnings("Before you compare:", warnings(design, results)),
        *(charts + table if design.kind == "figure" else table + charts),
        *[Section("About the paper's numbers", (Bullets(remarks),), terminal=False)] * bool(remarks),
        Section("Where the numbers come from", (source,), terminal=False),
        Folded(f"All {len(results.runs)} runs", (_runs(results),)),
    )
    title = f"{design.title}, with {' '.join(results.settings)}" if results.settings else design.title
    return Document(title, blocks, data(design, results))


def data(design: Design, results: Results) -> dict[str, Any]:
    """The content of `table.json`: the rows, and what is needed to judge them."""
    return {
        design.kind: design.name,
        "scale": results.scale,
        "settings": list(results.settings),
        "metric": results.metric.key,
        "data": provenance.corpora(results.counted),
        "git": {"revisions": provenance.revisions(results), "dirty": provenance.dirty(results)},
        "notes": [*caveats(design, results), *warnings(design, results), *design.remarks()],
        "missing": results.missing,
        "rows": [cell.fields() | design.further(cell) for cell in results.cells],
    }


def grid(design: Design, results: Results) -> Grid:
    """The table. Cells of a group stand under its name, those without a group with others of the same first word."""
    columns, label, groups = design.columns, results.metric.label, []
    for (title, _), cells in groupby(results.cells, lambda c: (c.key.group, c.key.group or columns[0].text(c))):
        rows = (tuple(Entry(column.text(cell), column.mark(cell)) for column in columns) for cell in cells)
        groups.append(RowGroup(tuple(rows), title))
    described = (
        GridColumn(column.header.format(metric=label), column.word, column.short, column.minor) for column in columns
    )
    return Grid(tuple(described), tuple(groups))


def rules(design: Design, results: Results) -> list[str]:
    """How to read the table: what Δ and s are, and the sign if the paper has numbers beside ours."""
    better = results.metric.verdict("negative", "positive")
    if not design.baseline:
        return []
    rule = DELTA_RULE.format(metric=results.metric.label, baseline=design.baseline, better=f", {better}" * bool(better))
    return [rule, *[SIGN_RULE] * any(cell.key.published.delta for cell in results.cells)]


def caveats(design: Design, results: Results) -> list[str]:
    """How far these results are from the paper's."""
    as_published = results.scale == "paper" and all(cell.key.as_published for cell in results.cells)
    if not design.setting or as_published:
        return []
    data = ", ".join(_corpora(results)) or "no data yet"
    return [OTHER_SETTING.format(setting=design.setting, scale=results.scale, data=data)]


def warnings(design: Design, results: Results) -> list[str]:
    """What to know before comparing: groups without a baseline, then what the records say."""
    bare = [group for group, cells in results.groups.items() if not any(cell.key.is_baseline for cell in cells)]
    if not design.baseline or not bare:
        return provenance.warnings(results)
    groups = f" in: {'; '.join(bare)}" if any(bare) else ""
    why = f", because of {' '.join(results.without_baseline)}" if results.without_baseline else ""
    told = f"No Δ{groups}: the baseline, {design.baseline}, is no run of this {design.kind}{why}."
    return [told, *provenance.warnings(results)]


def _summary(results: Results) -> str:
    """What you see, in a line or two."""
    on = f" on {', '.join(names)}" if (names := _corpora(results)) else ""
    seeds = sorted({run.seed for run in results.counted}, key=rank)
    with_seeds = f", with seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""
    counted = f"{len(results.counted)} of {len(results.runs)} runs count{with_seeds}."
    has_paper = any(cell.key.published.value is not None for cell in results.cells)
    source = f" The paper's numbers are from {published.numbers()['source']}." * has_paper
    return f"Scale {results.scale}, {results.metric.key}{on}. {counted}{source}"


def _corpora(results: Results) -> list[str]:
    return list(dict.fromkeys(str(corpus.get("name")) for corpus in provenance.corpora(results.counted)))


def _warnings(title: str, items: list[str]) -> list[Block]:
    """A warning with its items; nothing if there are none."""
    return [Paragraph(title, "warning"), Bullets(tuple(items), "warning")] if items else []


def _runs(results: Results) -> Grid:
    """Every run of the sweep."""
    rows = [
        (
            cell.key.label,
            Entry(run.id, link=f"../runs/{run.id}.html" if run.record else ""),
            run.reason or run.status,
            str(run.seed),
            results.metric.text(run.value),
            "–" if (seconds := run.record.get("wall_seconds")) is None else str(timedelta(seconds=round(seconds))),
            "–" if (speed := run.record.get("tokens_per_second")) is None else f"{speed:,.0f}",
        )
        for cell in results.cells
        for run in cell.seeds
    ]
    headers = ("cell", "run", "status", "seed", results.metric.label, "wall time", "tokens/s")
    return Grid.of(headers, rows, words=3)
