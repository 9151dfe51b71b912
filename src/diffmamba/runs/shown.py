"""What a training shows while it runs: a bar on a terminal, else lines. Neither can fail the training."""

import inspect
import logging
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from diffmamba.errors import one_line
from diffmamba.output import Patient
from diffmamba.runs.recorder import RunRecorder
from diffmamba.runs.summary import duration
from diffmamba.runs.work import Training

ESTIMATE_SECONDS = 5.0  # of training, before it is said how long the rest takes

log = logging.getLogger(__name__)


def opening(work: Training, parameters: int) -> str:
    """What is trained on what, in one line."""
    facts, names, length = work.facts, work.settings, work.length
    sizes = ", ".join(f"{split} {size:,}" for split, size in facts["sizes"].items())
    return (
        f"{names['model']['name']} with {parameters:,} parameters on {facts['name']} ({sizes}; {facts['vocabulary']:,} "
        f"different symbols): {length.steps:,} steps, evaluated every {length.evaluate_every:,}"
    )


def shown(recorder: RunRecorder, bar: bool) -> Callback:
    """A bar if one is wanted and the output is a terminal, else lines."""
    return RunProgressBar(recorder) if bar and _on_terminal() else Lines(recorder)


def _on_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # there is no output, or it is closed
        return False


class Lines(L.Callback):
    """One line for every evaluation, and one about the speed after the first seconds."""

    def __init__(self, recorder: RunRecorder):
        self.recorder = recorder
        self._first_step = 0
        self._started = 0.0
        self._estimated = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first_step, self._started = trainer.global_step, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self._estimated and time.monotonic() - self._started > ESTIMATE_SECONDS:
            self._estimated = True
            self._say(trainer, f"step {trainer.global_step:,} of {trainer.max_steps:,}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        task: Any = pl_module
        name = task.headline.partition("/")[2]
        metric, found = task.metrics[name], trainer.callback_metrics
        splits = [split for split in ("test", "val") if f"{split}/{name}" in found]
        values = ", ".join(f"{split} {metric.label} {found[f'{split}/{name}']:.{metric.digits}f}" for split in splits)
        self._say(trainer, f"step {trainer.global_step:,} of {trainer.max_steps:,}: {values}")

    def _say(self, trainer: L.Trainer, said: str) -> None:
        """The line with the speed and the time left, at the pace of this session with its evaluations so far."""
        self._estimated = True
        if not trainer.is_global_zero:
            return
        step, now = trainer.global_step, time.monotonic()
        left = (now - self._started) / max(1, step - self._first_step) * (trainer.max_steps - step)
        speed = self.recorder.tokens_per_second() or 0.0
        log.info("%s, %s symbols/s%s", said, f"{speed:,.0f}", f", about {duration(left)} left" if left else "")


class RunProgressBar(RichProgressBar):
    """Lightning's bar, as long as the run where the run is shorter than an epoch, with the loss as last logged."""

    def __init__(self, recorder: RunRecorder):
        super().__init__(console_kwargs={"file": Patient(sys.stdout)})
        self.recorder = recorder

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        loss = {} if self.recorder.loss is None else {"train/loss": self.recorder.loss}
        return super().get_metrics(trainer, pl_module) | loss

    @property
    def total_train_batches(self) -> int | float:
        return min(super().total_train_batches, self.trainer.max_steps * self.trainer.accumulate_grad_batches)


def _unfailing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook of a bar, which ends the bar where it fails."""

    @wraps(hook)
    def unfailing(bar: RunProgressBar, *arguments: Any, **named: Any) -> Any:
        try:
            return hook(bar, *arguments, **named)
        except Exception as error:
            log.warning("the bar failed, the run goes on without it: %s", one_line(error))
            bar.disable()
            return None

    return unfailing


for _name, _hook in inspect.getmembers(RichProgressBar, inspect.isfunction):
    if _name in ("setup", "teardown") or _name.startswith("on_"):
        setattr(RunProgressBar, _name, _unfailing(_hook))
