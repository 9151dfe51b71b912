"""One run, from its configuration to its record."""

import logging
import os
import traceback
import warnings
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger, WandbLogger
from torch._inductor import config as inductor_config
from torch.multiprocessing.spawn import ProcessException

from diffmamba import ranks
from diffmamba.allocator import keep_freed_memory
from diffmamba.build import build_network, build_optimizer, check, network_weights, total_steps
from diffmamba.configuration import ROOT
from diffmamba.data.datamodule import LanguageModellingData
from diffmamba.ops import backend
from diffmamba.runs import Record, Run, RunStore, identity
from diffmamba.runs.provenance import git_state, hardware, versions
from diffmamba.runs.recorder import RandomState, RunRecorder
from diffmamba.tasks import LanguageModelling

SCHEMA = 1

log = logging.getLogger(__name__)


def run(config: dict[str, Any], progress_bar: bool = True) -> Record:
    """Trains what a resolved configuration says, unless its record is already there, and returns the record.

    An interrupted run goes on from its last checkpoint; a failed one is returned as it is unless `retry_failed` is set.
    Raises RunTakenError where another process trains the same run, and SettingError before anything is written.

    With several devices it starts a process for each; under torchrun or srun, every process calls it.
    """
    data = check(config)
    found = RunStore(config["runs"]).run(identity(config, data.corpus.fingerprint))
    with ExitStack() as claim:
        ended = ranks.agree(lambda: _admit(config, data, found, claim))
        if ended is not None:
            if ranks.rank() == 0:
                log.info("%s at %s, not trained again", ended["status"], ended["finished"])
            return ended
        try:
            processes = ranks.devices(config)
            if processes == 1 or ranks.started_elsewhere():
                train(config, data, found, progress_bar)
            else:
                ranks.launch(_train_as_rank, (config, found, progress_bar), processes)
        except KeyboardInterrupt:
            _record_end(found, status="interrupted")
            raise
        except Exception as error:
            _record_end(found, status="failed", error=_failure(error, 0), finished=_now())
            if ranks.started_elsewhere():
                raise  # ends the other ranks
        return ranks.agree(lambda: _read(found))


def _admit(config: dict[str, Any], data: LanguageModellingData, found: Run, claim: ExitStack) -> Record | None:
    """Claims the run and writes down that it is running; returns the record of one that is not to be trained."""
    claim.enter_context(found.claim())
    record = found.read()
    if record and (record["status"] == "finished" or (record["status"] == "failed" and not config["retry_failed"])):
        return record
    if found.last_checkpoint.exists():
        with torch.device("meta"):
            network_weights(build_network(config["model"], data.corpus.vocabulary.size), found.last_checkpoint)
    found.write(new_record(config, data, found, record))
    return None


def _train_as_rank(config: dict[str, Any], found: Run, progress_bar: bool) -> None:
    """What each process does that `run` starts."""
    train(config, check(config), found, progress_bar)


