"""Pictures of MAD: scores as bars, against each factor of difficulty, over training, and by gap or position."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any

from diffmamba.browse.places import Place, places
from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts
from diffmamba.reports.bars import bars
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.designs import mad

ACROSS = 3  # panels in a row
WHOLE = (0.0, 1.05)  # accuracies, with room above 1
BINS = 16  # points of a line by gap
LETTERS = 100  # below the bars of a figure, in one line
MARKERS = ("o", "s", "^", "D")
PLACES = {"compression": "position", "memorization": ""} | dict.fromkeys(
    (task for task in mad.TASKS if task not in ("compression", "memorization")), "gap"
)
"""What the accuracy of a task is shown by."""
WORDS = {"gap": "positions back to the answer's source", "position": "position"}
BARS = (
    "Bars are means over seeds, with the interval of each mean (Student's t, 95%, each bar by itself) where there are "
    "seeds enough; it may go on beyond the edge. Diamonds are the paper's bars, read off its figure. The "
    "dotted lines are chance."
)
ONLY_BASELINES = (
    "Each task was planned at its baseline setting alone, so there is no picture of the score against difficulty."
)
AGAINST = (
    "One factor differs from the task's baseline setting. Points are means over the seeds that count, of the run that "
    "counts in the table; the band reaches from the lowest to the highest seed. The dotted line is chance."
)
CURVES = (
    "Each task at its baseline setting, with the runs that count in the table. A line ends where the first of its "
    "seeds was stopped because it had learnt the task."
)
BY_PLACE = (
    "Share of right answers at each task's baseline setting, with the runs that count in the table: a mean over seeds, "
    "with a band from the lowest to the highest. Where there are many places, each point stands for several that have "
    "about as many answers as the others. The dotted line is chance. The answers of memorization stand nowhere in the "
    "context, so it has no panel here."
)


def all_of(results: Results, baseline: str) -> list[Chart]:
    """The pictures that these results can fill. The first is there in any case."""
    found = [against(results), while_training(results), by_place(results)]
    drawn = [chart for chart in found if any(panel.series for row in chart.panels for panel in row)]
    return [scores(results), *drawn, *[charts.deltas(results, baseline)] * bool(results.comparisons)]


def title(task: str) -> str:
    """A task in words: `in-context recall`."""
    return task.replace("in_context", "in-context").replace("_", " ")


def scores(results: Results) -> Chart:
    """The paper's figure 5: for each task and the total the score of each model, beside the published ones."""
    letters = LETTERS // len(results.groups)
    panel = bars(results, lambda group: textwrap.fill(title(group), letters, break_on_hyphens=False), WHOLE)
    if panel.series:
        panel = replace(panel, series=(*panel.series, *_levels(results)))
    several = any(len(mad.settings(results, *pair)) > 1 for pair in _pairs(results))
    caption = BARS if several else f"{BARS} {ONLY_BASELINES}"
    alt = "The score of each model on each task, as bars, beside those of the paper. The table has these numbers."
    return Chart("figure5", "Scores", ((panel,),), alt, caption, size=(10, 4.2))


def _levels(results: Results) -> Iterator[Series]:
    """A line at the chance level of each group of bars."""
    for place, cells in enumerate(results.groups.values()):
        found = [run.record.get("chance") for cell in cells for run in cell.seeds if run.value is not None]
        if (guess := mad.mean(found)) is not None:
            yield _chance((place - 0.45, place + 0.45), (guess, guess))


def _chance(x: Sequence[float], y: Sequence[float]) -> Series:
    return Series("chance", tuple(x), tuple(y), charts.GREY, line="dotted", width=1.2)


