"""Figure 5 of the paper: accuracy on the six tasks of MAD, and the gain of Diff-Mamba over Mamba in per cent."""

from dataclasses import replace
from statistics import fmean
from typing import Any

from diffmamba.paper import remarks
from diffmamba.reports import columns, statistics
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.designs import mad, mad_charts, mad_points

BASELINE_IN_WORDS = "mamba on the same task"
SCORE = (
    "The score of a task is the mean over its settings of difficulty; the total is the mean over tasks. A seed counts "
    "only where every planned run of it counts."
)
CHOICE = (
    "Each setting is trained with several settings of the optimiser, and one of these runs counts. by test: the one "
    "with the best accuracy on the test set, as published. by val: the best on a validation set of its own. fixed: the "
    "same setting of the optimiser everywhere. To choose the best of six on the test set is part of the published "
    "number: it makes an accuracy look better than new examples would find it. Of equal runs the first in the grid "
    "counts."
)
MAIN = "In this table accuracy, Δ and gain are those of column {column}."
NOT_FIXED = " No setting of the optimiser here is published.fixed, so there is no column fixed."
ONE_CHOICE = "Each setting was trained with one setting of the optimiser alone, so there was nothing to choose."
UNEVEN = "Not all models were planned with the same settings, so Δ is not of the models alone, in: {groups}."
GAIN = (
    f"gain: Δ in per cent of the baseline, over the seeds of both. Its interval is a bootstrap "
    f"({1 - statistics.ERROR:.0%}, each row by itself) over seeds, and over the settings of each task, where there are "
    f"{statistics.DRAWN_FROM} or more of them. With few of them it is too narrow: in trials with made-up numbers it "
    "held the true gain of six tasks in 74% with 3 seeds and one setting, in 91% with one seed and 6 settings. So the "
    "verdict rests on the interval of Δ."
)
FEW_SEEDS = (
    f" With fewer than {statistics.DRAWN_FROM} seeds the interval of the gain is over settings alone: how much seeds "
    "differ is not in it."
)
LEVELS = (
    "chance: the accuracy of the best answer that is always the same; ceiling: the most that the training examples "
    "allow to know. Both are means over the settings."
)
PUBLISHED = (
    "The paper prints its gains in per cent. Its accuracies were read off the bars of its figure, so they are "
    "approximate (about ±0.005), and so is paper Δ."
)
HEADERS = {"test": "by test", "val": "by val", "fixed": "fixed"}


def reading(cell: Cell, name: str) -> float | None:
    """The score with the runs chosen in this way, as a mean over seeds."""
    return mad.mean([run.record["readings"][name] for run in cell.seeds if run.value is not None])


def level(cell: Cell, name: str) -> float | None:
    """`chance` or `ceiling` of a row."""
    found = (run.record.get(name) for run in cell.seeds)
    return mad.mean([one for one in found if one is not None])


def gain(cell: Cell) -> float | None:
    """Δ in per cent of the baseline's value, over the seeds of both."""
    baseline = fmean(theirs for _, theirs in cell.pairs.values()) if cell.pairs else 0.0
    return None if cell.delta is None or not baseline else 100 * cell.delta / baseline


def gain_interval(cell: Cell) -> statistics.Interval | None:
    """The bootstrap interval of the gain."""
    if cell.baseline is None or cell.key.is_baseline:
        return None
    ours, theirs = ([_scores(one, seed) for seed in cell.pairs] for one in (cell, cell.baseline))
    if not ours or any(list(map(len, one)) != list(map(len, ours[0])) for one in (*ours, *theirs)):
        return None  # other settings than the baseline has
    by_task = (zip(*one, strict=True) for one in (ours, theirs))
    return statistics.gain_interval(list(zip(*by_task, strict=True)))


def _scores(cell: Cell, seed: int) -> list[list[float]]:
    """The accuracy in each setting of each task of a row."""
    return next(run.record["scores"] for run in cell.seeds if run.seed == seed)


def _percent(number: float | None) -> str:
    """A gain; the sign of a zero is left out."""
    return "–" if number is None else "0.0" if round(number, 1) == 0 else f"{number:+.1f}".replace("-", "−")


def _gain_interval_text(cell: Cell) -> str:
    found = gain_interval(cell)
    return "–" if found is None else f"{_percent(found.low)}, {_percent(found.high)}"