def train(config: dict[str, Any], data: LanguageModellingData, found: Run, progress_bar: bool) -> None:
    """Trains a run that has a record in this process, alone or as one rank of several; the record says how it ended."""
    keep_freed_memory()
    if config["threads"]:
        torch.set_num_threads(max(1, config["threads"] // ranks.devices(config)))
    record = _read(found)
    loggers: list[Logger] = []
    recorder = RunRecorder(found, record)
    trainer: L.Trainer | None = None
    try:
        L.seed_everything(config["seed"], verbose=False)
        network = build_network(config["model"], data.corpus.vocabulary.size)
        if config["compile"]:
            inductor_config.fallback_random = True  # the same dropout as without, whose run this is
            network.compile()
        task = LanguageModelling(network, build_optimizer(config, total_steps(config, data)))
        record["parameters"] = {"total": sum(p.numel() for p in network.parameters())}
        loggers = _loggers(config, found, record)
        trainer = _trainer(config, data, found, recorder, loggers, progress_bar)
        device = trainer.strategy.root_device
        record["hardware"] = hardware(device) | {"devices": trainer.world_size}
        record["operators"] = {"backend": backend.describe(device), "compiled": config["compile"]}
        if trainer.is_global_zero:
            log.info("operators: %s%s", record["operators"]["backend"], ", compiled" if config["compile"] else "")
        checkpoint = found.last_checkpoint if found.last_checkpoint.exists() else None
        if checkpoint and trainer.is_global_zero:
            log.info("goes on from the last checkpoint, step %d", (record["evaluations"] or [{"step": 0}])[-1]["step"])
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
        recorder.update(trainer, status="finished", finished=_now())
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into SystemExit
        _record_end(found, status="interrupted")
        raise KeyboardInterrupt from None
    except Exception as error:
        step = trainer.global_step if trainer else 0
        _record_end(found, status="failed", error=_failure(error, step), finished=_now())
        raise
    finally:
        if ranks.rank() == 0:
            _close(loggers, found)


def _record_end(found: Run, **changes: Any) -> None:
    """Whichever process fails or is interrupted first says why; what the others end of is its silence."""
    record = _read(found)
    if record["status"] == "running":
        found.write(record | changes)


def _read(found: Run) -> Record:
    record = found.read()
    assert record is not None
    return record


def new_record(config: dict[str, Any], data: LanguageModellingData, found: Run, earlier: Record | None) -> Record:
    """The record at the start; an interrupted run keeps the evaluations it has until the checkpoint replaces them."""
    return {
        "schema": SCHEMA,
        "id": found.id,
        "status": "running",
        "config": config,
        "error": None,
        "git": git_state(ROOT),
        "versions": versions(),
        "hardware": {},
        "operators": {},
        "parameters": {},
        "corpus": {
            "name": config["data"]["name"],
            "fingerprint": data.corpus.fingerprint,
            "sizes": data.corpus.sizes,
            "vocabulary": data.corpus.vocabulary.size,
        },
        "progress": {"step": 0, "steps": total_steps(config, data)},
        "evaluations": earlier["evaluations"] if earlier else [],
        "wall_seconds": 0.0,
        "tokens_per_second": None,
        "started": earlier["started"] if earlier else _now(),
        "finished": None,
    }


def _trainer(
    config: dict[str, Any],
    data: LanguageModellingData,
    found: Run,
    recorder: RunRecorder,
    loggers: list[Logger],
    progress_bar: bool,
) -> L.Trainer:
    settings = config["trainer"]
    steps = total_steps(config, data)
    evaluate_every = config["scale"]["evaluate_every"] or data.steps_per_epoch
    checkpoints = found.directory / "checkpoints"
    callbacks: list[Callback] = [
        recorder,
        RandomState(),
        # two of them: with save_last, "last" would be written only when "best" is
        ModelCheckpoint(checkpoints, "best", monitor="val/loss", enable_version_counter=False),
        ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=False, enable_version_counter=False),
    ]
    if progress_bar:
        callbacks.append(_RunProgressBar(recorder))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of views that are changed in place; ours are not
    return instantiate(
        settings | {"devices": ranks.devices(config), "strategy": ranks.strategy(config)},
        plugins=ranks.plugins(),
        max_steps=steps,
        max_epochs=-(-steps // data.steps_per_epoch),
        val_check_interval=evaluate_every * settings["accumulate_grad_batches"],
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=loggers,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=found.directory,
    )


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


def _loggers(config: dict[str, Any], found: Run, record: Record) -> list[Logger]:
    """The configured loggers, told where the run lives and what it is."""
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's directory says what its banner says
    loggers: list[Logger] = []
    for name, settings in config["logger"].items():
        extra: dict[str, Any] = {"save_dir": found.directory}
        if name == "wandb":
            model, data, scale = config["model"], config["data"], config["scale"]
            extra |= {
                "id": found.id,
                "name": f"{model['name']}-{data['name']}-{scale['name']}-seed{config['seed']}",
                "group": config["group"],
                "tags": [model["name"], data["name"], scale["name"]],
            }
        logger = instantiate(settings, **extra)
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)  # Lightning's default, which W&B warns about
        logger.log_hyperparams(config | {"run": found.id, "parameters": record["parameters"]["total"]})
        loggers.append(logger)
    return loggers


def _close(loggers: list[Logger], found: Run) -> None:
    """Ends the W&B run with the record's figures as its summary."""
    record = found.read()
    for logger in loggers:
        if isinstance(logger, WandbLogger) and record is not None:
            summary = {key: record[key] for key in ("status", "wall_seconds", "tokens_per_second", "corpus", "git")}
            logger.experiment.summary.update(summary | record["parameters"] | (record["evaluations"] or [{}])[-1])
            logger.experiment.finish(exit_code=0 if record["status"] == "finished" else 1)


def _failure(error: Exception, step: int) -> dict[str, Any]:
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return {
        "type": type(cause).__name__,
        "message": lines[-1] if isinstance(cause, ProcessException) else lines[0],  # of a rank: its traceback's last
        "traceback": traceback.format_exc(),
        "step": step,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
