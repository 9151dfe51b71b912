"""Pictures of scored answers, a panel for each task: scores by length (figure 8), the better over the other (4)."""

from collections.abc import Sequence
from dataclasses import replace

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.charts import GREY, hues_of
from diffmamba.reports.designs.answers import Figure, Line, Scored
from diffmamba.reports.statistics import Interval

ACROSS = 3  # panels in a row
IN_WORDS = {"benchmark": "the benchmark's rule", "first": "the first label", "exact": "exact match"}
PUBLISHED = "published (version 2)"
CHANCE = "always the most frequent label"
SCORES = (
    "Right answers in per cent by {rule}, as a mean over seeds, with the interval over seeds and questions, which may "
    "go on beyond the edge. The short dashes are the seeds. The dotted line is what an answer reaches that is always "
    "the most frequent label of the task."
)
RATIOS = (
    "The score of the better model over that of the other, by {rule}, with its interval over seeds and questions. "
    "Filled: {other} is better; hollow: {baseline} is better. Where the interval holds 1 (the thin line), it is not "
    "said which one is. The interval may go on beyond the edge."
)
AND_PUBLISHED = " Dashed: the paper's, of version 2."
AND_BETTER = " Its dots are filled and hollow as ours are, by the paper's scores."


def scores(scored: Scored, rule: str) -> Chart:
    """Scores by length: each model with its interval, the published values where there are any, and chance."""
    colours = hues_of(scored.models)
    panels = []
    for task in scored.tasks:
        series = [Series(CHANCE, *_level(scored, scored.chance[task]), GREY, line="dotted", width=1)]
        for model in scored.models:
            lines = scored.of(task, model)
            found = [
                *_curve(scored, [(line, line.scores[rule]) for line in lines], model, colours[model]),
                _seeds(scored, lines, rule, colours[model]),
            ]
            printed = [(line, Figure(line.published)) for line in lines if line.published is not None]
            paper = [] if rule != "benchmark" else _curve(scored, printed, f"{model}, {PUBLISHED}", colours[model])
            series += [*found, *(replace(one, line="dashed", width=1, hollow=True) for one in paper)]
        highest = max(y for one in series for y in one.y)
        y_range = (0.0, 1.1 * highest)
        panels.append(Panel(task, tuple(series), "length", "right answers, %", y_range=y_range, x_names=_names(scored)))
    caption = SCORES.format(rule=IN_WORDS[rule])
    caption += AND_PUBLISHED * (rule == "benchmark" and any(line.published for line in scored.lines))
    alt = f"Right answers by {IN_WORDS[rule]} and length, a panel for each task. The tables have the numbers."
    return _chart(f"scores_{rule}", f"Scores by {IN_WORDS[rule]}", panels, alt, caption)


def ratios(scored: Scored, rule: str) -> Chart:
    """The better over the other, of the baseline and each other model, by length."""
    colours = hues_of(scored.models)
    panels = []
    for task in scored.tasks:
        series = [Series("", *_level(scored, 1.0), GREY, width=0.8)]
        for model in scored.models[1:]:
            lines = [line for line in scored.of(task, model) if rule in line.ratios]
            found = [(line, oriented(line.ratios[rule])) for line in lines]
            series += _curve(scored, found, f"{model} and {scored.baseline}", colours[model], marker="")
            for label, side in ((f"{model} better", True), (f"{scored.baseline} better", False)):
                some = [(ln, one) for ln, one in found if (ln.ratios[rule].value >= 1) == side]
                dots = _curve(scored, some, label, colours[model if side else scored.baseline])
                series += [replace(dot, line="", hollow=not side, low=(), high=()) for dot in dots]
            drawn = scored.of(task, model) if rule == "benchmark" else []
            printed = [(line, Figure(line.published_ratio)) for line in drawn if line.published_ratio is not None]
            paper = _curve(scored, printed, PUBLISHED, GREY, marker="")
            series += [replace(one, line="dashed", width=1) for one in paper]
            for better in scored.models:
                some_printed = [(line, one) for line, one in printed if line.published_better == better]
                dots = _curve(scored, some_printed, "", GREY)
                series += [replace(dot, line="", hollow=better == scored.baseline) for dot in dots]
        panels.append(Panel(task, tuple(series), "length", "better / other", x_names=_names(scored)))
    highest = max((y for panel in panels for one in panel.series for y in one.y), default=1.0)
    panels = [replace(panel, y_range=(0.0, 1.1 * highest)) for panel in panels]
    others = ", ".join(scored.models[1:])
    caption = RATIOS.format(rule=IN_WORDS[rule], other=others, baseline=scored.baseline)
    caption += (AND_PUBLISHED + AND_BETTER) * (rule == "benchmark" and any(ln.published_ratio for ln in scored.lines))
    alt = f"The better score over the other, by {IN_WORDS[rule]} and length, a panel for each task."
    return _chart(f"ratios_{rule}", f"The better over the other, by {IN_WORDS[rule]}", panels, alt, caption)


def oriented(ratio: Figure) -> Figure:
    """The better over the other, where `ratio` is that of a model over the baseline."""
    if ratio.value >= 1 or ratio.value == 0:
        return ratio
    turned = ratio.interval and Interval(1 / ratio.interval.high, 1 / ratio.interval.low)
    return Figure(1 / ratio.value, turned)


def _curve(
    scored: Scored, found: Sequence[tuple[Line, Figure]], label: str, colour: str, marker: str = "o"
) -> list[Series]:
    """A line through the figures, with a band where all have an interval; nothing where there are none."""
    if not found:
        return []
    x = tuple(float(scored.lengths.index(line.length)) for line, _ in found)
    series = Series(label, x, tuple(one.value for _, one in found), colour, marker=marker)
    ends = [one.interval for _, one in found]
    if any(end is None for end in ends):
        return [series]
    return [replace(series, low=tuple(e.low for e in ends if e), high=tuple(e.high for e in ends if e))]


def _seeds(scored: Scored, lines: Sequence[Line], rule: str, colour: str) -> Series:
    """A short dash for each seed."""
    found = [(float(scored.lengths.index(line.length)), value) for line in lines for value in line.by_seed[rule]]
    x, y = zip(*found, strict=True) if found else ((), ())
    return Series("", x, y, colour, line="", marker="_")


def _level(scored: Scored, height: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (-0.5, len(scored.lengths) - 0.5), (height, height)


def _names(scored: Scored) -> tuple[str, ...]:
    return tuple(scored.lengths)


def _chart(name: str, title: str, panels: Sequence[Panel], alt: str, caption: str) -> Chart:
    rows = [tuple(panels[start : start + ACROSS]) for start in range(0, len(panels), ACROSS)]
    rows = [(row[0], *(replace(panel, y_label="") for panel in row[1:])) for row in rows]
    return Chart(name, title, tuple(rows), alt, caption, size=(10.0, 0.8 + 2.6 * len(rows)))
