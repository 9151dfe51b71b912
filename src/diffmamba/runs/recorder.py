"""Lightning callbacks that keep a run's record, and what a resumed run needs to go on exactly where it was."""

import logging
import time
from contextlib import suppress
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from torch import Tensor, distributed

from diffmamba.atomic import write_json
from diffmamba.data import Data
from diffmamba.runs.checkpoints import EVALUATION_DUE
from diffmamba.runs.loggers import Logs
from diffmamba.runs.store import Record, Run
from diffmamba.runs.watched import Watched, memory_gb

HEARTBEAT_SECONDS = 1.0

log = logging.getLogger(__name__)


class EndedEarlyError(RuntimeError):
    """A training returned before its budget was used up, and no callback of the user's has ended it."""


class RunRecorder(L.Callback):
    """Writes `result.json` at the start and after every evaluation, and `progress.json` about once a second.

    Evaluations, training time and symbols seen are part of the checkpoint, so a resumed run's record is that of an
    uninterrupted one. Logs the loss, the learning rate, the speed of training, λ, gradient norms and memory every
    `log_every_n_steps`. An evaluation has λ too.
    """

    def __init__(self, run: Run, record: Record, logs: Logs, steps: int):
        self.run = run
        self.steps = steps  # of the whole budget, whatever a callback makes of the trainer's
        self.record = record
        self.logs = logs
        self.evaluations: list[dict[str, float]] = []
        self.details: dict[str, Any] = {}  # of the last evaluation, if the task gives any
        self.stopped: dict[str, Any] | None = None
        """The step at which a callback of the user's ended the training, and its name."""
        self.loss: float | None = None  # as last logged
        self.learning_rate = 0.0  # of the last step
        self._watched: Watched | None = None
        self._gradients: dict[str, float] = {}  # of the step to be logged
        self._lambdas: dict[str, float] = {}  # at the last evaluation
        self._most_gb: float | None = None
        self._evaluation_due = False  # at the step of the checkpoint to go on from
        self._evaluated: list[int] = []  # batches of each loader in the last evaluation
        self.tokens = 0
        self.training_seconds = 0.0
        self.seconds_before = 0.0  # wall time of the earlier sessions of this run, up to the checkpoint
        self._started = self._since_batch = self._last_beat = time.monotonic()

    def wall_seconds(self) -> float:
        """Wall time of the run, all its sessions together."""
        return self.seconds_before + time.monotonic() - self._started

    def tokens_per_second(self) -> float | None:
        """Symbols trained on per second of training; evaluation and checkpoints do not count."""
        return self.tokens / self.training_seconds if self.training_seconds else None

    def update(self, trainer: L.Trainer, **changes: Any) -> None:
        """Brings the record on disk up to date, with these changes."""
        self.record |= {
            "progress": {"step": trainer.global_step, "steps": self.steps},
            "evaluations": self.evaluations,
            **({"details": self.details} if self.details else {}),
            "wall_seconds": self.wall_seconds(),
            "tokens_per_second": self.tokens_per_second(),
            "memory_gb": self._memory(trainer),
        }
        self.record |= changes
        if trainer.is_global_zero:
            self.run.write(self.record)

    def ending(self, trainer: L.Trainer) -> dict[str, Any]:
        """What the record says of a training that has returned. Raises EndedEarlyError unless it is the whole one."""
        step, steps = trainer.global_step, self.steps
        last = self.evaluations[-1]["step"] if self.evaluations else 0
        if step == steps == last:
            return {"status": "finished"}
        if self.stopped and step == last == self.stopped["step"]:
            return {"status": "stopped", "stopped": self.stopped}
        raise EndedEarlyError(
            f"the training ended at step {step} of {steps}, and its last whole evaluation is of step {last}"
        )

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._evaluation_due = bool(checkpoint.get(EVALUATION_DUE))

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and trainer.global_step:
            log.info("goes on from the last checkpoint, step %d", trainer.global_step)
        trainer.should_stop |= self.stopped is not None  # before the checkpoint was written
        trainer.should_stop |= trainer.global_step == self.steps
        self._watched = Watched(pl_module.network)
        if (device := trainer.strategy.root_device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.logs.go_on(trainer.global_step, self._evaluation_due)
        self.logs.reached = self._reached
        self.update(trainer)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.learning_rate = optimizer.param_groups[0]["lr"]  # the schedule moves on before the batch ends
        if self._watched and self._is_logged(trainer, trainer.global_step + 1):
            self._gradients = self._watched.gradients()

    def on_train_batch_start(self, *_: Any) -> None:
        self._since_batch = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], index: int
    ) -> None:
        self.run.require(lately=True)
        trainer.should_stop |= trainer.global_step == self.steps  # Lightning evaluates when told to stop
        now = time.monotonic()
        self.training_seconds += now - self._since_batch
        self.tokens += batch[1].numel() * trainer.world_size
        ends_step = (index + 1) % trainer.accumulate_grad_batches == 0
        if ends_step and self._is_logged(trainer, trainer.global_step):
            self._log(trainer, pl_module)
        if trainer.is_global_zero and now - self._last_beat > HEARTBEAT_SECONDS:
            self._last_beat = now
            with suppress(OSError):  # for who looks on; the next may be written
                progress = {"step": trainer.global_step, "steps": self.steps}
                write_json(self.run.directory / "progress.json", progress)

    def _is_logged(self, trainer: L.Trainer, step: int) -> bool:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return every > 0 and step % every == 0

    def _reached(self) -> dict[str, float]:
        """How far the training is."""
        return {"tokens": self.tokens, "seconds": self.training_seconds}

    def _memory(self, trainer: L.Trainer) -> float | None:
        """The most memory that was seen so far, in GB."""
        now = memory_gb(trainer.strategy.root_device)
        self._most_gb = now if self._most_gb is None or now is None else max(now, self._most_gb)
        return self._most_gb

    def _log(self, trainer: L.Trainer, task: Any) -> None:
        self.loss = float(task.step_loss())
        measured = {
            "train/loss": self.loss,
            "train/learning_rate": self.learning_rate,
            "train/tokens_per_second": self.tokens_per_second(),
            "epoch": trainer.current_epoch,
            "memory_gb": self._memory(trainer),
            **(self._watched.lambdas() if self._watched else {}),
            **self._gradients,
        }
        self.logs.log_metrics(measured, step=trainer.global_step - 1)  # counted from 0, as evaluations by Lightning

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluated = [0] * len(trainer.num_val_batches)
        self._lambdas = self._watched.lambdas() if self._watched else {}  # here, where every rank looks

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated[dataloader_idx] += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        expected = [sized_len(loader) for loader in trainer.val_dataloaders or ()]
        if any(there not in (None, done) for there, done in zip(expected, self._evaluated, strict=True)):
            return  # of some of the windows only
        if isinstance(data := trainer.datamodule, Data):  # type: ignore[attr-defined]  # Lightning sets it elsewhere
            data.require_unchanged()  # before these figures are recorded, and the weights are kept
        measured = {
            key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith(("val/", "test/"))
        }
        epoch = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.evaluations.append(
            {
                "step": trainer.global_step,
                "epoch": epoch / int(trainer.num_training_batches),
                "tokens": self.tokens,
                **measured,
                **self._lambdas,
            }
        )
        self.details = getattr(pl_module, "details", {})
        self.update(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SystemExit):  # it stops after a whole step, with a checkpoint
            self.update(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "details": self.details,
            "stopped": self.stopped,
            "tokens": self.tokens,
            "training_seconds": self.training_seconds,
            "seconds_before": self.wall_seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluations = list(state_dict["evaluations"])
        self.details = state_dict.get("details", {})
        self.stopped = state_dict.get("stopped")
        self.tokens = state_dict["tokens"]
        self.training_seconds = state_dict["training_seconds"]
        self.seconds_before = state_dict["seconds_before"]


class StopWatch(L.Callback):
    """Stands behind a callback of the user's, and tells the recorder if that one has ended the training."""

    def __init__(self, watched: L.Callback, recorder: RunRecorder):
        self.watched = watched
        self.recorder = recorder

    def _look(self, trainer: L.Trainer, *_: Any, **named: Any) -> None:
        if trainer.should_stop and self.recorder.stopped is None and trainer.global_step < self.recorder.steps:
            self.recorder.stopped = {"step": trainer.global_step, "by": type(self.watched).__name__}

    on_train_start = on_train_epoch_start = on_train_batch_start = on_train_batch_end = on_train_epoch_end = _look
    on_validation_start = on_validation_batch_end = on_validation_epoch_end = on_validation_end = _look


class RandomState(L.Callback):
    """Saves the random generators of every rank with the checkpoint, so that a resumed run draws the dropout it would
    have drawn. Each rank has its own generator. A rank that the checkpoint does not know starts a new one.
    """

    def __init__(self) -> None:
        self._saved: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        own = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            own["cuda"] = torch.cuda.get_rng_state()
        if not distributed.is_available() or not distributed.is_initialized():
            return {"ranks": [own]}
        ranks = [own] * distributed.get_world_size()
        distributed.all_gather_object(ranks, own)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict["ranks"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rank, on_gpu = trainer.global_rank, trainer.strategy.root_device.type == "cuda"
        saved = self._saved[rank] if rank < len(self._saved) else {}
        if rank or self._saved:  # a first rank that begins goes on from what it has drawn so far
            torch.manual_seed(torch.initial_seed() + rank + trainer.global_step)
        if "cpu" in saved:
            torch.set_rng_state(saved["cpu"])
        if "cuda" in saved and on_gpu:
            torch.cuda.set_rng_state(saved["cuda"])
