"""MAD's scores: trainings of many settings, folded to a row for each task and model, and to the mean over tasks.

A task has a baseline setting and others that change one factor of difficulty. Each setting is trained with several
settings of the optimiser, of which one is chosen. The accuracy of that run on the test set is the score of the setting;
the mean over the settings is the score of the task, and the mean over tasks the total.

The published code chooses the run with the best accuracy on the test set. Two other ways stand beside it: the best on
the validation set, which was not seen in training, and one setting of the optimiser for all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.records import SeedResult, rank

TASKS = tuple(task for task in published.numbers()["figure5"]["gain_percent"] if task != "total")
FACTORS = ("vocabulary", "length", "examples", "noise", "noise_vocabulary", "copy", "motif")
READINGS = ("test", "val", "fixed")
"""How one of the runs of a setting is chosen."""
BASELINE = "mamba"
TOLD = 3  # runs that a reason names
TOTAL = "total"
SIZES: dict[str, Callable[..., int]] = {"least": min, "most": max}
"""The parameters of the smallest and of the largest network of a row: vocabularies differ, and so do embeddings."""


def key(config: Mapping[str, Any]) -> Key:
    """The cell of a training: task, model, setting of difficulty, setting of the optimiser."""
    task, model, optimizer, reading = (config.get(name) for name in ("data", "model", "optimizer", "published"))
    if not isinstance(reading, Mapping) or "best_of" not in reading or not task or not model or not optimizer:
        raise SettingError("published.best_of is not set: figure 5 is made of runs with experiments=mad")
    if (best_of := reading["best_of"]) not in READINGS:
        told = "null" if best_of is None else best_of
        raise SettingError(f"published.best_of={told} is not known; use one of {', '.join(READINGS)}")
    setting = {name: task[name] for name in FACTORS if task.get(name) is not None}
    chosen = {name: optimizer[name] for name in ("learning_rate", "weight_decay")}
    words = [f"{name}={value}" for name, value in {**setting, **chosen}.items()]
    return Key(
        {"task": task["name"], "model": model["name"], "setting": setting, "optimizer": chosen, **reading},
        label=", ".join([task["name"], model["name"], *words]),
        is_baseline=model["name"] == BASELINE,
        group=task["name"],
    )


@dataclass(frozen=True)
class Choice:
    """The runs of one task, model, setting and seed, with the optimiser's settings in the order of the grid."""

    runs: tuple[tuple[Key, SeedResult], ...]

    def by(self, reading: str) -> SeedResult | None:
        """The run that is chosen. Of equals the first; None where no run has what it is chosen by."""
        if reading == "fixed":
            return next((run for key, run in self.runs if key.fields["optimizer"] == key.fields.get("fixed")), None)
        found = [(run, run.value if reading == "test" else validated(run)) for _, run in self.runs]
        return max(((run, one) for run, one in found if one is not None), key=lambda one: one[1], default=(None, 0))[0]


def validated(run: SeedResult) -> float | None:
    """The accuracy of a run on its validation set, at the last evaluation."""
    found = (run.record.get("evaluations") or [{}])[-1].get("val/accuracy")
    return float(found) if isinstance(found, int | float) else None


@dataclass(frozen=True)
class Setting:
    """The cells of one task, model and setting of difficulty: one for each setting of the optimiser."""

    values: Mapping[str, Any]
    cells: tuple[Cell, ...]

    def choice(self, seed: int) -> Choice:
        """The runs of this seed."""
        return Choice(tuple((cell.key, run) for cell in self.cells for run in cell.seeds if run.seed == seed))

    def chosen(self, seeds: Iterable[int]) -> list[SeedResult]:
        """The run that counts of each of these seeds."""
        found = (self.choice(seed).by(self.cells[0].key.fields["best_of"]) for seed in seeds)
        return [run for run in found if run is not None]


def settings(results: Results, task: str, model: str) -> list[Setting]:
    """The settings of a task that a model was planned to be trained with, the baseline first."""
    found: dict[str, list[Cell]] = {}
    for cell in results.planned:
        fields = cell.key.fields
        if (fields["task"], fields["model"]) == (task, model):
            found.setdefault(repr(fields["setting"]), []).append(cell)
    return [Setting(cells[0].key.fields["setting"], tuple(cells)) for cells in found.values()]


def fold(results: Results) -> Results:
    """A row for each task and model, and for the total of several tasks, made of the cells of all settings."""
    of_tasks: dict[tuple[str, str], list[Setting]] = {}
    for cell in results.cells:
        pair = cell.key.fields["task"], cell.key.fields["model"]
        if pair not in of_tasks:
            of_tasks[pair] = settings(results, *pair)
    rows = [_task(results, *pair, found) for pair, found in of_tasks.items()]
    tasks, models = ([*dict.fromkeys(pair[place] for pair in of_tasks)] for place in (0, 1))
    rows.sort(key=lambda row: TASKS.index(row.key.group) if row.key.group in TASKS else len(TASKS))
    if len(tasks) > 1:
        by_model = ((model, [row for row in rows if row.key.fields["model"] == model]) for model in models)
        rows += [_total(model, found, tasks) for model, found in by_model if len(found) == len(tasks)]
    return replace(results, cells=tuple(rows), fine=results.cells)


