"""Trainings of MAD made by hand: configurations and records as the run store would hold them."""

import math
from itertools import product

from by_hand import Sweep, make_record

TASKS = (
    "compression",
    "fuzzy_in_context_recall",
    "in_context_recall",
    "memorization",
    "noisy_in_context_recall",
    "selective_copying",
)
BASELINES = {
    "compression": {"vocabulary": 16, "length": 32, "examples": 12800},
    "fuzzy_in_context_recall": {"vocabulary": 16, "length": 128, "examples": 12800},
    "in_context_recall": {"vocabulary": 16, "length": 128, "examples": 12800},
    "memorization": {"vocabulary": 256, "length": 32, "examples": 256},
    "noisy_in_context_recall": {"vocabulary": 32, "length": 128, "examples": 12800, "noise": 0.2},
    "selective_copying": {"vocabulary": 16, "length": 256, "examples": 12800, "copy": 16},
}
CHANGES = {
    "compression": [{"vocabulary": 32}, {"vocabulary": 64}, {"length": 64}, {"length": 128}, {"examples": 6400}],
    "fuzzy_in_context_recall": [{"vocabulary": 32}, {"vocabulary": 64}, {"length": 512}, {"examples": 6400}],
    "in_context_recall": [
        {"vocabulary": 32},
        {"vocabulary": 64},
        {"length": 256},
        {"length": 512},
        {"examples": 6400},
    ],
    "memorization": [{"vocabulary": 2**power} for power in range(9, 14)],
    "noisy_in_context_recall": [{"vocabulary": 48}, {"length": 512}, {"examples": 6400}, {"noise": 0.6}],
    "selective_copying": [{"vocabulary": 32}, {"length": 512}, {"examples": 6400}, {"copy": 32}],
}
"""The grid `paper`: one factor at a time."""
OPTIMIZERS = [(rate, decay) for rate in (1e-4, 5e-4, 1e-3) for decay in (0.0, 0.1)]
TASK = {"headline": "test/accuracy", "metrics": {"accuracy": {"label": "accuracy", "better": "higher", "digits": 3}}}
FIXED = {"learning_rate": 5e-4, "weight_decay": 0.0}


def config(task, model, seed, change=(), optimizer=OPTIMIZERS[2], best_of="test"):
    """What figure 5 reads of a resolved configuration."""
    rate, decay = optimizer
    return {
        "data": {"name": task, "directory": "data", **BASELINES[task], **dict(change)},
        "model": {"name": model},
        "optimizer": {"learning_rate": rate, "weight_decay": decay},
        "published": {"best_of": best_of, "fixed": FIXED},
        "scale": {"name": "paper"},
        "seed": seed,
    }


def record(task, test, val=None, chance=0.125, ceiling=1.0, **changes):
    """A finished training whose accuracy on the test set rises to `test`."""
    places = {"at": list(range(1, 64)), "count": [200 - 3 * at for at in range(1, 64)]}
    places["accuracy"] = [test - 0.002 * at for at in places["at"]]
    rising = [(k, test * (1 - math.exp(1.5 - 1.5 * k) / 2)) for k in (1, 2, 3)] + [(4, test)]
    return make_record(
        0.0,
        task=TASK,
        corpus={"name": task, "fingerprint": task, "chance": chance, "ceiling": ceiling},
        evaluations=[
            {
                "step": 50 * k,
                "epoch": 50.0 * k,
                "tokens": 4096 * k,
                "val/accuracy": test if val is None else val,
                "test/accuracy": value,
            }
            for k, value in rising
        ],
        details={"test": {"gap": places, "position": places, "class": places}},
        **changes,
    )


class Mad(Sweep):
    """Runs of figure 5. `add_run` takes what tells a run from the others."""

    def __init__(self, best_of="test"):
        super().__init__("figure", "figure5")
        self.best_of = best_of

    def add_run(self, task, model, seed, change=(), optimizer=OPTIMIZERS[2], **told):
        """Plans a training and puts its record into the store; without `test` it has not started. Returns its id."""
        run_id = f"{len(self.planned):04d}"
        self.planned.append((run_id, config(task, model, seed, change, optimizer, self.best_of)))
        if "test" in told:
            self.records[run_id] = record(task, **told)
        return run_id


def whole(models=("mamba", "diff_mamba"), seeds=(1, 2, 3), changes=CHANGES, optimizers=OPTIMIZERS, tasks=TASKS):
    """All runs of a grid, finished; accuracies differ by task, model, setting, optimiser and seed."""
    sweep = Mad()
    for task, (place, model), seed in product(tasks, enumerate(models), seeds):
        settings = [(), *changes.get(task, ())]
        for (hardness, change), (number, optimizer) in product(enumerate(settings), enumerate(optimizers)):
            shift = 0.02 * math.sin(7 * place + 3 * seed + 5 * number + hardness + len(task))
            test = 0.85 + 0.02 * place - 0.07 * hardness - 0.01 * number + shift
            sweep.add_run(task, model, seed, change, optimizer, test=test, val=test - 0.01 * math.cos(number))
    return sweep
