"""What Lightning makes of the settings of `trainer` and `callbacks`: asked before a run has a record.

Lightning replaces some settings that a machine cannot do by others, and goes on. Here that is an error.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, ProgressBar
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from diffmamba.errors import SettingError, one_line
from diffmamba.runs.checkpoints import best_and_last
from diffmamba.runs.processes import Devices
from diffmamba.runs.quiet import quiet
from diffmamba.tasks import Task
from diffmamba.tasks.task import SPLITS

STRATEGIES = {"auto": object, "ddp": DDPStrategy, "fsdp": ModelParallelStrategy}
Callbacks = Mapping[str, partial[Callback]]


def check_trainer(trainer: partial[L.Trainer], devices: Devices, callbacks: Callbacks, task: type[Task]) -> None:
    """Builds a trainer that is thrown away. Raises SettingError for what it refuses, and for what it replaces."""
    users = build_callbacks(callbacks)
    for name, callback in zip(callbacks, users, strict=True):
        monitor = getattr(callback, "monitor", None)
        known = [f"{split}/{metric}" for split in SPLITS for metric in task.metrics]
        if isinstance(monitor, str) and monitor not in known:
            raise SettingError(f"callbacks.{name}.monitor={monitor} is not known; use one of {', '.join(known)}")
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise SettingError(f"callbacks.{name} changes what the settings say; set the value that you want itself")
    for variable in sorted(name for name in os.environ if name.startswith("PL_TRAINER_")):
        raise SettingError(f"the environment variable {variable} would change the training; unset it, and use settings")
    try:
        found = _built(trainer, devices, [*users, *best_and_last(Path(), task)])
    except SettingError:
        raise
    except Exception as error:
        raise SettingError(f"{_culprit(trainer, devices)} does not work here: {one_line(error)}") from error
    asked = trainer.keywords.get("precision", "32-true")
    if found.precision != asked:
        raise SettingError(f"trainer.precision={asked} is not possible here; use trainer.precision={found.precision}")
    if not isinstance(found.strategy, STRATEGIES[devices.strategy]):
        used = type(found.strategy).__name__
        raise SettingError(f"trainer.strategy={devices.strategy} is not possible here; Lightning would use {used}")
    if found.num_devices != devices.here():
        count = found.num_devices
        raise SettingError(f"trainer.devices={devices.devices} is not possible here; use trainer.devices={count}")


def build_callbacks(callbacks: Callbacks) -> list[Callback]:
    """The user's callbacks. Raises SettingError in one line where one cannot be built."""
    built: list[Callback] = []
    for name, make in callbacks.items():
        try:
            callback = make()
        except Exception as error:
            raise SettingError(f"callbacks.{name} cannot be built: {one_line(error)}") from error
        if not isinstance(callback, Callback) or isinstance(callback, ProgressBar):
            raise SettingError(f"callbacks.{name} must be a lightning.Callback, and no progress bar")
        built.append(callback)
    return built


def _built(
    trainer: partial[L.Trainer], devices: Devices, callbacks: Sequence[Callback], without: str = ""
) -> L.Trainer:
    nothing = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    arguments: dict[str, Any] = nothing | trainer.keywords | devices.for_lightning() | {"callbacks": list(callbacks)}
    with quiet():
        return trainer.func(**{name: value for name, value in arguments.items() if name != without})


def _culprit(trainer: partial[L.Trainer], devices: Devices) -> str:
    """What Lightning must be without to take all other settings."""
    for name in ("callbacks", *trainer.keywords):
        try:
            _built(trainer, devices, [], without=name)
        except Exception:
            continue
        return f"trainer.{name}={trainer.keywords[name]}" if name in trainer.keywords else name
    return "trainer"
