"""What a cell is trained for: tokens and steps by the rule of the training streams, and the learning rate by step."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from diffmamba.audit.cells import Cell
from diffmamba.data.streams import steps_per_epoch
from diffmamba.tasks.optimization import warmup_cosine

SCHEDULES = ("published", "to_end")  # of optimizer.schedule
EPOCHS = (1, 10, 20, 30, 40)


@dataclass(frozen=True)
class Budget:
    """Sizes, steps and tokens of a run. A token is a symbol that is predicted once in training."""

    train: int
    val: int
    test: int
    vocabulary: int
    batch_size: int
    length: int
    tokens_per_step: int
    steps_per_epoch: int
    epochs: float
    steps: int
    tokens_per_epoch: int
    tokens: int
    dropped: float
    """Share of the training split that an epoch leaves out: what is over of the division into streams and windows."""
    evaluated_tokens: int
    """Symbols of val and test that are predicted in all evaluations of a run together."""


@dataclass(frozen=True)
class Landmark:
    """The learning rate of the step that follows `step` steps."""

    name: str
    step: int
    rate: float


@dataclass(frozen=True)
class Curve:
    """The learning rate under one reading of optimizer.schedule."""

    schedule: str
    length: int
    walked: float
    """Share of the cosine, warm-up left out, that the run goes through."""
    landmarks: list[Landmark]
    integral: float
    """Sum of the learning rate over all steps."""


def budget(cell: Cell) -> Budget:
    """The budget of a cell."""
    data, scale, expected = cell.config["data"], cell.config["scale"], cell.expected
    batch_size, length = data["batch_size"], data["length"]
    per_epoch = steps_per_epoch(expected["train"], batch_size, length)
    steps = scale["steps"] or scale["epochs"] * per_epoch
    tokens_per_step = batch_size * length
    return Budget(
        **{split: expected[split] for split in ("train", "val", "test", "vocabulary")},
        batch_size=batch_size,
        length=length,
        tokens_per_step=tokens_per_step,
        steps_per_epoch=per_epoch,
        epochs=steps / per_epoch,
        steps=steps,
        tokens_per_epoch=per_epoch * tokens_per_step,
        tokens=steps * tokens_per_step,
        dropped=1 - per_epoch * tokens_per_step / expected["train"],
        evaluated_tokens=_evaluated(cell, steps, per_epoch),
    )


def _evaluated(cell: Cell, steps: int, per_epoch: int) -> int:
    data, every = cell.config["data"], cell.config["scale"]["evaluate_every"]
    whole = [cell.expected[split] - 1 for split in ("val", "test")]
    most = data["eval_windows"] * data["length"] if data["eval_windows"] else max(whole)
    return sum(min(size, most) for size in whole) * (steps // (every or per_epoch))


def curves(cell: Cell) -> list[Curve]:
    """The learning rate under both readings of optimizer.schedule."""
    return [curve(cell, schedule) for schedule in SCHEDULES]


def curve(cell: Cell, schedule: str) -> Curve:
    """The learning rate under one reading: the length of the cosine as shipped, or the steps of the run."""
    found, optimizer = budget(cell), cell.config["optimizer"]
    length = schedule_length(cell, schedule)
    warmup, peak = optimizer["warmup_steps"], optimizer["learning_rate"]
    steps = {"step 0": 0, "end of warm-up": warmup}
    steps |= {f"after epoch {epoch}": epoch * found.steps_per_epoch for epoch in EPOCHS if epoch <= found.epochs}
    return Curve(
        schedule=schedule,
        length=length,
        walked=min(1.0, (found.steps - warmup) / max(1, length - warmup)),
        landmarks=[Landmark(name, step, peak * warmup_cosine(step, warmup, length)) for name, step in steps.items()],
        integral=peak * _summed(found.steps, warmup, length),
    )


@cache
def _summed(steps: int, warmup: int, length: int) -> float:
    """Sum of the shares of the learning rate over all steps."""
    return sum(warmup_cosine(step, warmup, length) for step in range(steps))


def schedule_length(cell: Cell, schedule: str) -> int:
    """Steps of the cosine, warm-up included; the run's own where the scale names none."""
    shipped = cell.config["scale"]["schedule_steps"]
    return (shipped if schedule == "published" else None) or budget(cell).steps


def schedule_in_force(cell: Cell) -> str:
    """The reading that training would follow."""
    return cell.config["optimizer"]["schedule"]


def distinct(cells: list[Cell]) -> list[Cell]:
    """One cell for each budget: models share theirs."""
    by_budget: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        by_budget.setdefault((cell.table, cell.data, cell.layers), cell)
    return list(by_budget.values())
