"""Weights: what a network starts from. Random ones, those of a run, or those in a file.

Each says which network they are of (`settings`), what determines them (`content`) and how they get into a network
(`load`). Weights of another kind, such as those of a model hub, are one more class and one more file in `conf/weights`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from diffmamba.errors import SettingError
from diffmamba.runs.store import Record, Run, RunStore

CHECKPOINTS = ("last", "best")
PREFIX = "network."  # of the network's parameters in a checkpoint of Lightning's


class Weights(ABC):
    """What a network starts from."""

    def settings(self, composed: Mapping[str, Any]) -> Mapping[str, Any]:
        """The configuration of the network that these are weights of; `composed` where they do not say."""
        return composed

    @abstractmethod
    def content(self) -> Any:
        """What determines the weights, as plain data for the identity."""

    @abstractmethod
    def load(self, network: nn.Module) -> None:
        """Puts the weights into a network. Raises SettingError where they are damaged or of another network."""

    def check(self, shapes: nn.Module) -> None:
        """Raises the same errors for a network on the meta device, before anything is computed."""
        return None

    def described(self) -> dict[str, Any]:
        """What a record says of them."""
        return {"kind": type(self).__name__}


@dataclass(frozen=True)
class Fresh(Weights):
    """Random weights, as the network was built."""

    def content(self) -> None:
        return None

    def load(self, network: nn.Module) -> None:
        return None


@dataclass(frozen=True)
class Trained(Weights):
    """The weights of the training that the same configuration describes. They become `OfRun` when it has run.

    Args:
        checkpoint: `last`, or `best` by the metric that its task monitors.
        start: what that training starts from.
    """

    checkpoint: str = "last"
    start: Weights = Fresh()

    def __post_init__(self) -> None:
        _check_checkpoint(self.checkpoint)

    def content(self) -> Any:
        raise TypeError("which training these weights are of is known to the measurement alone")

    def load(self, network: nn.Module) -> None:
        raise TypeError("weights of a training are loaded as those of its run")


@dataclass(frozen=True)
class OfRun(Weights):
    """The weights of a training in the run store.

    Args:
        run: its id, or its directory.
        checkpoint: `last`, or `best` by the metric that its task monitors.
        store: the run store that holds the id.
    """

    run: str
    checkpoint: str = "last"
    store: str = "runs"

    def __post_init__(self) -> None:
        _check_checkpoint(self.checkpoint)

    @cached_property
    def found(self) -> Run:
        """The run itself. Raises SettingError where there is none."""
        if not self.run:
            raise SettingError("run=DIR is missing: which directory of the run store to take; --help says more")
        given = Path(self.run).expanduser()
        run = Run(given) if Run(given).read() is not None else RunStore(self.store).run(str(self.run))
        if run.read() is None:
            raise SettingError(f"run={self.run} is not a run: there is no result.json in it")
        return run

    @cached_property
    def record(self) -> Record:
        """Its record. Raises SettingError where it is no training."""
        record = self.found.read()
        assert record is not None
        if record.get("kind", "training") != "training":
            raise SettingError(f"run={self.run} is a {record['kind']}; weights come from a training")
        if "module" not in record["config"].get("data", {}):
            raise SettingError(f"run={self.run} was recorded by an earlier version of diffmamba; train it again")
        return record

    def settings(self, composed: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.record["config"]

    def content(self) -> Any:
        return {"run": self.record["id"], "checkpoint": self.checkpoint} | (
            {} if self.record["status"] == "finished" else {"step": self.step}
        )

    def load(self, network: nn.Module) -> None:
        network.load_state_dict(fitting(network, *self.opened))

    def check(self, shapes: nn.Module) -> None:
        fitting(shapes, *self.opened)

    @cached_property
    def opened(self) -> tuple[Path, Any]:
        """The checkpoint and its content, opened once: a training that goes on replaces the file."""
        path = self.found.checkpoint(self.checkpoint)
        return path, read_checkpoint(path)

    def described(self) -> dict[str, Any]:
        return {"kind": "OfRun", "run": self.record["id"], "checkpoint": self.checkpoint, "step": self.step}

    @cached_property
    def step(self) -> int:
        """Optimiser steps that the checkpoint was trained for."""
        return self.opened[1]["global_step"]


@dataclass(frozen=True)
class OfFile(Weights):
    """The weights in a file: one of Lightning's checkpoints, or the parameters of a network by name.

    Args:
        path: `.safetensors`, or anything that `torch.load` reads.
    """

    path: str

    def content(self) -> Any:
        return {"sha256": self.digest}

    def load(self, network: nn.Module) -> None:
        network.load_state_dict(fitting(network, self.file, read_checkpoint(self.file)))

    def check(self, shapes: nn.Module) -> None:
        fitting(shapes, self.file, read_checkpoint(self.file))

    @property
    def file(self) -> Path:
        """The path, with the user's home in the place of ~."""
        return Path(self.path).expanduser()

    def described(self) -> dict[str, Any]:
        return {"kind": "OfFile", "path": self.path, "sha256": self.digest}

    @cached_property
    def digest(self) -> str:
        """The hash of the file's content."""
        try:
            with self.file.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise SettingError(f"weights.path={self.path} cannot be read: {error.strerror}") from None


def fitting(network: nn.Module, path: Path, content: Any) -> dict[str, Tensor]:
    """The weights in a file's content for this network. Raises SettingError if they are of another architecture."""
    found = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not found or not all(isinstance(weight, Tensor) for weight in found.values()):
        raise SettingError(f"{path} holds no parameters by name; give a checkpoint or a network's state_dict")
    if any(name.startswith(PREFIX) for name in found):
        found = {name.removeprefix(PREFIX): weight for name, weight in found.items() if name.startswith(PREFIX)}
    expected = network.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | found.keys()
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    )
    if wrong:
        raise SettingError(
            f"{path} is of another architecture: {len(wrong)} of {len(expected)} parameters do not fit, "
            f"{wrong[0]} first; give the model settings it was trained with"
        )
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, mapped into memory; or a SettingError that names the file."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise SettingError(f"there is no checkpoint {path}") from None
    except Exception as error:
        reason = type(error).__name__
        raise SettingError(f"{path} is not a readable checkpoint ({reason}); restore or remove it") from error


def _check_checkpoint(name: str) -> None:
    if name not in CHECKPOINTS:
        raise SettingError(f"checkpoint={name} is not known; use one of {', '.join(CHECKPOINTS)}")