def sizes(cell: Cell) -> dict[str, int | None]:
    """The parameters of the smallest and of the largest network of a row."""
    found = [run.part("parameters") for run in cell.seeds]
    ends = ((name, choose, [one[name] for one in found if name in one]) for name, choose in mad.SIZES.items())
    return {name: choose(counts) if counts else None for name, choose, counts in ends}


def _sizes_text(cell: Cell) -> str:
    return "–".join(dict.fromkeys(map(columns.parameters, sizes(cell).values())))


def _reading_column(name: str) -> Column:
    """The readings are worth their columns only where there was something to choose."""
    return Column(
        HEADERS[name],
        lambda cell: cell.metric.text(reading(cell, name) if cell.key.fields["optimizers"] > 1 else None),
        spare=True,
    )


def _level_column(name: str) -> Column:
    return Column(name, lambda cell: cell.metric.text(level(cell, name)), spare=True)


def further(cell: Cell) -> dict[str, Any]:
    """What a row of `figure5.json` has beside the fields of every table."""
    found = gain_interval(cell)
    return {
        **{f"{cell.metric.name}_by_{name}": reading(cell, name) for name in mad.READINGS},
        "gain_percent": gain(cell),
        "gain_low": found.low if found else None,
        "gain_high": found.high if found else None,
        "paper_gain_percent": cell.key.published.gain_percent,
        **{f"params_{name}": count for name, count in sizes(cell).items()},
        "chance": level(cell, "chance"),
        "ceiling": level(cell, "ceiling"),
        "chosen_runs": [run for seed in cell.seeds if seed.value is not None for run in seed.record["chosen"]],
    }


def notes_on(results: Results) -> list[str]:
    """Which choice the table shows, and where its Δ compares models on different settings."""
    ways = dict.fromkeys(cell.key.fields["best_of"] for cell in results.cells)
    choices = {repr(cell.key.fields["optimizer"]) for cell in results.planned}
    main = MAIN.format(column=" or ".join(HEADERS[way] for way in ways))
    uneven = [
        group for group, cells in results.groups.items() if len({cell.key.fields["settings"] for cell in cells}) > 1
    ]
    fixed = any(cell.key.fields["optimizer"] == cell.key.fields.get("fixed") for cell in results.planned)
    main = ONE_CHOICE if len(choices) == 1 else main + NOT_FIXED * (not fixed)
    main += FEW_SEEDS * any(gain_interval(cell) for cell in results.cells if len(cell.pairs) < statistics.DRAWN_FROM)
    return [main, *[UNEVEN.format(groups=", ".join(uneven))] * bool(uneven)]


DESIGN = Design(
    name="figure5",
    kind="figure",
    title="Figure 5: accuracy of Mamba and Diff-Mamba on the six tasks of MAD",
    sweep="figure5",
    key=mad.key,
    fold=mad.fold,
    counting=("finished", "stopped"),
    baseline=BASELINE_IN_WORDS,
    metric="test/accuracy",
    columns=(
        columns.MODEL,
        columns.RESULT,
        *map(_reading_column, mad.READINGS),
        columns.DELTA,
        Column("gain, %", lambda cell: _percent(gain(cell)), spare=True),
        Column("paper gain, %", lambda cell: _percent(cell.key.published.gain_percent), short="paper, %", spare=True),
        columns.DIFFERS,
        columns.SIGN,
        columns.INTERVAL,
        columns.SEEDS,
        columns.PUBLISHED,
        Column("interval of gain, %", _gain_interval_text, spare=True),
        *map(_level_column, ("chance", "ceiling")),
        replace(columns.PUBLISHED_DELTA, spare=True),
        columns.NEEDED,
        columns.P,
        columns.SPREAD,
        replace(columns.PARAMETERS, text=_sizes_text),
    ),
    charts=lambda results: mad_charts.all_of(results, BASELINE_IN_WORDS),
    setting="models of width 1024 on the grid of the authors' code, 33 settings of difficulty with 6 of the optimiser",
    remarks=remarks.on_figure5,
    further=further,
    notes=(SCORE, CHOICE, GAIN, LEVELS, PUBLISHED),
    notes_on=notes_on,
    points=None,
    tables=mad_points.all_of,
)
