"""When a training writes its checkpoints, and how it finds all of their state again.

At an evaluation Lightning saves its own counters, and goes on from them. Between evaluations it does not: an evaluation
that is due at the very step of the checkpoint is left out, and so are the hooks of an epoch that ends there. So
`LastCheckpoint` saves such a step as a whole one, says in the checkpoint what is still to be done, and does that when
the training goes on.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed

from diffmamba.runs import stopping
from diffmamba.tasks import Task

EVALUATION_DUE = "evaluation_due"
"""In a checkpoint between evaluations: whether an evaluation is to follow at its step. Others do not have it."""
BEFORE_AN_EVALUATION = 0.5
"""A checkpoint is written before an evaluation if this share of its time has passed: an evaluation may be long, and one
that is interrupted is lost."""
PARTS = ("loops", "lr_schedulers", "callbacks")  # Lightning insists on weights and optimisers itself


class KeptCheckpoint(ModelCheckpoint):
    """A checkpoint that knows its best value again where the run store was moved.

    Lightning forgets the best value where the directory has another name, and a worse checkpoint replaces the best one.
    """

    @property
    def state_key(self) -> str:
        """The one of Lightning's class, under which earlier checkpoints hold the state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, Path(state_dict["dirpath"]), Path(str(self.dirpath))))


def _moved(state: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The same state with the paths of the new directory."""

    def moved(path: str) -> str:
        return str(new / Path(path).name) if path and Path(path).parent == old else path

    paths = {name: moved(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {moved(path): score for path, score in state["best_k_models"].items()}
    return dict(state) | paths | {"best_k_models": best, "dirpath": str(new)}


class LastCheckpoint(KeptCheckpoint):
    """`last.ckpt`: the newest state, written at every evaluation and at the end of a step in between: when
    `every_minutes` have passed since the last one, and before the training stops because the process was asked to.

    With several ranks each may be asked to stop, and the first one looks at the clock. They tell each other after every
    step and every batch of an evaluation. Lightning would do the same for SIGTERM alone.
    """

    def __init__(self, directory: Path, every_minutes: float | None = None) -> None:
        super().__init__(directory, "last", save_on_train_epoch_end=False, enable_version_counter=False)
        self._seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._written = 0.0  # when, by the monotonic clock
        self._evaluation_due: bool | None = None  # of the checkpoint that is written or was read
        self._between = False  # evaluations, while such a checkpoint is written
        self._at_end_of_epoch = False

    def on_train_batch_end(
        self, trainer: Any, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate():  # in the middle of a step
            return
        evaluates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        stop, is_time = self._agreed(trainer, self._seconds * (BEFORE_AN_EVALUATION if evaluates else 1.0))
        if stop or is_time:
            self._evaluation_due, self._between = evaluates, True
            for logger in trainer.loggers:
                logger.save()  # the rows up to here
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
            self._between, self._written = False, time.monotonic()
        self._stop_if(stop)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        self._stop_if(self._agreed(trainer)[0])  # the last checkpoint counts

    def on_validation_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._written = time.monotonic()
        stop, _ = self._agreed(trainer)
        self._stop_if(stop and not trainer.should_stop)  # one that has ended is not interrupted any more

    def _agreed(self, trainer: Any, seconds: float = math.inf) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether the first says that so much time has passed."""
        is_time = trainer.is_global_zero and time.monotonic() - self._written >= seconds
        found = [stopping.requested() is not None, is_time]
        if trainer.world_size > 1:
            told = torch.tensor(found, dtype=torch.int32, device=trainer.strategy.root_device)
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
            found = told.bool().tolist()
        return found[0], found[1]

    def _stop_if(self, stop: bool) -> None:
        if stop:
            raise SystemExit(stopping.INTERRUPTED)  # for KeyboardInterrupt Lightning would ignore a second Ctrl-C

    def on_save_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Between evaluations, counts the batch as done, which Lightning does after the hook that writes this."""
        if not self._between:
            return
        checkpoint[EVALUATION_DUE] = self._evaluation_due
        loops = checkpoint["loops"]["fit_loop"]
        for progress in ("total", "current"):
            loops["epoch_loop.batch_progress"][progress]["completed"] += 1
        if not self._evaluation_due:  # which Lightning counts after the evaluation
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._evaluation_due = checkpoint.get(EVALUATION_DUE)

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Does what was still to be done at the step of the checkpoint."""
        super().on_train_start(trainer, pl_module)
        self._written = time.monotonic()
        due, self._evaluation_due = self._evaluation_due, None
        loop = trainer.fit_loop.epoch_loop
        if due:
            loop.val_loop.restarting = False
            trainer.validating = True
            loop.val_loop.run()
            trainer.training = True
            loop.val_loop._has_run = False  # from here on it is as if the checkpoint were of this evaluation
        elif due is not None and loop._num_ready_batches_reached():
            loop.val_loop._has_run = self._at_end_of_epoch = True  # so Lightning asks for no further batch

    def on_train_epoch_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._at_end_of_epoch:
            self._at_end_of_epoch = False
            trainer.fit_loop.epoch_loop.restarting = False  # the next epoch begins as any other


def best_and_last(directory: Path, task: type[Task], every_minutes: float | None = None) -> list[ModelCheckpoint]:
    """The two checkpoints of a run. They are two because under `save_last` "last" would be written only with "best"."""
    better = task.metrics[task.monitor.partition("/")[2]].better
    best = KeptCheckpoint(
        directory,
        "best",
        monitor=task.monitor,
        mode="min" if better == "lower" else "max",
        enable_version_counter=False,
    )
    return [best, LastCheckpoint(directory, every_minutes)]


class IncompleteCheckpointError(RuntimeError):
    """A checkpoint lacks a state that the run depends on."""


class CompleteState(L.Callback):
    """Refuses to go on from a checkpoint without all the states that the run depends on.

    Lightning leaves a state as it is, without a word, where the checkpoint has none under its name. It also starts no
    training whose steps are all done: where an evaluation is still due after the last one, this raises the limit until
    the training has started.
    """

    _raised = 0

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        lacking = [part for part in PARTS if part not in checkpoint]
        states = checkpoint.get("callbacks", {})
        lacking += [c.state_key for c in trainer.callbacks if c.state_dict() and c.state_key not in states]
        data, precision = trainer.datamodule, trainer.precision_plugin
        owners = ([data] if data is not None else []) + ([precision] if precision.state_dict() else [])
        lacking += [type(owner).__qualname__ for owner in owners if type(owner).__qualname__ not in checkpoint]
        if lacking:
            raise IncompleteCheckpointError(f"the last checkpoint lacks the state of {', '.join(lacking)}")
        if checkpoint.get(EVALUATION_DUE):
            self._raised = 1
            trainer.fit_loop.epoch_loop.max_steps += 1

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        trainer.fit_loop.epoch_loop.max_steps -= self._raised
        self._raised = 0
