"""What a training does: builds the network, trains it with Lightning, and keeps its record up to date."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch._inductor import config as inductor_config

from diffmamba.allocator import keep_freed_memory
from diffmamba.ops import backend
from diffmamba.runs import processes
from diffmamba.runs.loggers import close, loggers
from diffmamba.runs.provenance import hardware, now
from diffmamba.runs.recorder import RandomState, RunRecorder
from diffmamba.runs.store import Run
from diffmamba.runs.weights import fitting, read_checkpoint
from diffmamba.runs.work import Training, build_network
from diffmamba.tasks import Task

log = logging.getLogger(__name__)


def admit(work: Training, run: Run) -> None:
    """Raises SettingError where the checkpoint to go on from is damaged or of another architecture."""
    if run.last_checkpoint.exists():
        fitting(work.shapes, run.last_checkpoint, read_checkpoint(run.last_checkpoint))


Ended = Callable[[BaseException, int], None]
"""Told the error that a training ended with, and its step."""


def train(work: Training, run: Run, progress_bar: bool, ended: Ended = lambda error, step: None) -> None:
    """Trains a run that has a record, in this process, alone or as one rank of several.

    The record says how it ended if it ended well. If not, `ended` is to say so, before the loggers close.
    """
    prepare_process(work)
    record = run.read()
    assert record is not None
    recorder = RunRecorder(run, record)
    task = build_task(work)
    record["parameters"] = {"total": sum(parameter.numel() for parameter in task.network.parameters())}
    found = loggers(work.settings, run, record["parameters"]["total"])
    trainer: L.Trainer | None = None
    try:
        trainer = build_trainer(work, run, [recorder, *_callbacks(work, run, recorder, progress_bar)], found)
        device = trainer.strategy.root_device
        record["hardware"] = hardware(device) | {"devices": trainer.world_size}
        record["operators"] = {"backend": backend.describe(device), "compiled": work.execution.compiled}
        checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
        if trainer.is_global_zero:
            compiled = ", compiled" if work.execution.compiled else ""
            log.info("operators: %s%s", record["operators"]["backend"], compiled)
            if checkpoint:
                evaluated = record["evaluations"] or [{"step": 0}]
                log.info("goes on from the last checkpoint, step %d", evaluated[-1]["step"])
        trainer.fit(task, work.data, ckpt_path=checkpoint, weights_only=True)
        recorder.update(trainer, status="finished", finished=now())
    except BaseException as error:
        ended(error, trainer.global_step if trainer else 0)
        raise
    finally:
        if processes.rank() == 0:
            close(found, run.read())


def prepare_process(work: Training) -> None:
    """Memory and threads of this process."""
    keep_freed_memory()
    if work.execution.threads:
        torch.set_num_threads(max(1, work.execution.threads // work.execution.devices.here()))


def build_task(work: Training) -> Task:
    """The task with its network, whose random numbers follow from the seed, and its optimiser."""
    L.seed_everything(work.seed, verbose=False)
    network = build_network(work.network, work.data.vocabulary_size)
    work.weights.load(network)
    if work.execution.compiled:
        inductor_config.fallback_random = True  # the same dropout as without, whose run this is
        network.compile()
    steps = work.length.steps
    assert steps is not None
    return work.task(network=network, optimizer=work.optimizer.over(steps))


def build_trainer(work: Training, run: Run, callbacks: list[Callback], found: Any) -> L.Trainer:
    """Lightning's trainer for a work, with its budget in steps."""
    length, parts = work.length, work.execution.devices.parts
    assert length.steps is not None
    assert length.evaluate_every is not None
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of views that are changed in place; ours are not
    return work.trainer(
        **work.execution.devices.for_lightning(),
        max_steps=length.steps,
        max_epochs=-(-length.steps // work.data.steps_per_epoch),
        val_check_interval=length.evaluate_every * parts,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=found,
        enable_progress_bar=any(isinstance(callback, RichProgressBar) for callback in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.directory,
    )


def _callbacks(work: Training, run: Run, recorder: RunRecorder, progress_bar: bool) -> list[Callback]:
    """The random generators' state, two checkpoints and the bar.

    There are two checkpoints because under `save_last` "last" would be written only when "best" is.
    """
    task = work.task_type
    better = task.metrics[task.monitor.partition("/")[2]].better
    checkpoints = run.directory / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor=task.monitor,
        mode="min" if better == "lower" else "max",
        enable_version_counter=False,
    )
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=False, enable_version_counter=False)
    return [RandomState(), best, last, *([_RunProgressBar(recorder)] if progress_bar else [])]


class _RunProgressBar(RichProgressBar):
    """Lightning's bar, as long as the run where the run is shorter than an epoch, with the loss as last logged."""

    def __init__(self, recorder: RunRecorder):
        super().__init__()
        self.recorder = recorder

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        loss = {} if self.recorder.loss is None else {"train/loss": self.recorder.loss}
        return super().get_metrics(trainer, pl_module) | loss

    @property
    def total_train_batches(self) -> int | float:
        return min(super().total_train_batches, self.trainer.max_steps * self.trainer.accumulate_grad_batches)
