"""How a training writes its checkpoints, and how it finds all of their state again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from diffmamba import atomic
from diffmamba.tasks import Task

PARTS = ("loops", "lr_schedulers", "callbacks")  # Lightning insists on weights and optimisers itself


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, so that a killed process leaves the old one whole.

    Lightning's own way goes through the system's temporary folder, which may be another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(target) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # PyTorch's own, which hides a full disk or Ctrl-C
                raise (error.__context__ or error) from None


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


def best_and_last(directory: Path, task: type[Task]) -> list[ModelCheckpoint]:
    """The two checkpoints of a run. They are two because under `save_last` "last" would be written only with "best"."""
    better = task.metrics[task.monitor.partition("/")[2]].better
    best = KeptCheckpoint(
        directory,
        "best",
        monitor=task.monitor,
        mode="min" if better == "lower" else "max",
        enable_version_counter=False,
    )
    last = KeptCheckpoint(directory, "last", save_on_train_epoch_end=False, enable_version_counter=False)
    return [best, last]


class IncompleteCheckpointError(RuntimeError):
    """A checkpoint lacks a state that the run depends on."""


class CompleteState(L.Callback):
    """Refuses to go on from a checkpoint without all the states that the run depends on.

    Lightning leaves a state as it is, without a word, where the checkpoint has none under its name.
    """

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        lacking = [part for part in PARTS if part not in checkpoint]
        states = checkpoint.get("callbacks", {})
        lacking += [c.state_key for c in trainer.callbacks if c.state_dict() and c.state_key not in states]
        data, precision = trainer.datamodule, trainer.precision_plugin
        owners = ([data] if data is not None else []) + ([precision] if precision.state_dict() else [])
        lacking += [type(owner).__qualname__ for owner in owners if type(owner).__qualname__ not in checkpoint]
        if lacking:
            raise IncompleteCheckpointError(f"the last checkpoint lacks the state of {', '.join(lacking)}")
