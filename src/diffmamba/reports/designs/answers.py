"""The scores of a file of answers, by task, length and model: what figures 4 and 8 show, as plain data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from diffmamba.answers import RULES, Answers, constant
from diffmamba.answers.files import order
from diffmamba.paper import published
from diffmamba.reports import crossed
from diffmamba.reports.crossed import Sample
from diffmamba.reports.statistics import Interval

BASELINE = "mamba"
NAMED = ("names_none", "names_one", "names_more")
"""The shares of answers that name no label, one, and two or more."""
FIGURES = (*RULES, *NAMED)
PERCENT = 100.0


@dataclass(frozen=True)
class Figure:
    """A number with its interval; None where there is none."""

    value: float
    interval: Interval | None = None

    @property
    def side(self) -> int:
        """1 or -1 if all of the interval is above or below 0, else 0."""
        return self.interval.side if self.interval else 0

    def fields(self, name: str) -> dict[str, float | None]:
        """As fields of JSON: the number, and the ends of its interval."""
        low, high = (self.interval.low, self.interval.high) if self.interval else (None, None)
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True)
class Line:
    """The figures of one model in one cell, or over all cells (then task and length are "").

    Args:
        answers: how many answers of this model are scored here.
        by_seed: the score of each seed in per cent, by each rule.
        scores: in per cent: by each rule, and the shares of `NAMED`.
        differences: the scores minus those of the baseline, in percentage points. Empty for the baseline.
        of_these: the same with intervals over questions alone: of these trained models, not of others of other seeds.
        ratios: the scores over those of the baseline. Empty for the baseline; without those where one is 0.
        published: the paper's score in per cent (figure 8 of version 2), where it has this cell.
        published_ratio: the better over the other, as the paper prints it (figure 4), where it has this cell.
        published_better: which of the two models that is, by the paper's scores (figure 8).
    """

    task: str
    length: str
    model: str
    seeds: tuple[str, ...]
    answers: int
    by_seed: dict[str, tuple[float, ...]]
    scores: dict[str, Figure]
    differences: dict[str, Figure] = field(default_factory=dict)
    of_these: dict[str, Figure] = field(default_factory=dict)
    ratios: dict[str, Figure] = field(default_factory=dict)
    published: float | None = None
    published_ratio: float | None = None
    published_better: str | None = None

    @property
    def inside(self) -> bool | None:
        """Whether the paper's score lies in the interval of ours by its rule; None where one of them is missing."""
        found = self.scores["benchmark"].interval
        return None if found is None or self.published is None else found.low <= self.published <= found.high

    def fields(self) -> dict[str, Any]:
        """A row of the JSON file and of the CSV file."""
        key = {"task": self.task, "length": self.length, "model": self.model, "seeds": " ".join(self.seeds)}
        columns: dict[str, Any] = {name: value for name, value in key.items() if value} | {"answers": self.answers}
        for name in FIGURES:
            columns |= self.scores[name].fields(name)
        for name in RULES:
            columns[f"{name}_by_seed"] = " ".join(f"{one:.4f}" for one in self.by_seed[name])
            columns |= self.differences.get(name, Figure(np.nan)).fields(f"{name}_difference")
            columns |= {f"{name}_of_these{end}": value for end, value in self._ends(name).items()}
            columns |= self.ratios.get(name, Figure(np.nan)).fields(f"{name}_ratio")
        columns |= {"published": self.published, "inside": self.inside}
        columns |= {"published_ratio": self.published_ratio, "published_better": self.published_better}
        return {name: _rounded(value) for name, value in columns.items()}

    def _ends(self, rule: str) -> dict[str, float | None]:
        found = self.of_these[rule].interval if rule in self.of_these else None
        return {"_low": found.low if found else None, "_high": found.high if found else None}


@dataclass(frozen=True)
class Scored:
    """The scores of the answers that stand together.

    Args:
        name: "" for fine-tuned models, whose seeds are numbers; else the word in the place of their seed.
        models: in order, the baseline first.
        lines: of each cell, by task, length and model.
        whole: of each model, the mean over the cells that all models have.
        cells: how many these are.
        chance: of each task, the score in per cent of always giving its most frequent target.
    """

    name: str
    models: tuple[str, ...]
    lines: tuple[Line, ...]
    whole: tuple[Line, ...]
    cells: int
    chance: dict[str, float]

    @property
    def baseline(self) -> str:
        """The model that differences and ratios are taken to."""
        return self.models[0]

    @cached_property
    def tasks(self) -> list[str]:
        """In their order."""
        return list(dict.fromkeys(line.task for line in self.lines))

    @cached_property
    def lengths(self) -> list[str]:
        """In their order."""
        return sorted({line.length for line in self.lines}, key=order)

    def of(self, task: str, model: str) -> list[Line]:
        """The lines of a model in one task, by length."""
        return [line for line in self.lines if (line.task, line.model) == (task, model)]

    def tally(self, model: str, side: Callable[[Line], int]) -> tuple[int, int, int]:
        """In how many cells a model is better than the baseline, worse, or neither, as `side` says by 1, -1 or 0."""
        found = [side(line) for line in self.lines if line.model == model and line.differences]
        return found.count(1), found.count(-1), found.count(0)


