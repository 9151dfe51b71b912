"""The results of a design as a document: a summary, the table, how to read it, pictures, and where it comes from."""

from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from diffmamba.document import Block, Bullets, Document, Entry, Folded, Grid, GridColumn, Paragraph, RowGroup, Section
from diffmamba.paper import published
from diffmamba.reports import charts, columns, provenance, statistics
from diffmamba.reports.cells import Results
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.records import rank
from diffmamba.reports.statistics import Comparison

DELTA_RULE = (
    "Δ: {metric} minus that of {baseline}, over the seeds of both{better}. std and s: sample standard deviations over "
    "seeds, of {metric} and of Δ."
)
INTERVAL_RULE = (
    "Interval of Δ: where the true difference lies. With {confidence:.0%} confidence this holds for {family}. It comes "
    "from the differences seed by seed, by Student's t, and assumes that they are roughly normal{bootstrap}."
)
BOOTSTRAP_RULE = f"; with {statistics.BOOTSTRAP_FROM} seeds or more it is wider where a bootstrap of t says so"
SIGN_RULE = (
    "sign: ✓ all of the interval has the sign of the paper's Δ, ✗ all of it has the opposite sign; ~ no verdict, "
    "because the interval holds 0 or is missing."
)
DIFFERS_RULE = (
    "differs: {words} than {baseline} if the interval leaves out 0; ~ no verdict, because it holds 0 or is missing."
)
FLIP_RULE = (
    "An exact test that flips signs makes no such assumption, but with {seeds} its p is never below 2/2^{most} = "
    "{lowest:.3g}{family}: {so}."
)
NEEDED_RULE = (
    "seeds needed: how many would find a true difference as large as the paper's Δ with a chance of {power:.0%}, if s "
    "is right. {uncertain}"
)
SMALLEST_RULE = (
    "could see: the smallest true difference that these seeds find with a chance of {power:.0%}, if s is right. "
    "{uncertain}"
)
SPREAD_RULE = "With {seeds} seeds the true spread is likely to lie between {low:.2g} and {high:.2g} times s."
OTHER_SETTING = (
    "The paper's numbers are of {setting}; this is scale {scale} on {data}. The values differ by construction; "
    "only signs compare, and they are evidence only where the interval of Δ leaves out 0."
)


def document(design: Design, results: Results) -> Document:
    """What the page of a table or figure says."""
    drawn = tuple(design.charts(results)) if results.counted or design.kind == "figure" else ()
    count = f"{len(results.runs) - len(results.counted)} of {len(results.runs)} runs missing:"
    table = (
        *_verdicts(results),
        grid(design, results),
        *(Paragraph(text, "note") for text in (*rules(design, results), *caveats(design, results))),
        *_warnings(count, results.missing),
    )
    facts = Grid.of(("what", "of the runs that count"), list(provenance.facts(results).items()), words=2)
    source = facts if results.counted else Paragraph("No run has finished yet.")
    remarks = tuple(design.remarks())
    first = int(design.kind == "figure")  # the figure itself stands above its table
    blocks = (
        Paragraph(_summary(results)),
        *_warnings("Before you compare:", warnings(design, results)),
        *drawn[:first],
        *table,
        *drawn[first:],
        *_effects(design, results),
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
        **({"asked": dict(design.asked)} if design.asked else {}),
        "metric": results.metric.key,
        "data": provenance.corpora(results.counted),
        "git": {"revisions": provenance.revisions(results), "dirty": provenance.dirty(results)},
        "notes": [*caveats(design, results), *warnings(design, results), *design.remarks()],
        "missing": results.missing,
        "rows_compared": len(results.comparisons),
        "rows": [cell.fields() | design.further(cell) for cell in results.cells],
        **({"effects": [cell.fields() for cell in effects]} if (effects := design.effects(results)) else {}),
    }


def _effects(design: Design, results: Results) -> list[Block]:
    """The section of the differences that are asked for by themselves; none if there are none."""
    cells = tuple(design.effects(results))
    if not cells:
        return []
    found, shown = replace(results, cells=cells), replace(design, columns=columns.EFFECT, baseline=columns.OTHER)
    notes = (Paragraph(text, "note") for text in rules(shown, found))
    drawn = (charts.deltas(found, columns.OTHER, True), charts.over_training(found, columns.OTHER))
    named = (replace(chart, name=f"{chart.name}_of_effects") for chart in drawn if chart.panels)
    return [Section("Effects", (grid(shown, found), *notes, *named))]


def grid(design: Design, results: Results) -> Grid:
    """The table. Cells of a group stand under its name, those without a group with others of the same first word."""
    columns, label, groups = _columns(design, results), results.metric.label, []
    for (title, _), cells in groupby(results.cells, lambda c: (c.key.group, c.key.group or columns[0].text(c))):
        rows = (tuple(Entry(column.text(cell), column.mark(cell)) for column in columns) for cell in cells)
        groups.append(RowGroup(tuple(rows), title))
    described = (GridColumn(c.header.format(metric=label), c.word, c.short, c.spare) for c in columns)
    return Grid(tuple(described), tuple(groups))


