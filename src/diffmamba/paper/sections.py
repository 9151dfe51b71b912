"""The sections of the audit: grids and a picture of what `audit.json` holds."""

from collections.abc import Sequence
from typing import Any

from diffmamba.document import Chart, Grid, Panel, Paragraph, Section, Series
from diffmamba.paper.budget import SCHEDULES
from diffmamba.paper.cases import TABLES
from diffmamba.paper.compute import DEVICES, PRECISIONS
from diffmamba.paper.counts import MILLION
from diffmamba.paper.finding import grid
from diffmamba.tasks.optimization import warmup_cosine

Cells = Sequence[dict[str, Any]]
COLOURS = {"wikitext103": "#0072b2", "text8": "#d55e00", "enwik8": "#009e73"}  # of Okabe and Ito
OTHER_COLOUR = "#4d4d4d"
LINES = {"published": "solid", "to_end": "dotted"}
WIDTHS = {6: 1.2, 12: 2.4}
POINTS = 400


def _name(cell: dict[str, Any]) -> str:
    """A cell in a grid of its table: what tells it from the others."""
    if cell["table"] == "table1":
        return f"{cell['data']} {cell['layers']} {cell['model']}"
    return " ".join(filter(None, [cell["model"], "+N" * cell["outer_norm"], cell["lambda_form"]]))


def _by_budget(cells: Cells) -> list[dict[str, Any]]:
    """One cell for each budget, with a name for it."""
    first: dict[str, dict[str, Any]] = {}
    for cell in cells:
        name = f"{cell['data']} {cell['layers']}" + ", t. 2" * (cell["table"] == "table2")
        first.setdefault(name, cell | {"name": name})
    return list(first.values())


def counts(cells: Cells) -> Section:
    """Parameters by part beside the published counts."""
    columns = (
        "cell: {name} | ours M: {total:.2f} | paper M: {printed} | diff.: {diff} | embedding: {embedding:.2f} | "
        "mixers: {mixers:.2f} | ffn: {feed_forward:.2f} | norms: {norms:.2f} | ≤ 1 %: {mark}"
    )
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    for cell in cells:
        found, texts = cell["parameters"], {"name": _name(cell), "printed": "–", "diff": "–", "mark": "–"}
        if found["published_m"] is not None:
            mark = "✓" if found["within"] else "✗"
            texts |= {"printed": found["published_m"], "diff": f"{100 * found['difference']:+.2f} %", "mark": mark}
        parts = ("total", "embedding", "mixers", "feed_forward", "norms")
        rows[cell["table"]].append(texts | {part: found[part] / MILLION for part in parts})
    words = (
        "Millions of parameters. Embedding includes the tied softmax, mixers their own norms and λ; norms are those of "
        "the residual blocks. +N: outer norm. –: nothing printed."
    )
    grids = [grid(columns, rows[table], title=table.replace("table", "table ")) for table in TABLES]
    return Section("Parameters", (Paragraph(words, tone="note"), *grids))


def steps(cells: Cells) -> Section:
    """Sizes of the corpora; steps and tokens of each budget."""
    corpora = (
        "corpus: {data} | train: {budget[train]:,} | val: {budget[val]:,} | test: {budget[test]:,} | "
        "types: {budget[vocabulary]:,}"
    )
    columns = (
        "cell: {name} | batch: {budget[batch_size]} | tokens/step: {budget[tokens_per_step]:,} | "
        "steps/epoch: {budget[steps_per_epoch]:,} | epochs: {budget[epochs]:.4g} | steps: {budget[steps]:,} | "
        "tokens/epoch: {budget[tokens_per_epoch]:,} | tokens: {budget[tokens]:,} | dropped: {budget[dropped]:.4%}"
    )
    words = (
        f"By the rule of the training streams with windows of {cells[0]['budget']['length']}. Models share a row. "
        "Dropped: what an epoch leaves out at the ends of its streams."
    )
    sizes = {cell["data"]: cell for cell in cells}.values()
    grids = grid(corpora, sizes), grid(columns, _by_budget(cells))
    return Section("Data and steps", (Paragraph(words, tone="note"), *grids))


def rates(cells: Cells) -> Section:
    """The learning rate under both readings of optimizer.schedule."""
    words = (
        "Units of 1e-4, the rate of the step that follows. Walked: share of the cosine that the run goes through. "
        "Σ rate: sum over all steps."
    )
    named = _by_budget(cells)
    grids = [_rates(named, schedule) for schedule in SCHEDULES]
    return Section("Learning rate", (Paragraph(words, tone="note"), *grids, chart(named)))


def _rates(cells: Cells, schedule: str) -> Grid:
    curves = {cell["name"]: cell["learning_rate"][SCHEDULES.index(schedule)] for cell in cells}
    rates = {name: {mark["name"]: f"{1e4 * mark['rate']:.3f}" for mark in c["landmarks"]} for name, c in curves.items()}
    marks = max(rates.values(), key=len)
    rows = [curve | dict.fromkeys(marks, "–") | rates[name] | {"cell": name} for name, curve in curves.items()]
    columns = " | ".join(f"{mark.replace('after epoch', 'ep.')}: {{{mark}}}" for mark in marks)
    columns = f"cell: {{cell}} | cosine: {{length:,}} | {columns} | walked: {{walked:.1%}} | Σ rate: {{integral:.1f}}"
    return grid(columns, rows, title=f"optimizer.schedule={schedule}")


