"""Small parts of a work that its settings are made into: for how long, how it is computed, and what Hydra builds."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from diffmamba.errors import SettingError
from diffmamba.ops import backend
from diffmamba.runs.processes import Devices

Settings = Mapping[str, Any]
"""A resolved configuration, as plain data."""


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
        backend: whose operators: auto, torch or cuda.
        compiled: whether the network is compiled with `torch.compile`.
        threads: of the CPU; None is all cores.
        precision: of the arithmetic. The only one of these that belongs to the identity.
    """

    devices: Devices
    backend: str
    compiled: bool
    threads: int | None
    precision: str

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

    def check(self, here: bool) -> None:
        """Raises SettingError for what cannot work, and selects the backend. `here`: on this machine."""
        if here:
            self.devices.check()
            self._check_operators()
            backend.select(self.backend)

    def check_memory(self, parameters: int) -> None:
        """Raises SettingError where a network, its gradients and AdamW's two moments do not fit into the memory."""
        needed, there = 4 * 4 * parameters, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if not self.devices.on_gpu and needed > there:
            raise SettingError(
                f"scale.d_model, scale.n_layers: training {parameters:,} parameters takes at least "
                f"{needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB; lower the sizes of the network"
            )

    def _check_operators(self) -> None:
        on_gpu = self.devices.on_gpu
        if self.backend == "cuda" and not on_gpu:
            raise SettingError("model.backend=cuda needs a CUDA device and trainer=gpu; or use model.backend=auto")
        if self.backend == "cuda" and (reason := backend.missing()):
            raise SettingError(f"model.backend=cuda: {reason}; {backend.INSTALL}, or use model.backend=auto")
        if self.backend == "cuda" and self.precision.startswith("64"):
            raise SettingError(
                "model.backend=cuda has no float64; use trainer.precision=32-true, or model.backend=auto"
            )
        compilers = (os.environ.get("CXX", "g++").split()[-1], "clang++")
        if self.compiled and not on_gpu and not any(map(shutil.which, compilers)):
            raise SettingError("compile=true needs a C++ compiler on a CPU; install g++, or use compile=false")


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
        reason = " ".join(str(cause or error).split())
        raise SettingError(f"{target} cannot be built from its settings: {reason}") from error