def _columns(design: Design, results: Results) -> list[Column]:
    """The columns of the table, without the spare ones that say nothing."""
    return [
        column
        for column in design.columns
        if not column.spare or any(column.text(cell) != "–" for cell in results.cells)
    ]


def rules(design: Design, results: Results) -> list[str]:
    """How to read the table: what Δ is, what its interval promises, and what the signs and the further columns say."""
    notes = [*design.notes, *design.notes_on(results)]
    if not design.baseline:
        return notes
    better = results.metric.verdict("negative", "positive")
    words = {"metric": results.metric.label, "baseline": design.baseline, "better": f", {better}" * bool(better)}
    found, shown = [DELTA_RULE.format(**words)], _columns(design, results)
    compared = [comparison for comparison in results.comparisons.values() if comparison.interval]
    if compared:
        found.append(_interval_rule(compared))
    if columns.SIGN in shown and any(cell.key.published.delta for cell in results.cells):
        found.append(SIGN_RULE)
    if columns.DIFFERS in shown:
        verdicts = "better or worse" if better else "lower or higher"
        found.append(DIFFERS_RULE.format(words=verdicts, baseline=design.baseline))
    if compared:
        found.append(_flip_rule(compared))
        most = max(comparison.seeds for comparison in compared)
        low, high = statistics.spread_range(most)
        uncertain = SPREAD_RULE.format(seeds=most, low=low, high=high)
        for column, rule in ((columns.NEEDED, NEEDED_RULE), (columns.SMALLEST, SMALLEST_RULE)):
            found += [rule.format(power=statistics.POWER, uncertain=uncertain)] * (column in shown)
    return [*found, *notes]


def _interval_rule(compared: list[Comparison]) -> str:
    rows, most = compared[0].rows, max(comparison.seeds for comparison in compared)
    family = f"all {rows} rows that are compared, together" if rows > 1 else "the one row that is compared"
    bootstrap = BOOTSTRAP_RULE * (most >= statistics.BOOTSTRAP_FROM)
    return INTERVAL_RULE.format(confidence=1 - statistics.ERROR, family=family, bootstrap=bootstrap)


def _flip_rule(compared: list[Comparison]) -> str:
    rows, most = compared[0].rows, max(comparison.seeds for comparison in compared)
    least, lowest = min(comparison.seeds for comparison in compared), min(c.lowest_p for c in compared)
    seeds = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    family = f", and never below {lowest:.3g} once it is corrected for {rows} rows" if rows > 1 else ""
    so = "column p has it, corrected by Holm" if lowest <= statistics.ERROR else "so few seeds cannot decide by it"
    return FLIP_RULE.format(seeds=seeds, most=most, lowest=statistics.lowest_p(most), family=family, so=so)


def caveats(design: Design, results: Results) -> list[str]:
    """How far these results are from the paper's."""
    as_published = results.scale == "paper" and all(cell.key.as_published for cell in results.cells)
    if not design.setting or as_published:
        return []
    data = ", ".join(_corpora(results)) or "no data yet"
    return [OTHER_SETTING.format(setting=design.setting, scale=results.scale, data=data)]


def warnings(design: Design, results: Results) -> list[str]:
    """What to know before comparing: groups without a baseline, rows without an interval, what the records say."""
    return [*_without_baseline(design, results), *_without_interval(results), *provenance.warnings(results)]


def _verdicts(results: Results) -> list[Paragraph]:
    """In how many rows the interval leaves out 0, whether or not the paper has a number, and with how many seeds."""
    compared = [cell for cell in results.cells if cell.comparison]
    if not compared:
        return []
    decided = [cell for cell in compared if cell.interval and cell.interval.side]
    fewest, most = min(len(cell.pairs) for cell in compared), max(len(cell.pairs) for cell in compared)
    seeds = f"{fewest} to {most}" if fewest < most else f"{most}"
    rows = f"{len(decided)} of {len(compared)} row{'s' * (len(compared) > 1)}"
    return [Paragraph(f"A difference is seen in {rows}, each with {seeds} seed{'s' * (most > 1)}.", "strong")]


def _without_baseline(design: Design, results: Results) -> list[str]:
    bare = [group for group, cells in results.groups.items() if not any(cell.key.is_baseline for cell in cells)]
    if not design.baseline or not bare:
        return []
    groups = f" in: {'; '.join(bare)}" if any(bare) else ""
    why = f", because of {' '.join(results.without_baseline)}" if results.without_baseline else ""
    return [f"No Δ{groups}: the baseline, {design.baseline}, is no run of this {design.kind}{why}."]


def _without_interval(results: Results) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for label, comparison in results.comparisons.items():
        if comparison.reason:
            reasons.setdefault(comparison.reason, []).append(label)
    every = len(results.comparisons)
    where = {why: f"all {every} rows" if 1 < every == len(rows) else "; ".join(rows) for why, rows in reasons.items()}
    return [f"No interval of Δ, so no verdict, because {why}: {rows}." for why, rows in where.items()]


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
        for cell in results.planned
        for run in cell.seeds
    ]
    headers = ("cell", "run", "status", "seed", results.metric.label, "wall time", "tokens/s")
    return Grid.of(headers, rows, words=3)
