"""Weights: what a network starts from. Random ones, those of a run, or those in a file.

Each says which network they are of (`settings`), what determines them (`content`) and how they get into a network
(`load`). Weights of another kind, such as those of a model hub, are one more class and one more file in `conf/weights`.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from diffmamba.errors import SettingError
from diffmamba.runs.store import MOST_TOLD, WELL, Record, Run, RunStore
from diffmamba.settings import Checkpoint

BEGIN_ANEW = "put a copy in its place, or move it away: then the training starts from the beginning"
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

    checkpoint: Checkpoint = "last"
    start: Weights = Fresh()

    def content(self) -> Any:
        raise TypeError("which training these weights are of is known to the measurement alone")

    def load(self, network: nn.Module) -> None:
        raise TypeError("weights of a training are loaded as those of its run")


@dataclass(frozen=True)
class OfRun(Weights):
    """The weights of a training in the run store.

    Args:
        run: its id, the beginning of it, or its directory.
        checkpoint: `last`, or `best` by the metric that its task monitors.
        store: the run store that holds the id.
        named: the setting that gives `run`, for messages.
    """

    run: str
    checkpoint: Checkpoint = "last"
    store: str = "runs"
    named: str = "run"

    @cached_property
    def found(self) -> Run:
        """The run itself. Raises SettingError where there is none, or several."""
        if not self.run:
            raise SettingError(f"{self.named}=ID is missing: which run of the run store to take; --help says more")
        run = self._in_its_directory() or RunStore(self.store).run(self._id())
        try:
            record = run.load()
        except OSError as error:
            raise SettingError(f"{self.named}={self.run} cannot be read: {error}") from None
        if record is None:
            raise SettingError(f"{self.named}={self.run} is not a run: there is no result.json in it")
        return run

    def _in_its_directory(self) -> Run | None:
        """The run, if it is given by its directory."""
        given = Path(str(self.run)).expanduser()
        if not os.path.lexists(given / "result.json"):
            return None
        return Run(given.resolve() if given.is_symlink() or given.name in ("", "..") else given)

    def _id(self) -> str:
        """The id that the given one is, or begins."""
        store, given = RunStore(self.store), str(self.run).rstrip("/")
        ids = store.ids()
        if (found := store.id_of(given, ids, f"{self.named}={given}")) is not None:
            return found
        near = get_close_matches(given, ids, MOST_TOLD)
        advice = f"; nearest in {self.store} are {', '.join(near)}" if near else f", and {self.store} has no such id"
        raise SettingError(f"{self.named}={given} is not a run: there is no result.json in it{advice}")

    @cached_property
    def record(self) -> Record:
        """Its record. Raises SettingError where it is no training."""
        record = self.found.read()
        assert record is not None
        if record["kind"] != "training":
            raise SettingError(f"{self.named}={self.run} is a {record['kind']}; weights come from a training")
        if "module" not in record["config"].get("data", {}):
            raise SettingError(
                f"{self.named}={self.run} was recorded by an earlier version of diffmamba; train it again"
            )
        return record

    def settings(self, composed: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.record["config"]

    def content(self) -> Any:
        return {"run": self.record["id"], "checkpoint": self.checkpoint} | (
            {} if self.record["status"] in WELL else {"step": self.step}
        )

    def load(self, network: nn.Module) -> None:
        network.load_state_dict(fitting(network, *self.opened))

    def check(self, shapes: nn.Module) -> None:
        fitting(shapes, *self.opened)

    @cached_property
    def opened(self) -> tuple[Path, Any]:
        """The checkpoint and its content, opened once: a training that goes on replaces the file."""
        path = self.found.checkpoint(self.checkpoint)
        other = "best" if self.checkpoint == "last" else "last"
        advice = f"put a copy in its place, or use its other checkpoint: {other}"
        if not path.exists() and self.record["status"] not in WELL:
            raise SettingError(f"{self.named}={self.run} is {self.record['status']}, and has no checkpoint {path}")
        content = read_checkpoint(path, advice)
        if not isinstance(content, dict) or type(content.get("global_step")) is not int:
            raise SettingError(f"{path} is no checkpoint of a training; {advice}")
        return path, content

    def described(self) -> dict[str, Any]:
        described = {"kind": "OfRun", "run": self.record["id"], "checkpoint": self.checkpoint, "step": self.step}
        return described | ({"anew": self.found.times_before} if self.found.times_before else {})

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
        network.load_state_dict(fitting(network, self.file, self._content()))

    def check(self, shapes: nn.Module) -> None:
        fitting(shapes, self.file, self._content())

    def _content(self) -> Any:
        return read_checkpoint(self.file, "weights.path takes a checkpoint, or parameters by name")

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


def read_checkpoint(path: Path, advice: str = BEGIN_ANEW) -> dict[str, Any]:
    """A checkpoint's content, mapped into memory; or a SettingError that names the file, and the `advice`."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise SettingError(f"there is no checkpoint {path}") from None
    except Exception as error:
        raise SettingError(f"{path} is not a readable checkpoint ({type(error).__name__}); {advice}") from error
