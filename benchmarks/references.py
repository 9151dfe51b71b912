"""mamba-ssm's references in plain PyTorch: how they are imported, and how they compare with our functions of the same.

`make setup` puts the Python files of mamba-ssm and causal-conv1d into `.reference` at the top of the repository, or
where $DIFFMAMBA_REFERENCE says. They are not in the environment, since transformers takes its kernels from a mamba-ssm
that it can import. Modules that only kernels need are replaced by stand-ins while the files are imported.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.models import D_STATE_1
from benchmarks.passes import MODES, draw, off_by, passes
from benchmarks.timing import compare
from diffmamba.ops import selective_scan, ssd

DIRECTORY = Path(os.environ.get("DIFFMAMBA_REFERENCE", Path(__file__).parents[1] / ".reference"))
PACKAGES = ("mamba_ssm", "causal_conv1d", "einops")
STAND_INS = ("triton", "selective_scan_cuda")
DT_RANGE, A_RANGE = (0.001, 0.1), (-16.0, -1.0)  # what a mixer that was just built gives to a scan
CHUNK = 256  # what mamba-ssm's layers take
SHORT = 128  # of selective_scan_ref, whose backward takes time with the square of the length: a minute at 512


@contextmanager
def imported(*names: str) -> Iterator[list[ModuleType]]:
    """Modules of mamba-ssm and causal-conv1d by name. Afterwards the modules and paths are as they were before."""
    with _without(*PACKAGES):
        with _without(*STAND_INS), patch("sys.path", [str(DIRECTORY), *sys.path]):  # gone before PyTorch looks for them
            sys.modules.update({module.__name__: module for module in _stand_ins()})
            modules = [importlib.import_module(name) for name in names]
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


def measure(sizes: SimpleNamespace, heads: int) -> dict[str, tuple[float, dict[str, dict[str, list[float]]]]]:
    """By reference: how far it is off ours, and the seconds of both by mode and round. In a child process.

    Of the references of the scans the faster ones are taken: the sequential one of Mamba-2, and that of the whole block
    which rests on it, would take minutes at these sizes.
    """
    batch, length, headdim, d_state = sizes.batch, sizes.length, sizes.mixer.headdim, sizes.mixer.d_state
    chunk, short, inner = min(CHUNK, length), min(length, SHORT), heads * headdim
    with imported("mamba_ssm.ops.selective_scan_interface", "mamba_ssm.ops.triton.ssd_combined") as (scan, combined):
        their_ssd, their_scan = combined.ssd_chunk_scan_combined_ref, scan.selective_scan_ref

        def of_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
            B, C = (tensor.permute(0, 2, 3, 1) for tensor in (B, C))  # channels before positions
            return their_scan(x.mT, dt.mT, A, B, C, D).mT

        sides = {
            "ssd_chunk_scan_combined_ref": (
                lambda *inputs: ssd(*inputs)[0],
                lambda *inputs: their_ssd(*inputs[:5], chunk, D=inputs[5]),
                _inputs(batch, length, (heads, headdim), (heads,), d_state),
            ),
            f"selective_scan_ref, length {short}": (
                lambda *inputs: selective_scan(*inputs)[0],
                of_scan,
                _inputs(batch, short, (inner,), (inner, D_STATE_1), D_STATE_1),
            ),
        }
        found = {}
        for name, (ours, theirs, inputs) in sides.items():
            calls = {"ours": passes(ours, *inputs), "other": passes(theirs, *inputs)}
            by_mode = {mode: compare({side: calls[side][mode] for side in calls}, sizes.patience) for mode in MODES}
            found[name] = off_by(ours, theirs, *inputs), by_mode
        return found


def _inputs(batch: int, length: int, x: tuple[int, ...], decays: tuple[int, ...], d_state: int) -> list[Tensor]:
    """x, Δ, A, B, C, D of a scan, by the shapes of x and A beyond batch and length."""
    dt, decay = torch.empty(batch, length, x[0]).uniform_(*DT_RANGE), torch.empty(decays).uniform_(*A_RANGE)
    states = [draw(batch, length, 1, d_state) for _ in "BC"]
    return [draw(batch, length, *x), dt.requires_grad_(), decay.requires_grad_(), *states, draw(x[0])]
