"""The device and the operators that a command computes with, as its settings say."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffmamba.errors import SettingError

if TYPE_CHECKING:
    import torch


def chosen(settings: Mapping[str, Any]) -> str:
    """The device, cpu or cuda, that `device` and `backend` of `evaluate` and `generate` name. Selects the operators.

    Raises SettingError for what this machine does not have.
    """
    device = settings["device"]
    import torch  # here: --help needs none of it

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda finds no CUDA device here; use device=cpu or device=auto")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    select_operators(settings["backend"], on_gpu, torch.float32)
    return "cuda" if on_gpu else "cpu"


def select_operators(
    name: str,
    on_gpu: bool,
    dtype: "torch.dtype",
    setting: str = "backend",
    gpu: str = "device=cuda",
    cpu: str = "device=cpu",
) -> None:
    """Selects the operators for this process. Those of the CPU are compiled now, if that is still to be done.

    `setting` is the one that has `name`; `gpu` and `cpu` are what else to set for these devices. Raises SettingError
    for what is insisted on and cannot be used here.
    """
    from diffmamba.ops import backend

    if name == "cuda" and not on_gpu:
        raise SettingError(f"{setting}=cuda needs a CUDA device and {gpu}; or use {setting}=auto")
    if name == "cpu" and on_gpu:
        raise SettingError(f"{setting}=cpu needs {cpu}; or use {setting}=auto")
    reason = backend.unusable("cpu" if name == "auto" and not on_gpu else name, dtype)
    if reason and name != "auto":
        raise SettingError(f"{setting}={name}: {reason}, or use {setting}=auto")
    backend.select(name)
