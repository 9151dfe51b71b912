"""The page of a file of answers: figures 4 and 8, what each rule says, and every score with its interval."""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffmamba.answers import RULES, Answers, read
from diffmamba.document import Block, Bullets, Document, Entry, Folded, Grid, GridColumn, Paragraph, RowGroup, Section
from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import statistics
from diffmamba.reports.designs.answers import NAMED, Figure, Line, Scored, scored
from diffmamba.reports.designs.answers_charts import IN_WORDS, oriented, ratios, scores

NEEDS = (
    "a file of answers: CSV, JSON lines or Parquet with the columns model, seed, task, length, row, target, output and "
    "question"
)
DRAWN = ("benchmark", "first")
"""The rules that the pictures show."""
MOST_TOLD = 12  # remarks on the file
RULES_SAID = (
    "The benchmark's rule: of an answer in lower case counts what stands before the first full stop, <context> or "
    "<example>. The labels of the task that occur in it, also inside of other words, are collected, and those of the "
    "question are left out. The answer is right if exactly one label is left and it is the target.",
    "The first label: the same, but the label that is named first decides, whatever follows.",
    "Exact match: what counts of the answer is the target and nothing else.",
)
INTERVALS = (
    f"Intervals of {1 - statistics.ERROR:.0%}, each for itself: of 40 cells in which nothing differs, about two would "
    "leave out 0. They come from {resamples:,} resamples in which both the questions and the seeds are drawn anew, the "
    "same for all models; what few seeds leave open is added by Student's t."
)
FEW_SEEDS = (
    "Where a model has fewer than {fewest} seeds, the questions alone are drawn: the interval is of these trained "
    "models, and says nothing of others of other seeds."
)
SIGN = "better: the model whose score is higher, if the interval of the difference leaves out 0; ~ if it holds 0."
CHANCE = "chance: always the most frequent target of the task, taken from the file: {levels} %."
VERSION_2 = (
    "published: figure 8 of version 2 of the paper ({source}), a mean of 3 seeds, by the benchmark's rule. A ✓ says "
    "that it lies in our interval, a ✗ that it does not. The values of version 1 are not at hand, so none is shown. "
    "The answers in the authors' repository are those of version 1: of them, our scores are its figure."
)
NO_MEAN = "No task has answers of all of {models} at the same length, so there is no mean over cells."
NO_SEED = "No seed of {model} has answers in all cells that all models have, so {model} has no mean over cells."
NOT_COMPARED = "{model} and {baseline} have no cell in common (task and length), so they are not compared."
NO_RATIO = "No model has a cell (task and length) in common with the baseline, so there is no ratio."
APART = "Their seed is no number, so they stand apart; with one of each model the intervals are over questions alone."


def document(path: Path, first: str) -> Document:
    """The page of a file, beginning with `figure4` or `figure8`. Raises SettingError for a file that does not do."""
    answers = read(path)
    groups = scored(answers)
    main, *others = groups
    if first == "figure4" and len(main.models) < 2:
        raise SettingError(
            f"predictions={path}: it holds one model, {main.baseline}; figure4 compares two, so use figure=figure8"
        )
    eight = [scores(main, rule) for rule in DRAWN]
    four = [ratios(main, rule) for rule in DRAWN if len(main.models) > 1]
    figure, *further = [*four, *eight] if first == "figure4" else [*eight, *four]
    blocks = (
        Paragraph(_summary(answers, groups)),
        *_remarks(answers),
        figure,
        _verdicts(main),
        *[_ratio_table(main)] * (first == "figure4"),
        Section("By task and length", tuple(_scores(main, rule) for rule in DRAWN)),
        Section("Exact match", (Folded("All scores by exact match", (_scores(main, "exact").blocks)),), terminal=False),
        Section("How to read it", (Bullets(_rules(main), "note"),)),
        *further,
        *(Section(f"Apart: {one.name}", (Paragraph(APART), *_verdicts(one).blocks), terminal=False) for one in others),
    )
    return Document(_title(first, answers), blocks, _data(first, answers, groups))


def _title(first: str, answers: Answers) -> str:
    what = "the better score over the other on BABILong" if first == "figure4" else "scores on BABILong"
    return f"Figure {first.removeprefix('figure')}: {what}, from {answers.name}"


