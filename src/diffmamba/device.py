"""The device and the operators that `evaluate` and `generate` compute with, as their settings say."""

from collections.abc import Mapping
from typing import Any

from diffmamba.errors import SettingError


def chosen(settings: Mapping[str, Any]) -> str:
    """The device, cpu or cuda, that `device` and `backend` name. Selects the operators for this process.

    Raises SettingError for what this machine does not have.
    """
    device, operators = settings["device"], settings["backend"]
    import torch  # here: --help needs none of it

    from diffmamba.ops import backend

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda finds no CUDA device here; use device=cpu or device=auto")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if operators == "cuda" and not on_gpu:
        raise SettingError("backend=cuda needs a CUDA device and device=cuda; or use backend=auto")
    if operators == "cuda" and (reason := backend.missing()):
        raise SettingError(f"backend=cuda: {reason}; {backend.INSTALL}, or use backend=auto")
    backend.select(operators)
    return "cuda" if on_gpu else "cpu"
