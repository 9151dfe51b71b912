"""The sections of the audit: grids and a picture of what `audit.json` holds."""

from collections.abc import Sequence
from typing import Any

from diffmamba.document import Block, Chart, Grid, Panel, Paragraph, Section, Series
from diffmamba.paper.budget import SCHEDULES
from diffmamba.paper.cases import TABLES
from diffmamba.paper.compute import DEVICES, PRECISIONS
from diffmamba.paper.finding import grid
from diffmamba.tasks.optimization import warmup_cosine

Cells = Sequence[dict[str, Any]]
COLOURS = {"wikitext103": "#0072b2", "text8": "#d55e00", "enwik8": "#009e73"}  # of Okabe and Ito
OTHER_COLOUR = "#4d4d4d"
LINES = {"published": "solid", "to_end": "dotted"}
WIDTHS = {6: 1.2, 12: 2.4}
POINTS = 400


def _first(cells: Cells, *names: str) -> list[dict[str, Any]]:
    """The first cell of each combination of these values."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in cells:
        first.setdefault(tuple(cell[name] for name in names), cell)
    return list(first.values())


def _by_table(columns: str, cells: Cells, **starts: str) -> list[Grid]:
    """A grid for each table. `starts` are the columns that tell its cells from each other."""
    rows = {table: [cell for cell in cells if cell["table"] == table] for table in TABLES}
    return [
        grid(f"{starts[table]} | {columns}", rows[table], title=table.replace("table", "table ")) for table in TABLES
    ]


def _section(title: str, words: str, *blocks: Block) -> Section:
    return Section(title, (Paragraph(words, tone="note"), *blocks))


def counts(cells: Cells) -> Section:
    """Parameters by part beside the published counts."""
    columns = (
        "ours M: {parameters[total]:.2fM} | paper M: {parameters[published_m]} | "
        "diff.: {parameters[difference]:+.2%} | embedding: {parameters[embedding]:.2fM} | "
        "mixers: {parameters[mixers]:.2fM} | ffn: {parameters[feed_forward]:.2fM} | "
        "norms: {parameters[norms]:.2fM} | met: {parameters[within]}"
    )
    words = (
        "Millions of parameters. Embedding includes the tied softmax, mixers their own norms and λ; norms are those of "
        "the residual blocks. –: nothing printed. Met: within 1 %."
    )
    ablated = "cell: {model} | λ: {lambda_form} | norm: {outer_norm!s}"
    grids = _by_table(columns, cells, table1="cell: {data} {layers} {model}", table2=ablated)
    return _section("Parameters", words, *grids)


def steps(cells: Cells) -> Section:
    """Sizes of the corpora; steps and tokens of each budget."""
    corpora = (
        "corpus: {data} | train: {budget[train]:,} | val: {budget[val]:,} | test: {budget[test]:,} | "
        "types: {budget[vocabulary]:,}"
    )
    columns = (
        "batch: {budget[batch_size]} | tokens/step: {budget[tokens_per_step]:,} | "
        "steps/epoch: {budget[steps_per_epoch]:,} | epochs: {budget[epochs]:.4g} | steps: {budget[steps]:,} | "
        "tokens/epoch: {budget[tokens_per_epoch]:,} | tokens: {budget[tokens]:.4g} | dropped: {budget[dropped]:.4%}"
    )
    words = (
        f"By the rule of the training streams with windows of {cells[0]['budget']['length']}. Models share a row. "
        "Dropped: what an epoch leaves out at the ends of its streams."
    )
    start, budgets = "cell: {data} {layers}", _first(cells, "table", "data", "layers")
    grids = _by_table(columns, budgets, table1=start, table2=start)
    return _section("Data and steps", words, grid(corpora, _first(cells, "data")), *grids)


def rates(cells: Cells) -> Section:
    """The learning rate under both readings of optimizer.schedule."""
    words = (
        "Units of 1e-4, the rate of the step that follows. Walked: share of the cosine that the run goes through. "
        "Σ rate: sum over all steps."
    )
    budgets = _first(cells, "table", "data", "layers")
    return _section("Learning rate", words, *(_rates(budgets, schedule) for schedule in SCHEDULES), chart(budgets))


def _rates(cells: Cells, schedule: str) -> Grid:
    rows = []
    for cell in cells:
        curve = cell["learning_rate"][SCHEDULES.index(schedule)]
        rows.append(cell | curve | {"rates": {mark["name"]: 1e4 * mark["rate"] for mark in curve["landmarks"]}})
    marks = max((row["rates"] for row in rows), key=len)
    rows = [row | {"rates": dict.fromkeys(marks) | row["rates"]} for row in rows]
    ends = "cell: {table} {data} {layers} | cosine: {length:,}", "walked: {walked:.1%} | Σ rate: {integral:.1f}"
    columns = [f"{mark.replace('after epoch', 'ep.')}: {{rates[{mark}]:.3f}}" for mark in marks]
    return grid(" | ".join([ends[0], *columns, ends[1]]), rows, title=f"optimizer.schedule={schedule}")


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
        label=f"{cell['table']} {cell['data']} {cell['layers']}",
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
    shares = ", ".join(f"{precision} {assumed[precision]:.0%}" for precision in PRECISIONS)
    words = (
        "Millions of operations per token in a forward pass; a training step counts as three. EFLOP: one run with its "
        "evaluations. Tails of the adaptive softmax by Zipf's law; if every token took every tail, a forward pass "
        f"would cost up to {bound:.0%} more. Hours of one run on one {DEVICES[assumed['device']]['name']} at an "
        f"assumed share of the peak: {shares}."
    )
    parts = {"proj.": "projections", "ffn": "feed_forward", "conv": "convolution", "scan": "scan"}
    parts |= {"emb.": "embedding", "softmax": "softmax"}
    columns = [
        *(f"{short}: {{compute[forward][{part}]:.1fM}}" for short, part in parts.items()),
        "forward: {compute[forward_per_token]:.1fM} | EFLOP: {compute[total]:.2fE}",
        *(f"{precision} h: {{compute[hours][{precision}]:.1f}}" for precision in PRECISIONS),
    ]
    models = _first(cells, "table", "data", "layers", "model")
    runs = _by_table(" | ".join(columns), models, table1="cell: {data} {layers} {model}", table2="cell: {model}")
    devices = [
        device | {name: found["hours"][key] for name, found in tables.items()} for key, device in DEVICES.items()
    ]
    of_tables = [f"{table} {precision}: {{{table}[{precision}]:,.0f}}" for table in tables for precision in PRECISIONS]
    operations = " and ".join(f"{table} {found['operations'] / 1e18:,.0f} EFLOP" for table, found in tables.items())
    title = f"GPU-hours of all runs with {totals['seeds']} seeds: {operations}"
    return _section("Compute", words, *runs, grid(" | ".join(["device: {name}", *of_tables]), devices, title=title))


def readings(found: Cells) -> Section:
    """Where the paper leaves a choice: the setting, and its value in force."""
    columns = "what: {subject} | setting in force: {setting}={in_force} | default: {default} | other values: {others}"
    words = "Each choice is a setting, here with the value that tables 1 and 2 would be trained with."
    return _section("Where the paper leaves a choice", words, grid(columns, found, words=4))