def _data(first: str, answers: Answers, groups: Sequence[Scored]) -> dict[str, object]:
    rows = [{"apart": one.name, **line.fields()} for one in groups for line in one.lines]
    whole = [{"apart": one.name, "cells": one.cells, **line.fields()} for one in groups for line in one.whole]
    about = {"file": answers.name, "sha256": answers.digest, "answers": len(answers.table)}
    chance = {one.name: one.chance for one in groups}
    return {"figure": first, **about, "remarks": list(answers.remarks), "chance": chance, "whole": whole, "rows": rows}


def _summary(answers: Answers, groups: Sequence[Scored]) -> str:
    main, *others = groups
    told = [f"{answers.name} (SHA-256 {answers.digest}…) has {len(answers.table):,} answers."]
    seeds = list(dict.fromkeys(seed for line in main.lines for seed in line.seeds))
    count = sum(line.answers for line in main.lines)
    told.append(
        f"{count:,} are of {', '.join(main.models)}, with seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}, in "
        f"{len(main.tasks)} task{'s' * (len(main.tasks) > 1)} at {len(main.lengths)} "
        f"length{'s' * (len(main.lengths) > 1)}."
    )
    told += [f"{sum(line.answers for line in one.lines):,} stand apart: {one.name}." for one in others]
    told += [f"Differences are taken to {main.baseline}."] * (len(main.models) > 1)
    return " ".join(told)


def _remarks(answers: Answers) -> list[Block]:
    if not answers.remarks:
        return []
    shown, more = answers.remarks[:MOST_TOLD], len(answers.remarks) - MOST_TOLD
    items = (*shown, *[f"and {more:,} more"] * (more > 0))
    return [Paragraph("Before you compare:", "warning"), Bullets(items, "warning")]


def _verdicts(one: Scored) -> Section:
    """What each rule says of the whole, and in how many cells."""
    compared = [model for model in one.models if any(line.differences for line in one.lines if line.model == model)]
    blocks: list[Block] = [Paragraph(told, "warning") for told in _missing(one, compared)]
    blocks += [_whole(one)] * bool(one.whole)
    blocks += [_cells(one, compared)] * bool(compared)
    blocks += [_named(one)] * bool(one.whole)
    return Section("How the rule changes the verdict", tuple(blocks))


def _missing(one: Scored, compared: Sequence[str]) -> list[str]:
    """What cannot be said because models have no cell, or no seed, in common."""
    names, there = ", ".join(one.models), [line.model for line in one.whole]
    told = [NO_MEAN.format(models=names)] * (not one.cells)
    told += [NO_SEED.format(model=model) for model in one.models if one.cells and model not in there]
    alone = [model for model in one.models[1:] if model not in compared]
    return told + [NOT_COMPARED.format(model=model, baseline=one.baseline) for model in alone]


def _whole(one: Scored) -> Grid:
    compared = [line for line in one.whole if line.differences]
    columns = ["rule", *(line.model for line in one.whole)]
    columns += [f"{line.model} − {one.baseline}, better" for line in compared]
    rows = []
    for rule in RULES:
        row = [IN_WORDS[rule], *(_with_interval(line.scores[rule]) for line in one.whole)]
        for line in compared:
            found = line.differences[rule]
            row.append(f"{_with_interval(found, '+')}, {_better(found, line.model, one.baseline)}")
        rows.append(row)
    title = f"The mean over {one.cells} cell{'s' * (one.cells != 1)}, %"
    return Grid.of(columns, rows, title=title)


def _cells(one: Scored, compared: Sequence[str]) -> Grid:
    """In how many cells which model is better: by the scores alone, and as the two kinds of intervals say."""
    rows = []
    for model in compared:
        for rule in RULES:
            ways: list[Callable[[Line], int]] = [
                lambda line, rule=rule: _sign(line.differences[rule].value),  # type: ignore[misc]
                lambda line, rule=rule: line.of_these[rule].side,  # type: ignore[misc]
                lambda line, rule=rule: line.differences[rule].side,  # type: ignore[misc]
            ]
            counts = [one.tally(model, way) for way in ways]
            rows.append([model, IN_WORDS[rule], *(f"{better} : {worse}" for better, worse, _ in counts)])
    columns = ["model", "rule", "higher score", "these trained models", "any seeds"]
    caption = (
        f"How many cells say that a model is better, to how many that {one.baseline} is. higher score: whatever the "
        "interval. these trained models: the interval over questions alone leaves out 0. any seeds: the interval over "
        "seeds and questions does."
    )
    return Grid.of(columns, rows, words=2, title="Cells, the model better : worse", caption=caption)


