"""The audit in words and grids, in the order in which they are read: verdict first, then what it rests on."""

from diffmamba.audit import picture
from diffmamba.audit.agreement import Reading
from diffmamba.audit.budget import SCHEDULES, Curve, distinct, schedule_in_force
from diffmamba.audit.cells import TABLES
from diffmamba.audit.compute import PRECISIONS, devices, hours
from diffmamba.audit.counts import MILLION
from diffmamba.audit.document import Document, Grid, Picture, Section
from diffmamba.audit.result import Audited, Result
from diffmamba.audit.verdict import NAMES, sentences

MARKS = {"step 0": "start", "end of warm-up": "warm"}
TITLE = "Audit of tables 1 and 2: is the published setting met?"


def layout(result: Result) -> Document:
    """The whole audit."""
    sections = (
        _counts(result),
        _steps(result),
        _rates(result),
        _compute(result),
        _readings(result),
        Section("Where the paper contradicts itself", findings=tuple(result.contradictions)),
        Section("What else can be computed", findings=tuple(result.further)),
    )
    return Document(TITLE, tuple(sentences(result)), sections)


def _counts(result: Result) -> Section:
    headers = ("cell", "ours M", "paper M", "diff.", "embedding", "mixers", "ffn", "norms", "≤ 1 %")
    grids = [Grid(headers, [_count_row(f) for f in result.of(table)], title=NAMES[table]) for table in TABLES]
    return Section(
        "Parameters",
        (
            "Millions, counted on the meta device with the published vocabulary. Embedding includes the tied softmax, "
            "mixers their own norms and λ; norms are those of the residual blocks. +N: outer norm. –: nothing printed.",
        ),
        tuple(grids),
    )


def _count_row(found: Audited) -> tuple[str, ...]:
    counted, printed = found.count, found.count.published_m
    parts = (counted.embedding, counted.mixers, counted.feed_forward, counted.norms)
    return (
        name(found),
        f"{counted.total / MILLION:.2f}",
        "–" if printed is None else str(printed),
        "–" if counted.difference is None else f"{100 * counted.difference:+.2f} %",
        *(f"{part / MILLION:.2f}" for part in parts),
        "–" if counted.within is None else "✓" if counted.within else "✗",
    )


def name(found: Audited) -> str:
    """A cell in a grid of its table: what tells it from the others."""
    cell = found.cell
    if cell.table == "table1":
        return f"{cell.data} {cell.layers} {cell.model}"
    return " ".join(filter(None, [cell.model, "+N" * cell.outer_norm, cell.lambda_form]))


def _steps(result: Result) -> Section:
    founds = _by_budget(result)
    splits = {
        found.cell.data: (f"{found.budget.train:,}", f"{found.budget.val:,}", f"{found.budget.test:,}")
        for found in founds
    }
    types = {found.cell.data: f"{found.budget.vocabulary:,}" for found in founds}
    headers = ("cell", "batch", "tokens/step", "steps/epoch", "epochs", "steps", "tokens/epoch", "tokens", "dropped")
    return Section(
        "Data and steps",
        (
            f"By the rule of the training streams with windows of {founds[0].budget.length}. Mamba and Diff-Mamba "
            "share a row. Dropped: what an epoch leaves out at the ends of its streams.",
        ),
        (
            Grid(
                ("corpus", "train", "val", "test", "types"),
                [(data, *sizes, types[data]) for data, sizes in splits.items()],
            ),
            Grid(headers, [_step_row(found) for found in founds]),
        ),
    )


def _step_row(found: Audited) -> tuple[str, ...]:
    spent = found.budget
    return (
        _budget_name(found),
        str(spent.batch_size),
        f"{spent.tokens_per_step:,}",
        f"{spent.steps_per_epoch:,}",
        f"{spent.epochs:.4g}",
        f"{spent.steps:,}",
        f"{spent.tokens_per_epoch:,}",
        f"{spent.tokens / 1e9:.3f}G",
        f"{spent.dropped:.4%}",
    )


def _by_budget(result: Result) -> list[Audited]:
    chosen = {id(cell) for cell in distinct([found.cell for found in result.audited])}
    return [found for found in result.audited if id(found.cell) in chosen]


def _budget_name(found: Audited) -> str:
    return f"{found.cell.data} {found.cell.layers}" + ", t. 2" * (found.cell.table == "table2")


def _rates(result: Result) -> Section:
    founds = _by_budget(result)
    marks = max((found.curves[0].landmarks for found in founds), key=len)
    epochs = tuple(MARKS.get(mark.name, mark.name.replace("after epoch", "ep.")) for mark in marks)
    grids = tuple(
        Grid(
            ("cell", "cosine", *epochs, "walked", "Σ rate"),
            [_rate_row(f, curve, len(marks)) for f in founds for curve in f.curves if curve.schedule == schedule],
            title=f"optimizer.schedule={schedule}",
        )
        for schedule in SCHEDULES
    )
    caption = (
        "Learning rate while training. Left: as a share of its peak; dotted under to_end, where the cells of table 1 "
        "nearly coincide. Right: table 1's rates as they are."
    )
    return Section("Learning rate", (_rate_words(result),), grids, Picture(picture.learning_rates(result), caption))


