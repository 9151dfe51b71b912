"""mamba-ssm's references in plain PyTorch against our functions of the same, in a process of their own.

Their files lie in `.reference` at the top of the repository, or where $DIFFMAMBA_REFERENCE says, and not in the
environment, since transformers takes its kernels from a mamba-ssm that it can import. What only kernels need has
stand-ins while the files are imported. Of the references of the scans the faster ones are taken: the sequential one of
Mamba-2, and that of the whole block which rests on it, would take minutes at these sizes.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.child import ROOT
from benchmarks.passes import draw, off_by, passes
from benchmarks.timing import Clock, Patience
from benchmarks.variants import D_STATE_1
from diffmamba.ops import selective_scan, ssd

DIRECTORY = Path(os.environ.get("DIFFMAMBA_REFERENCE", ROOT / ".reference"))
DT_RANGE, A_RANGE = (0.001, 0.1), (-16.0, -1.0)  # what a mixer that was just built gives to a scan
CHUNK = 256  # what mamba-ssm's layers take
SHORT = 128  # of selective_scan_ref, whose backward takes time with the square of the length: a minute at 512

Function = Callable[..., Tensor]


def measure(
    batch: int, length: int, heads: int, headdim: int, d_state: int, patience: Patience
) -> dict[str, tuple[float, dict[str, dict[str, list[float]]]]]:
    """By reference: how far it is off ours, and the seconds of both by mode and round. In a child process."""
    their_scan, their_ssd = _import()
    clock, chunk, short = Clock(torch.device("cpu")), min(CHUNK, length), min(length, SHORT)
    references: dict[str, tuple[Function, Function, list[Tensor]]] = {
        "ssd_chunk_scan_combined_ref": (
            lambda *inputs: ssd(*inputs)[0],
            lambda *inputs: their_ssd.ssd_chunk_scan_combined_ref(*inputs[:5], chunk, D=inputs[5]),
            _inputs(batch, length, (heads, headdim), heads, (heads,), d_state),
        ),
        f"selective_scan_ref, length {short}": (
            lambda *inputs: selective_scan(*inputs)[0],
            lambda *inputs: _selective_scan(their_scan.selective_scan_ref, *inputs),
            _inputs(batch, short, (heads * headdim,), heads * headdim, (heads * headdim, D_STATE_1), D_STATE_1),
        ),
    }
    found = {}
    for name, (ours, theirs, inputs) in references.items():
        with torch.no_grad():
            difference = off_by(ours(*inputs), theirs(*inputs))
        sides = {"ours": passes(ours, *inputs), "other": passes(theirs, *inputs)}
        found[name] = (
            difference,
            {
                mode: clock.compare({side: calls[mode] for side, calls in sides.items()}, patience)
                for mode in sides["ours"]
            },
        )
    return found


def _inputs(
    batch: int, length: int, x: tuple[int, ...], steps: int, decays: tuple[int, ...], d_state: int
) -> list[Tensor]:
    """x, Δ, A, B, C, D of a scan, by the shapes of x, Δ and A beyond batch and length."""
    states = [draw(batch, length, 1, d_state) for _ in "BC"]
    dt, decay = _uniform(DT_RANGE, batch, length, steps), _uniform(A_RANGE, *decays)
    return [draw(batch, length, *x), dt, decay, *states, draw(steps)]


def _uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
    return torch.empty(shape).uniform_(*bounds).requires_grad_()


def _selective_scan(reference: Function, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Theirs has channels before positions."""
    B, C = (tensor.permute(0, 2, 3, 1) for tensor in (B, C))
    return reference(x.mT, dt.mT, A, B, C, D).mT


def _import() -> tuple[ModuleType, ModuleType]:
    """Their `selective_scan_interface` and `ssd_combined`."""
    sys.path.insert(0, str(DIRECTORY))
    package = ModuleType("mamba_ssm")  # whose own __init__ would import all its models
    package.__path__ = [str(DIRECTORY / "mamba_ssm")]
    stand_ins = {module.__name__: module for module in _stand_ins()}
    sys.modules.update(stand_ins, mamba_ssm=package)
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    ssd = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    for name in stand_ins:
        del sys.modules[name]  # before PyTorch looks for them
    return scan, ssd


def _stand_ins() -> Iterator[ModuleType]:
    """Modules for what only kernels need: enough of each to import the files that define kernels and references."""

    def module(name: str, **contents: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(contents)
        return made

    yield module("selective_scan_cuda")
    yield module("causal_conv1d.cpp_functions", __getattr__=lambda name: None)
    yield (language := module("triton.language", constexpr=None))
    yield module(
        "triton",
        __version__="3.5.0",
        language=language,
        jit=lambda kernel: kernel,
        heuristics=lambda values: lambda kernel: kernel,
        autotune=lambda configs, key: lambda kernel: SimpleNamespace(configs=configs),
        Config=lambda kwargs, num_warps=0, **_: SimpleNamespace(kwargs=kwargs, num_warps=num_warps),
    )
