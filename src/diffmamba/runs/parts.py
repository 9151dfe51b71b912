"""Small parts of a work that its settings are made into: for how long, how it is computed, and what Hydra builds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from diffmamba.device import select_operators
from diffmamba.errors import SettingError, one_line
from diffmamba.ops import backend
from diffmamba.ops.cpu.compiler import CompileError, compiler
from diffmamba.runs.processes import Devices

Settings = Mapping[str, Any]
"""A resolved configuration, as plain data."""
DTYPES = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
    "64-true": torch.float64,
}
"""What the operators are handed, by `trainer.precision`."""


@dataclass(frozen=True)
class Budget:
    """For how long a network is trained: `steps` of the optimiser, or `epochs`. None: the other one says.

    `evaluate_every` counts steps; None is once an epoch.
    """

    steps: int | None
    epochs: int | None
    evaluate_every: int | None

    def __post_init__(self) -> None:
        if not self.steps and not self.epochs:
            raise SettingError("scale.steps and scale.epochs are both null; set one of them")
        if self.steps and self.epochs:
            raise SettingError(
                f"scale.steps={self.steps} and scale.epochs={self.epochs} are both set; set one of them to null"
            )

    def over(self, steps_per_epoch: int) -> "Budget":
        """The same budget in steps alone."""
        steps = self.steps or (self.epochs or 0) * steps_per_epoch
        return Budget(steps, None, min(self.evaluate_every or steps_per_epoch, steps))


@dataclass(frozen=True)
class Execution:
    """How a work is computed, which changes nothing of its result but rounding.

    Args:
        devices: among what a step is divided.
        backend: whose operators, one of `ops.backend.BACKENDS`.
        compiled: whether the network is compiled with `torch.compile`.
        threads: of the CPU; None is all cores.
        precision: of the weights. The only one of these that belongs to the identity.
        in_float64: whether the arithmetic is in float64, whatever the precision is.
    """

    devices: Devices
    backend: str
    compiled: bool
    threads: int | None
    precision: str
    in_float64: bool = False

    @property
    def arithmetic(self) -> str:
        """The precision that it computes in."""
        return "64-true" if self.in_float64 else self.precision

    @classmethod
    def of(cls, settings: Settings, batch_size: int | None = None) -> "Execution":
        """The one that a configuration asks for."""
        trainer = settings["trainer"]
        devices = Devices(
            trainer["accelerator"],
            trainer["devices"],
            trainer["num_nodes"],
            trainer["strategy"],
            batch_size,
            trainer["accumulate_grad_batches"],
        )
        model = settings.get("model", {})
        return cls(
            devices, model.get("backend", "auto"), settings["compile"], settings["threads"], trainer["precision"]
        )

    def check(self, here: bool, compiles: str = "compile") -> None:
        """Raises SettingError for what cannot work, and selects the backend.

        Args:
            here: on this machine.
            compiles: the setting that has the network compiled.
        """
        if here:
            self.devices.check()
            self._check_compiler(compiles)
            if self.in_float64 and self.backend in ("cpu", "cuda"):
                raise SettingError(
                    f"model.backend={self.backend} has no float64, which this measure computes in; use "
                    "model.backend=auto or torch"
                )
            names = {"setting": "model.backend", "gpu": "trainer=gpu", "cpu": "trainer=cpu"}
            select_operators(self.backend, self.devices.on_gpu, DTYPES[self.arithmetic], **names)

    def operators(self, device: torch.device) -> dict[str, Any]:
        """What a record says of the operators that run on a device."""
        return {"backend": backend.describe(device, DTYPES[self.arithmetic]), "compiled": self.compiled}

    def check_memory(self, parameters: int) -> None:
        """Raises SettingError where a network, its gradients and AdamW's two moments do not fit into the memory."""
        needed, there = 4 * 4 * parameters, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if not self.devices.on_gpu and needed > there:
            raise SettingError(
                f"scale.d_model, scale.n_layers: training {parameters:,} parameters takes at least "
                f"{needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB; lower the sizes of the network"
            )

    def _check_compiler(self, setting: str) -> None:
        if self.compiled and not self.devices.on_gpu:
            try:
                compiler()
            except CompileError as error:
                needs = f"{setting}=true needs a C++ compiler on a CPU, and {error}"
                raise SettingError(f"{needs}; install g++, or use {setting}=false") from error


def built(node: Any, partial: bool = False) -> Any:
    """The part that a node with a `_target_` describes, or its constructor with the settings as a `functools.partial`.

    Raises SettingError in one line where it cannot be built.
    """
    try:
        return instantiate(node, **({"_partial_": True} if partial else {}))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SettingError):
            raise cause from None
        target = node.get("_target_", "a part") if isinstance(node, Mapping) else "a part"
        reason = one_line(cause or error)
        raise SettingError(f"{target} cannot be built from its settings: {reason}") from error


class Build(Protocol):
    """What makes parts: `built`, or a `BuiltOnce`."""

    def __call__(self, node: Any, partial: bool = False) -> Any: ...


class BuiltOnce:
    """Does as `built`, but once for each node: works whose configurations share a node share its part."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, bool], tuple[Any, Any]] = {}

    def __call__(self, node: Any, partial: bool = False) -> Any:
        key = (id(node), partial)
        if key not in self._found:  # the node is kept with its part, so that no other one gets its id
            try:
                self._found[key] = (node, built(node, partial))
            except SettingError as error:
                self._found[key] = (node, error)
        part = self._found[key][1]
        if isinstance(part, SettingError):
            raise part.with_traceback(None)
        return part
