"""What a case is trained for: tokens and steps by the rule of the training streams, and the learning rate by step."""

from functools import cache
from typing import Any

from diffmamba.data.streams import steps_per_epoch
from diffmamba.paper.cases import Case
from diffmamba.tasks.optimization import warmup_cosine

SCHEDULES = ("published", "to_end")  # of optimizer.schedule
EPOCHS = (1, 10, 20, 30, 40)


def budget(case: Case) -> dict[str, Any]:
    """Sizes, steps and tokens of a run. A token is a symbol that is predicted once in training.

    `dropped` is the share of the training split that an epoch leaves out at the ends of streams. `evaluated_tokens`
    are the symbols of val and test that all evaluations of a run predict.
    """
    data, asked = case.config["data"], case.config["budget"]
    sizes = {name: data["expected"][name] for name in ("train", "val", "test", "vocabulary")}
    batch, length = data["batch_size"], data["length"]
    per_step, per_epoch = batch * length, steps_per_epoch(sizes["train"], batch, length)
    steps = asked["steps"] or asked["epochs"] * per_epoch
    predicted = [sizes["val"] - 1, sizes["test"] - 1]
    most = data["eval_windows"] * length if data["eval_windows"] else max(predicted)
    return sizes | {
        "batch_size": batch,
        "length": length,
        "tokens_per_step": per_step,
        "steps_per_epoch": per_epoch,
        "epochs": steps / per_epoch,
        "steps": steps,
        "tokens_per_epoch": per_epoch * per_step,
        "tokens": steps * per_step,
        "dropped": 1 - per_epoch * per_step / sizes["train"],
        "evaluated_tokens": sum(min(n, most) for n in predicted) * (steps // (asked["evaluate_every"] or per_epoch)),
    }


def curve(case: Case, schedule: str) -> dict[str, Any]:
    """The learning rate under one reading of optimizer.schedule: at landmarks, and summed over all steps (`integral`).

    `length` are the steps of the cosine, warm-up included; the run's own where the scale names none. A landmark's rate
    is that of the step that follows. `walked` is the share of the cosine that the run goes through.
    """
    spent, optimizer = budget(case), case.config["optimizer"]
    steps, warmup, peak = spent["steps"], optimizer["warmup_steps"], optimizer["learning_rate"]
    length = (optimizer["schedule_steps"] if schedule == "published" else None) or steps
    epochs = {f"after epoch {n}": n * spent["steps_per_epoch"] for n in EPOCHS if n <= spent["epochs"]}
    marks = {"step 0": 0, "end of warm-up": warmup} | epochs
    rates = {step: peak * warmup_cosine(step, warmup, length) for step in marks.values()}
    return {
        "schedule": schedule,
        "length": length,
        "walked": min(1.0, (steps - warmup) / max(1, length - warmup)),
        "landmarks": [{"name": name, "step": step, "rate": rates[step]} for name, step in marks.items()],
        "integral": peak * _summed(steps, warmup, length),
    }


@cache
def _summed(steps: int, warmup: int, length: int) -> float:
    """The sum over all steps, as shares of the peak."""
    return sum(warmup_cosine(step, warmup, length) for step in range(steps))