def _looks(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How the line of each model is drawn: the first one wide, so that it is seen under others at the same place."""
    return {model: {"marker": MARKERS[at % 4], "width": 1.4 if at else 3.0} for at, model in enumerate(models)}


def _look(looks: Mapping[str, dict[str, Any]], cell: Cell) -> dict[str, Any]:
    return looks[cell.key.label]


def against(results: Results) -> Chart:
    """The score against each factor of difficulty: a row for each task, a panel for each factor that varies."""
    varied = ((task, _varied(results, task, models)) for task, models in _tasks(results))
    panels = [[_factor(results, task, name) for name in names] for task, names in varied]
    alt = "Accuracy against each factor of difficulty, a panel for each task and factor, a line for each model."
    return _chart("against_difficulty", "Against difficulty", [_filled(row) for row in panels], alt, AGAINST)


def while_training(results: Results) -> Chart:
    """Test accuracy over training, at the baseline setting of each task."""
    panels = []
    for task, models in _tasks(results):
        found = _at_baseline(results, task, models)
        panel = charts.panel(results, title(task), found, look=partial(_look, _looks(models)))
        panels.append(replace(panel, y_range=WHOLE))
    return charts.curves("while_training", results, _rows(panels), CURVES)


def by_place(results: Results) -> Chart:
    """Accuracy by the distance to what is asked for, or by position, at the baseline setting of each task."""
    panels = [_place(results, task, _at_baseline(results, task, models)) for task, models in _tasks(results)]
    alt = "Accuracy by the gap to the answer's source, or by position, a panel for each task, a line for each model."
    return _chart("by_place", "By gap or position", _rows(panels), alt, BY_PLACE)


def _chart(name: str, heading: str, found: Iterable[Sequence[Panel]], alt: str, caption: str) -> Chart:
    rows = tuple((first, *(replace(panel, y_label="") for panel in others)) for first, *others in filter(None, found))
    size = (max(10.0, 3.0 * max(map(len, rows), default=1)), 0.8 + 2.4 * max(1, len(rows)))
    return Chart(name, heading, rows, alt, caption, size)


def _rows(panels: Iterable[Panel]) -> list[list[Panel]]:
    """The panels that show something, in rows."""
    found = _filled(panels)
    return [found[start : start + ACROSS] for start in range(0, len(found), ACROSS)]


def _filled(panels: Iterable[Panel]) -> list[Panel]:
    return [panel for panel in panels if panel.series]


def _pairs(results: Results) -> list[tuple[str, str]]:
    """Each task with each of its models, in the order of the table."""
    fields = [cell.key.fields for cell in results.cells]
    return [(one["task"], one["model"]) for one in fields if not one["task"].startswith(mad.TOTAL)]


def _tasks(results: Results) -> Iterator[tuple[str, list[str]]]:
    """Each task with its models."""
    pairs = _pairs(results)
    for task in dict.fromkeys(task for task, _ in pairs):
        yield task, [model for other, model in pairs if other == task]


def _seeds(results: Results, task: str, model: str) -> list[int]:
    """The seeds that count in the row of this task and model."""
    return [
        seed
        for cell in results.cells
        if (cell.key.fields["task"], cell.key.fields["model"]) == (task, model)
        for seed in cell.values
    ]


def _at_baseline(results: Results, task: str, models: Iterable[str]) -> list[Cell]:
    """For each model a cell of the runs that count at the baseline setting of the task."""
    found = []
    for model in models:
        runs = mad.settings(results, task, model)[0].chosen(_seeds(results, task, model))
        found.append(Cell(Key({"model": model}, model, is_baseline=False), tuple(runs), results.metric))
    return found


def _varied(results: Results, task: str, models: Iterable[str]) -> list[str]:
    """The factors in which some setting alone differs from the baseline setting."""
    found: dict[str, None] = {}
    for model in models:
        baseline, *others = mad.settings(results, task, model)
        names = [_changed(baseline.values, other.values) for other in others]
        found |= dict.fromkeys(name for name in names if name)
    return [name for name in mad.FACTORS if name in found]


def _changed(baseline: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The one factor that differs; "" for none or several."""
    names = [name for name in other if other[name] != baseline.get(name)]
    return names[0] if len(names) == 1 else ""


def _factor(results: Results, task: str, name: str) -> Panel:
    """The score of a task against one factor, a line for each model."""
    colours, ticks, models = charts.hues(results), set(), dict(_tasks(results))[task]
    looks, series = _looks(models), list[Series]()
    chance: dict[float, float] = {}
    for model in models:
        baseline, *others = mad.settings(results, task, model)
        shown = [baseline, *(other for other in others if _changed(baseline.values, other.values) == name)]
        points = []
        for setting in shown:
            at, runs = float(setting.values[name]), setting.chosen(_seeds(results, task, model))
            ticks.add(at)
            values = [run.value for run in runs if run.value is not None]
            points += [(at, fmean(values), min(values), max(values))] if values else []
            guess = mad.mean([run.part("corpus").get("chance") for run in runs])
            chance |= {} if guess is None else {at: guess}
        if points:
            x, mean, low, high = zip(*sorted(points), strict=True)
            series.append(Series(model, x, mean, colours[model], low=low, high=high, **looks[model]))
    if series and chance:
        series.append(_chance(*zip(*sorted(chance.items()), strict=True)))
    log = min(ticks) > 0
    return Panel(
        title(task),
        tuple(series),
        x_label=name,
        y_label=results.metric.label,
        y_range=WHOLE,
        x_scale="log" if log else "linear",
        x_ticks=tuple(sorted(ticks)),
    )


def _place(results: Results, task: str, cells: Sequence[Cell]) -> Panel:
    """The accuracy of a task by place, a line for each model. All lines have the same bins."""
    kind, colours, series = PLACES.get(task, "gap"), charts.hues(results), []
    found = {cell.key.label: [points for run in cell.seeds if (points := places(run.record, kind))] for cell in cells}
    edges = _edges([points for of_model in found.values() for points in of_model])
    looks = _looks([*found])
    for model, seeds in found.items():
        binned = [_binned(points, edges) for points in seeds]
        if binned:
            shared = [place for place in range(len(edges) - 1) if all(place in one for one in binned)]
            x = tuple(fmean(one[place][0] for one in binned) for place in shared)
            values = [[one[place][1] for one in binned] for place in shared]
            line = Series(model, x, tuple(map(fmean, values)), colours[model], **looks[model])
            series.append(replace(line, low=tuple(map(min, values)), high=tuple(map(max, values))))
    guess = mad.mean([run.part("corpus").get("chance") for cell in cells for run in cell.seeds])
    if series and guess is not None:
        ends = [choose(at for line in series for at in line.x) for choose in (min, max)]
        series.append(_chance(ends, (guess, guess)))
    return Panel(title(task), tuple(series), x_label=WORDS.get(kind, ""), y_label="share right", y_range=WHOLE)


def _edges(found: Iterable[Sequence[Place]]) -> list[float]:
    """Where bins begin and end: so few that a line can be read, with about as many answers in each."""
    counts: dict[float, float] = {}
    for place in (place for points in found for place in points):
        counts[place.at] = counts.get(place.at, 0.0) + place.answers
    if not counts:
        return [0.0]
    enough, edges, inside = sum(counts.values()) / BINS if len(counts) > BINS else 0.0, [], math.inf
    for at in sorted(counts):
        if inside >= enough:
            edges.append(at)
            inside = 0.0
        inside += counts[at]
    if len(edges) > 1 and inside < enough / 2:  # so few answers say nothing by themselves
        edges.pop()
    return [*edges, math.inf]


def _binned(points: Sequence[Place], edges: Sequence[float]) -> dict[int, tuple[float, float]]:
    """The mean place and the accuracy in each bin that has answers."""
    found = {}
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = [place for place in points if low <= place.at < high]
        if answers := sum(place.answers for place in inside):
            at = sum(place.at * place.answers for place in inside) / answers
            found[number] = at, sum(place.right * place.answers for place in inside) / answers
    return found
