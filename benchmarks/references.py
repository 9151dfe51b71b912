"""mamba-ssm's references in plain PyTorch: how they are imported, and how they compare with our functions of the same.

`make setup` puts the Python files of mamba-ssm and causal-conv1d into `.reference` at the top of the repository, or
where $DIFFMAMBA_REFERENCE says. They are not in the environment, since transformers takes its kernels from a mamba-ssm
that it can import. Modules that only kernels need are replaced by stand-ins while the files are imported.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import D_STATE_1
from benchmarks.passes import MODES, draw, off_by, passes
from benchmarks.timing import Patience, compare
from diffmamba.ops import selective_scan, ssd

DIRECTORY = Path(os.environ.get("DIFFMAMBA_REFERENCE", Path(__file__).parents[1] / ".reference"))
PACKAGES = ("mamba_ssm", "causal_conv1d", "einops")
STAND_INS = ("triton", "selective_scan_cuda")
DT_RANGE, A_RANGE = (0.001, 0.1), (-16.0, -1.0)  # what a mixer that was just built gives to a scan
CHUNK = 256  # what mamba-ssm's layers take
SHORT = 128  # of selective_scan_ref, whose backward takes time with the square of the length: a minute at 512

Function = Callable[..., Tensor]


@contextmanager
def imported(*names: str) -> Iterator[list[ModuleType]]:
    """Modules of mamba-ssm and causal-conv1d by name. Afterwards the modules and paths are as they were before."""
    with _without(*PACKAGES):
        with _without(*STAND_INS):  # gone before PyTorch looks for them
            sys.modules.update({module.__name__: module for module in _stand_ins()})
            sys.path.insert(0, str(DIRECTORY))
            try:
                modules = [importlib.import_module(name) for name in names]
            finally:
                sys.path.remove(str(DIRECTORY))
        yield modules


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """As if these packages had not been loaded yet; afterwards they are as they were before."""

    def take_out() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in packages}

    before = take_out()
    try:
        yield
    finally:
        take_out()
        sys.modules.update(before)


def _stand_ins() -> Iterator[ModuleType]:
    """Stand-ins for modules that only kernels need, enough to import the files with kernels and references."""

    def module(name: str, **contents: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(contents)
        return made

    yield module("mamba_ssm", __path__=[str(DIRECTORY / "mamba_ssm")])  # its own __init__ imports all its models
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


def measure(
    batch: int, length: int, heads: int, headdim: int, d_state: int, patience: Patience
) -> dict[str, tuple[float, dict[str, dict[str, list[float]]]]]:
    """By reference: how far it is off ours, and the seconds of both by mode and round. In a child process.

    Of the references of the scans the faster ones are taken: the sequential one of Mamba-2, and that of the whole block
    which rests on it, would take minutes at these sizes.
    """
    chunk, short, inner = min(CHUNK, length), min(length, SHORT), heads * headdim
    with imported("mamba_ssm.ops.selective_scan_interface", "mamba_ssm.ops.triton.ssd_combined") as (scan, combined):
        sides: dict[str, tuple[Function, Function, list[Tensor]]] = {
            "ssd_chunk_scan_combined_ref": (
                lambda *inputs: ssd(*inputs)[0],
                lambda *inputs: combined.ssd_chunk_scan_combined_ref(*inputs[:5], chunk, D=inputs[5]),
                _inputs(batch, length, (heads, headdim), heads, (heads,), d_state),
            ),
            f"selective_scan_ref, length {short}": (
                lambda *inputs: selective_scan(*inputs)[0],
                lambda *inputs: _channels_first(scan.selective_scan_ref, *inputs),
                _inputs(batch, short, (inner,), inner, (inner, D_STATE_1), D_STATE_1),
            ),
        }
        found = {}
        for name, (ours, theirs, inputs) in sides.items():
            calls = {"ours": passes(ours, *inputs), "other": passes(theirs, *inputs)}
            by_mode = {mode: compare({side: calls[side][mode] for side in calls}, patience) for mode in MODES}
            found[name] = off_by(ours, theirs, *inputs), by_mode
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


def _channels_first(reference: Function, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """A reference that has channels before positions, of tensors that have them after."""
    B, C = (tensor.permute(0, 2, 3, 1) for tensor in (B, C))
    return reference(x.mT, dt.mT, A, B, C, D).mT
