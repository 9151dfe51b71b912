"""What a training does: builds the network, trains it with Lightning, and keeps its record up to date."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from torch._inductor import config as inductor_config

from diffmamba import atomic
from diffmamba.allocator import keep_freed_memory
from diffmamba.models.consistency import check_mixers
from diffmamba.runs import stopping
from diffmamba.runs.checkpoint_files import AtomicCheckpoints, find_readable, remove_older
from diffmamba.runs.checkpoints import CompleteState, best_and_last
from diffmamba.runs.job import tell_lightning_rank
from diffmamba.runs.lightning_trainer import build_callbacks
from diffmamba.runs.loggers import Logs
from diffmamba.runs.processes import require_parent
from diffmamba.runs.provenance import hardware, now
from diffmamba.runs.quiet import quiet
from diffmamba.runs.recorder import RandomState, RunRecorder, StopWatch
from diffmamba.runs.shown import RunProgressBar, opening, shown
from diffmamba.runs.store import Record, Run
from diffmamba.runs.work import Training, build_network
from diffmamba.tasks import Task

PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}

log = logging.getLogger(__name__)


def admit(work: Training, run: Run) -> None:
    """Makes a claimed run ready. Raises SettingError where the checkpoint to go on from is damaged or does not fit."""
    atomic.remove_leftovers(run.directory)
    find_readable(run, work.shapes)


Ended = Callable[[BaseException, int], None]
"""Told the error that a training ended with, and its step."""


def train(work: Training, run: Run, progress_bar: bool, ended: Ended = lambda error, step: None) -> None:
    """Trains a run that has a record, in this process, alone or as one rank of several.

    The record says how it ended if it ended well. If not, `ended` is to say so, before the loggers close.
    """
    with quiet():
        prepare_process(work)
        record = run.read()
        assert record is not None
        task = build_task(work)
        record["parameters"] = {"total": sum(parameter.numel() for parameter in task.network.parameters())}
        logs = Logs(run, work.settings, record["parameters"]["total"])
        trainer: L.Trainer | None = None
        try:
            recorder = RunRecorder(run, record, logs, work.length.steps or 0)
            trainer = build_trainer(work, run, _callbacks(work, run, recorder, progress_bar), logs)
            record |= _used(work, trainer)
            if trainer.is_global_zero:
                log.info("%s", opening(work, record["parameters"]["total"]))
                compiled = ", compiled" if work.execution.compiled else ""
                log.info("operators: %s%s", record["operators"]["backend"], compiled)
            checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
            with stopping.deferred():
                trainer.fit(task, work.data, ckpt_path=checkpoint, weights_only=True)
                ending = recorder.ending(trainer)
                if trainer.is_global_zero:
                    _require(run)
                    remove_older(run.last_checkpoint)
                recorder.update(trainer, **ending, finished=now())
        except BaseException as error:
            ended(error, trainer.global_step if trainer else 0)
            raise
        finally:
            logs.close(run.read)


def prepare_process(work: Training) -> None:
    """Memory and threads of this process, and its rank."""
    keep_freed_memory()
    tell_lightning_rank()
    if work.execution.threads:
        torch.set_num_threads(max(1, work.execution.threads // work.execution.devices.here()))


def build_task(work: Training) -> Task:
    """The task with its network, whose random numbers follow from the seed, and its optimiser."""
    L.seed_everything(work.seed, verbose=False)
    network = build_network(work.network, work.data.vocabulary_size)
    work.weights.load(network)
    if work.execution.backend != "cuda":  # whose operators refuse a CPU
        check_mixers(network)
    if work.execution.compiled:
        inductor_config.fallback_random = True  # the same dropout as without, whose run this is
        network.compile()
    steps = work.length.steps
    assert steps is not None
    return work.task(network=network, optimizer=work.optimizer.over(steps))


def build_trainer(work: Training, run: Run, callbacks: list[Callback], logs: Logs) -> L.Trainer:
    """Lightning's trainer for a work, with its budget in steps."""
    length, parts = work.length, work.execution.devices.parts
    assert length.steps is not None
    assert length.evaluate_every is not None
    arguments = work.execution.devices.for_lightning()
    files = AtomicCheckpoints(_checkpoints(work).get("keep", 1), require=lambda: _require(run))
    trainer = work.trainer(
        **arguments | {"plugins": [*arguments["plugins"], files]},
        max_steps=length.steps,
        max_epochs=-(-length.steps // work.data.steps_per_epoch),
        val_check_interval=length.evaluate_every * parts,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=logs,
        profiler=_profiler(work.trainer.keywords.get("profiler"), run.directory),
        enable_progress_bar=any(isinstance(callback, RunProgressBar) for callback in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.directory,
    )
    trainer._signal_connector.register_signal_handlers = _nothing  # signals are those of `stopping`
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # a message to all ranks for every batch
    return trainer


def _nothing() -> None: ...


def _require(run: Run) -> None:
    """Raises an error in a process that must not touch the checkpoints of this run any more."""
    require_parent()
    if (lease := getattr(run, "lease", None)) is not None:
        lease.require()


def _checkpoints(work: Training) -> Mapping[str, Any]:
    return work.settings.get("checkpoint", {})


def _profiler(profiler: Any, directory: Path) -> Any:
    """The profiler of a name, which writes into the run's directory: Lightning's would only tell its log."""
    return PROFILERS[profiler](dirpath=directory, filename="profile") if profiler in PROFILERS else profiler


def _used(work: Training, trainer: L.Trainer) -> Record:
    """What the run really uses, for its record."""
    device = trainer.strategy.root_device
    return {
        "precision": trainer.precision,
        "hardware": hardware(device) | {"devices": trainer.world_size, "strategy": type(trainer.strategy).__name__},
        "operators": work.execution.operators(device),
    }


def _callbacks(work: Training, run: Run, recorder: RunRecorder, progress_bar: bool) -> list[Callback]:
    """Those that keep the record and the state, the user's, the checkpoints, and what is shown."""
    users = [part for users in build_callbacks(work.callbacks) for part in (users, StopWatch(users, recorder))]
    every_minutes = _checkpoints(work).get("every_minutes")
    kept = best_and_last(run.directory / "checkpoints", work.task_type, every_minutes)
    return [CompleteState(), recorder, RandomState(), *users, *kept, shown(recorder, progress_bar)]