def _task(results: Results, task: str, model: str, found: Sequence[Setting]) -> Cell:
    """The row of a task and a model."""
    best_of = found[0].cells[0].key.fields["best_of"]
    seeds = sorted({run.seed for one in found for cell in one.cells for run in cell.seeds}, key=rank)
    figure = published.numbers()["figure5"]
    as_published = len(found) == figure["settings"].get(task) and best_of == "test"
    optimizers = max(len(one.cells) for one in found)
    made = Key(
        {"task": task, "model": model, "settings": len(found), "optimizers": optimizers, "best_of": best_of},
        label=f"{task}, {model}",
        is_baseline=model == BASELINE,
        group=task,
        published=published.figure5(task, model),
        as_published=as_published and all(len(one.cells) == figure["optimizers"] for one in found),
    )
    return Cell(made, tuple(_seed(seed, found, best_of) for seed in seeds), results.metric)


def _seed(seed: int, found: Sequence[Setting], best_of: str) -> SeedResult:
    """The score of a task in one seed. It counts if every planned run of it counts."""
    pairs = [pair for one in found for pair in one.choice(seed).runs]
    record, planned = _known([run for _, run in pairs]), sum(len(one.cells) for one in found)
    missing = [(key, run) for key, run in pairs if run.value is None]
    if missing or len(pairs) < planned:
        told = "; ".join(f"{key.label}: {run.reason} (run {run.id})" for key, run in missing[:TOLD] if run.record)
        reason = f"has {len(pairs) - len(missing)} of {planned} runs that count" + f" ({told})" * bool(told)
        return SeedResult("", seed, _status(run for _, run in pairs), reason, record=record)
    scores = {reading: [run and run.value for run in _chosen(found, seed, reading)] for reading in READINGS}
    readings = {name: mean(values) for name, values in scores.items()}
    if readings[best_of] is None:
        what = "run with published.fixed" if best_of == "fixed" else "accuracy on the validation set"
        return SeedResult("", seed, "failed", f"has no {what} in some setting of the task", record=record)
    runs = [run.id for run in _chosen(found, seed, best_of) if run]
    record |= {"readings": readings, "scores": [scores[best_of]], "chosen": runs}
    return SeedResult("", seed, "finished", value=readings[best_of], record=record)


def _chosen(found: Sequence[Setting], seed: int, reading: str) -> list[SeedResult | None]:
    return [one.choice(seed).by(reading) for one in found]


def _known(runs: Sequence[SeedResult]) -> dict[str, Any]:
    """What the records of these runs say of the task: its chance level, its ceiling; and of the network its size."""
    started = [run for run in runs if run.record]
    if not started:
        return {}
    levels = {name: mean([run.part("corpus").get(name) for run in started]) for name in ("chance", "ceiling")}
    return {"parameters": _sizes(run.part("parameters").get("total") for run in started), **levels}


def _sizes(counts: Iterable[Any]) -> dict[str, int]:
    """The smallest and the largest of these networks, and their size where all have the same."""
    found = [count for count in counts if isinstance(count, int)]
    ends = {name: choose(found) for name, choose in SIZES.items() if found}
    return ends | ({"total": found[0]} if len({*found}) == 1 else {})


def _status(runs: Iterable[SeedResult]) -> str:
    """How a seed stands whose runs do not all count."""
    found = {"partial" if run.value is not None else run.status for run in runs}
    return next((name for name in ("running", "failed", "stopped", "damaged", "partial") if name in found), "pending")


def _total(model: str, rows: Sequence[Cell], tasks: Sequence[str]) -> Cell:
    """The row of a model over all tasks."""
    whole = set(tasks) == set(TASKS)
    group = TOTAL if whole else f"{TOTAL} of {len(tasks)} tasks"
    seeds = sorted({run.seed for row in rows for run in row.seeds}, key=rank)
    counts = [(row.key.fields["settings"], row.key.fields["optimizers"]) for row in rows]
    settings, optimizers = sum(one for one, _ in counts), max(one for _, one in counts)
    made = Key(
        {**rows[0].key.fields, "task": group, "settings": settings, "optimizers": optimizers},
        label=f"{group}, {model}",
        is_baseline=model == BASELINE,
        group=group,
        published=published.figure5(TOTAL, model) if whole else published.PublishedResult(),
        as_published=whole and all(row.key.as_published for row in rows),
    )
    return Cell(made, tuple(_total_seed(seed, rows) for seed in seeds), rows[0].metric)


def _total_seed(seed: int, rows: Sequence[Cell]) -> SeedResult:
    """The mean over tasks in one seed. It counts if it counts in every task."""
    found = [run for row in rows for run in row.seeds if run.seed == seed]
    record: dict[str, Any] = {"parameters": _sizes(run.part("parameters").get(n) for run in found for n in SIZES)}
    if any(run.value is None for run in found) or len(found) < len(rows):
        named = [row.key.group for row in rows if seed not in row.values]
        return SeedResult("", seed, _status(found), f"has no score of {', '.join(named)}", record=record)
    readings = {name: mean([run.record["readings"][name] for run in found]) for name in READINGS}
    levels = {name: mean([run.record[name] for run in found]) for name in ("chance", "ceiling")}
    lists = {name: [one for run in found for one in run.record[name]] for name in ("scores", "chosen")}
    value = fmean(run.value for run in found if run.value is not None)
    record |= {"readings": readings, **lists, **levels}
    return SeedResult("", seed, "finished", value=value, record=record)


def mean(values: Sequence[Any]) -> float | None:
    """The mean; None where one of them is no number."""
    return fmean(values) if values and all(isinstance(value, int | float) for value in values) else None