def chart(cells: Cells) -> Chart:
    """The learning rate by epoch: as a share of its peak, and table 1's rates as they are."""
    drawn = [(cell, curve) for cell in cells for curve in cell["learning_rate"]]
    share = tuple(_series(cell, curve, as_share=True) for cell, curve in drawn)
    absolute = tuple(_series(cell, curve, as_share=False) for cell, curve in drawn if cell["table"] == "table1")
    caption = (
        "Learning rate by epoch, solid under optimizer.schedule=published, dotted under to_end. Left: as a share of "
        "its peak; under to_end the cells of table 1 nearly coincide. Right: table 1's rates as they are."
    )
    left = Panel("share of the peak rate", share, "epoch", y_range=(0, 1.03))
    right = Panel("learning rate", absolute, "epoch", y_scale="log", y_range=(1e-6, 1e-3))
    return Chart("learning_rates", "Learning rate by epoch", ((left, right),), caption, caption, size=(10, 3.6))


def _series(cell: dict[str, Any], curve: dict[str, Any], as_share: bool) -> Series:
    spent, (_, warm, *_) = cell["budget"], curve["landmarks"]
    warmup, total, peak = warm["step"], spent["steps"], 1.0 if as_share else warm["rate"]
    drawn = sorted({*range(0, total, max(1, total // POINTS)), min(warmup, total), total})
    return Series(
        label=cell["name"],
        x=tuple(step / spent["steps_per_epoch"] for step in drawn),
        y=tuple(peak * warmup_cosine(step, warmup, curve["length"]) for step in drawn),
        colour=COLOURS.get(cell["data"], OTHER_COLOUR) if cell["table"] == "table1" else OTHER_COLOUR,
        line=LINES[curve["schedule"]],
        width=WIDTHS.get(cell["layers"], 1.2),
    )


def compute(cells: Cells, totals: dict[str, Any]) -> Section:
    """Operations by part, GPU-hours of a run, and GPU-hours of whole tables by device."""
    assumed, tables = totals["assumed"], totals["tables"]
    bound = max(cell["compute"]["forward_upper_bound"] / cell["compute"]["forward_per_token"] - 1 for cell in cells)
    words = (
        "Millions of operations per token in a forward pass; a training step counts as three. EFLOP: one run with its "
        "evaluations. Tails of the adaptive softmax by Zipf's law; if every token took every tail, a forward pass "
        f"would cost up to {bound:.0%} more. Hours of one run on one {DEVICES[assumed['device']]['name']} at an assumed "
        f"share of the peak: {', '.join(f'{precision} {assumed[precision]:.0%}' for precision in PRECISIONS)}."
    )
    columns = (
        "cell: {name} | proj.: {projections:.1f} | ffn: {feed_forward:.1f} | conv: {convolution:.1f} | "
        "scan: {scan:.1f} | softmax: {softmax:.1f} | forward: {total:.1f} | EFLOP: {run:.2f} | "
    ) + " | ".join(f"{precision} h: {{hours[{precision}]:.1f}}" for precision in PRECISIONS)
    rows: dict[str, dict[str, Any]] = {}
    for cell in cells:
        run, name = cell["compute"], _name(cell) if cell["table"] == "table1" else f"table 2, {cell['model']}"
        parts = {part: number / MILLION for part, number in run["forward"].items()}
        parts |= {"softmax": parts["embedding"] + parts["softmax"], "total": run["forward_per_token"] / MILLION}
        rows.setdefault(name, parts | {"name": name, "run": run["total"] / 1e18, "hours": run["hours"]})
    by_device = [
        {table: found["hours"][key] for table, found in tables.items()} | device for key, device in DEVICES.items()
    ]
    of_tables = [f"{table} {precision}: {{{table}[{precision}]:,.0f}}" for table in tables for precision in PRECISIONS]
    operations = " and ".join(f"{table} {found['operations'] / 1e18:,.0f} EFLOP" for table, found in tables.items())
    title = f"GPU-hours of all runs with {totals['seeds']} seeds: {operations}"
    by_device_grid = grid(" | ".join(["device: {name}", *of_tables]), by_device, title=title)
    return Section("Compute", (Paragraph(words, tone="note"), grid(columns, rows.values()), by_device_grid))


def readings(found: Cells) -> Section:
    """Where the paper leaves a choice: the setting, and its value in force."""
    columns = "what: {subject} | setting in force: {setting}={in_force} | default: {default} | other values: {others}"
    words = "Each choice is a setting, here with the value that tables 1 and 2 would be trained with."
    return Section("Where the paper leaves a choice", (Paragraph(words, tone="note"), grid(columns, found, words=4)))