def scored(answers: Answers) -> list[Scored]:
    """The scores of a file: first of the fine-tuned models, if there are any, then of each group that stands apart."""
    table = answers.table
    named = table["named"].clip(upper=2)
    table = table.assign(**{name: named == count for count, name in enumerate(NAMED)})
    apart = table["seed"].where(~table["seed"].str.fullmatch(r"-?\d+"), "")
    return [_scored(str(name), table[apart == name]) for name in sorted(apart.unique(), key=lambda one: one != "")]


def _scored(name: str, table: pd.DataFrame) -> Scored:
    there = list(dict.fromkeys(table["model"]))
    models = tuple(sorted(there, key=lambda model: (model != BASELINE, there.index(model))))
    samples = crossed.samples(table, ["task", "length", "model"], FIGURES)
    counts = table.groupby(["task", "length", "model"]).size()
    cells = list(dict.fromkeys(key[:2] for key in samples))
    lines = [
        _line(
            (*cell, model), samples[*cell, model], models[0], samples.get((*cell, models[0])), int(counts[*cell, model])
        )
        for cell in cells
        for model in models
        if (*cell, model) in samples
    ]
    shared = [cell for cell in cells if all((*cell, model) in samples for model in models)]
    over = {model: Sample.over([samples[*cell, model] for cell in shared]) for model in models}
    sizes = {model: int(sum(counts[*cell, model] for cell in shared)) for model in models}
    whole = [
        _line(("", "", m), one, models[0], over[models[0]], sizes[m]) for m, one in over.items() if one is not None
    ]
    items = table.drop_duplicates(["task", "length", "row"])
    chance = {str(task): PERCENT * constant(rows["target"].tolist())[1] for task, rows in items.groupby("task")}
    return Scored(name, models, tuple(lines), tuple(whole), len(shared), chance)


def _line(key: tuple[str, str, str], sample: Sample, other: str, baseline: Sample | None, answers: int) -> Line:
    """The line of a sample, beside that of the model `other` in the same cell, the baseline."""
    task, length, model = key
    by_seed = {name: tuple(PERCENT * float(one) for one in sample.values[:, at]) for at, name in enumerate(RULES)}
    line = Line(*key, sample.seeds, answers, by_seed, _bounded(_figures(lambda ours: PERCENT * ours, sample)))
    line = replace(line, published=published.figure8(model, task, length) if task else None)
    if baseline is None or baseline is sample:
        return line
    ratios = _figures(lambda theirs, ours: np.log(ours / theirs), baseline, sample)
    return replace(
        line,
        differences=_figures(_difference, baseline, sample),
        of_these=_figures(_difference, baseline, sample, of_seeds=False),
        ratios={name: _exponential(one) for name, one in ratios.items() if np.isfinite(one.value)},
        **_published_ratio(task, length) if (other, model) == published.MODELS else {},
    )


def _published_ratio(task: str, length: str) -> dict[str, Any]:
    """Figure 4 of the paper at one point, and the model that is better there; nothing where the paper has none."""
    ratio = published.figure4(task, length)
    scores = {model: published.figure8(model, task, length) or 0.0 for model in published.MODELS}
    return {} if ratio is None else {"published_ratio": ratio, "published_better": max(scores, key=scores.__getitem__)}


def _difference(theirs: Any, ours: Any) -> Any:
    return PERCENT * (ours - theirs)


def _figures(of: Callable[..., Any], *samples: Sample, of_seeds: bool = True) -> dict[str, Figure]:
    """What `of` makes of these scores, for each of `FIGURES`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = of(*(one.mean for one in samples))
    found = crossed.interval(of, *samples, of_seeds=of_seeds)
    return {name: Figure(float(value), one) for name, value, one in zip(FIGURES, values, found, strict=True)}


def _bounded(figures: dict[str, Figure]) -> dict[str, Figure]:
    """Scores whose intervals end where scores do."""
    return {
        name: Figure(one.value, one.interval and Interval(max(0.0, one.interval.low), min(PERCENT, one.interval.high)))
        for name, one in figures.items()
    }


def _exponential(figure: Figure) -> Figure:
    found = figure.interval
    ends = found and Interval(float(np.exp(found.low)), float(np.exp(found.high)))
    return Figure(float(np.exp(figure.value)), ends)


def _rounded(value: Any) -> Any:
    """A number with four decimals; None for one that is not finite."""
    if not isinstance(value, float):
        return value
    return round(value, 4) + 0.0 if np.isfinite(value) else None