def _rate_words(result: Result) -> str:
    founds = [found for found in _by_budget(result) if found.cell.table == "table1"]
    published = [found.curves[SCHEDULES.index("published")] for found in founds]
    walked = [curve.walked for curve in published]
    last = [
        curve.landmarks[-1].rate / found.cell.config["optimizer"]["learning_rate"]
        for found, curve in zip(founds, published, strict=True)
    ]
    return (
        "Units of 1e-4, the rate of the step that follows; Σ rate: sum over all steps. In force: "
        f"optimizer.schedule={schedule_in_force(founds[0].cell)}. In table 1 the published cosine is walked to "
        f"between {min(walked):.0%} and {max(walked):.0%}, so the rate ends at {min(last):.0%} to {max(last):.0%} of "
        "its peak; to_end walks it all."
    )


def _rate_row(found: Audited, curve: Curve, marks: int) -> tuple[str, ...]:
    rates = [f"{1e4 * mark.rate:.3f}" for mark in curve.landmarks]
    rates += ["–"] * (marks - len(rates))
    return (_budget_name(found), f"{curve.length:,}", *rates, f"{curve.walked:.1%}", f"{curve.integral:.1f}")


def _compute(result: Result) -> Section:
    assumed = result.assumed
    device = devices()[assumed.device]["name"]
    shares = ", ".join(f"{precision} {getattr(assumed, precision):.0%}" for precision in PRECISIONS)
    bound = max(f.compute.forward_upper_bound / f.compute.forward_per_token - 1 for f in result.audited)
    headers = ("cell", "proj.", "ffn", "conv", "scan", "softmax", "forward", "EFLOP", *(f"{p} h" for p in PRECISIONS))
    by_cost = {(f.cell.table, f.cell.data, f.cell.layers, f.cell.model): f for f in reversed(result.audited)}
    rows = [_compute_row(found) for found in reversed(by_cost.values())]
    return Section(
        "Compute",
        (
            "Millions of operations per token in a forward pass, counted: every linear layer and the softmax, the "
            "convolution, the scan as a recurrence (5 · d_inner · d_state + 3 · d_inner). Norms, gates, dropout and "
            "the optimiser are left out, so the outer norm and the form of λ cost nothing. A training step counts as "
            "three forward passes. EFLOP: one run with its evaluations.",
            "Tails of the adaptive softmax by Zipf's law (1/rank); if every token took every tail, a forward pass "
            f"would cost up to {bound:.0%} more.",
            f"Hours of one run on one {device}. Assumed share of the peak, not measured: {shares} (settings device, "
            f"utilisation_fp32 and so on).",
        ),
        (Grid(headers, rows), _devices(result)),
    )


def _compute_row(found: Audited) -> tuple[str, ...]:
    part, run = found.compute.forward, found.compute
    millions = (part.projections, part.feed_forward, part.convolution, part.scan, part.embedding + part.softmax)
    label = name(found) if found.cell.table == "table1" else f"table 2, {found.cell.model}"
    return (
        label,
        *(f"{number / MILLION:.1f}" for number in (*millions, run.forward_per_token)),
        f"{run.total / 1e18:.2f}",
        *(f"{run.hours[precision]:.1f}" for precision in PRECISIONS),
    )


def _devices(result: Result) -> Grid:
    """GPU-hours of whole tables with all seeds by device."""
    rows = []
    for key, device in devices().items():
        spent = [hours(result.operations(table), key, result.assumed) for table in TABLES]
        numbers = (f"{of_table[precision]:,.0f}" for of_table in spent for precision in PRECISIONS)
        rows.append((device["name"], *numbers))
    operations = " and ".join(f"{NAMES[table]} {result.operations(table) / 1e18:,.0f} EFLOP" for table in TABLES)
    return Grid(
        ("device", *(f"{NAMES[table]} {precision}" for table in TABLES for precision in PRECISIONS)),
        rows,
        title=f"GPU-hours of all runs with {result.seeds} seeds: {operations}",
    )


def _readings(result: Result) -> Section:
    rows = [(r.subject, _in_force(r), r.others, r.why) for r in result.readings]
    return Section(
        "Where the paper can be read twice",
        ("Each reading is a setting; here with the value that tables 1 and 2 would be trained with.",),
        (Grid(("what", "setting in force", "other readings", "why it is the default"), rows, words=4),),
    )


def _in_force(reading: Reading) -> str:
    changed = f" (default {reading.default})" * (reading.in_force != reading.default)
    return f"{reading.setting}={reading.in_force}{changed}" if "." in reading.setting else reading.in_force