def _named(one: Scored) -> Grid:
    rows = [[line.model, *(_with_interval(line.scores[name]) for name in NAMED)] for line in one.whole]
    title = "Answers by how many different labels they name, those of the question left out, %"
    return Grid.of(["model", "none", "one", "two or more"], rows, title=title)


def _scores(one: Scored, rule: str) -> Section:
    """The table of a rule: a row for each cell, each model beside the other."""
    paper = rule == "benchmark" and any(line.published is not None for line in one.lines)
    columns = [GridColumn("length", word=True)]
    for model in one.models:
        columns += [GridColumn(model), *[GridColumn("published", spare=True)] * paper]
    for model in one.models[1:]:
        columns += [GridColumn(f"{model} − {one.baseline}"), GridColumn("better", word=True)]
    groups = []
    for task in one.tasks:
        by_length = {model: {line.length: line for line in one.of(task, model)} for model in one.models}
        rows = [
            _row(one, {m: lines.get(length) for m, lines in by_length.items()}, length, rule, paper)
            for length in one.lengths
            if any(length in lines for lines in by_length.values())
        ]
        groups.append(RowGroup(tuple(rows), task))
    return Section(f"By {IN_WORDS[rule]}, %", (Grid(tuple(columns), tuple(groups)),))


def _row(one: Scored, lines: dict[str, Line | None], length: str, rule: str, paper: bool) -> tuple[Entry, ...]:
    row = [Entry(length)]
    for line in lines.values():
        row.append(Entry(_with_interval(line.scores[rule]) if line else "–"))
        row += [_published(line)] * paper
    for model, line in list(lines.items())[1:]:
        found = line.differences.get(rule) if line else None
        row.append(Entry(_with_interval(found, "+") if found else "–"))
        row.append(Entry(_better(found, model, one.baseline) if found else "–"))
    return tuple(row)


def _published(line: Line | None) -> Entry:
    if line is None or line.published is None:
        return Entry("–")
    sign, mark = {True: ("✓", "agrees"), False: ("✗", "disagrees"), None: ("", "")}[line.inside]
    return Entry(f"{line.published:.1f} {sign}".strip(), mark)


def _ratio_table(one: Scored) -> Section:
    """The numbers of figure 4."""
    several = len(one.models) > 2
    columns = [GridColumn("length", word=True), *[GridColumn("model", word=True)] * several]
    for rule in DRAWN:
        columns += [GridColumn(IN_WORDS[rule]), GridColumn("higher", word=True)]
    columns += [GridColumn("published"), GridColumn("higher", word=True)]
    groups = []
    for task in one.tasks:
        rows = []
        for line in (line for model in one.models[1:] for line in one.of(task, model) if line.differences):
            row = [Entry(line.length), *[Entry(line.model)] * several]
            for rule in DRAWN:
                ratio = line.ratios.get(rule)
                higher = "–" if ratio is None else line.model if ratio.value > 1 else one.baseline
                row += [Entry(_with_interval(oriented(ratio), digits=2) if ratio else "–"), Entry(higher)]
            paper = line.published_ratio
            rows.append((*row, Entry("–" if paper is None else f"{paper:.2f}"), Entry(line.published_better or "–")))
        groups += [RowGroup(tuple(rows), task)] * bool(rows)
    if not groups:
        return Section("The better score over the other", (Paragraph(NO_RATIO, "warning"),))
    return Section("The better score over the other", (Grid(tuple(columns), tuple(groups)),))


def _rules(one: Scored) -> tuple[str, ...]:
    levels = ", ".join(f"{task} {level:.1f}" for task, level in one.chance.items())
    few = any(len(line.seeds) < statistics.DRAWN_FROM for line in one.lines)
    told = [*RULES_SAID, INTERVALS.format(resamples=statistics.RESAMPLES)]
    told += [FEW_SEEDS.format(fewest=statistics.DRAWN_FROM)] * few
    told += [SIGN, CHANCE.format(levels=levels)]
    if any(line.published is not None for line in one.lines):
        told.append(VERSION_2.format(source=published.numbers()["source"]))
    return tuple(told)


def _with_interval(figure: Figure, sign: str = "", digits: int = 1) -> str:
    def told(value: float) -> str:
        return f"{round(value, digits) + 0.0:{sign if round(value, digits) else ''}.{digits}f}".replace("-", "−")

    ends = figure.interval
    return told(figure.value) + (f" [{told(ends.low)}, {told(ends.high)}]" if ends else "")


def _better(figure: Figure, model: str, baseline: str) -> str:
    return {1: model, -1: baseline, 0: "~"}[figure.side]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
