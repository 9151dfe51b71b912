"""mamba-ssm's references in plain PyTorch against our functions of the same, in a process of their own.

Their files lie in `.reference` at the top of the repository, or where $DIFFMAMBA_REFERENCE says, and not in the
environment, since transformers takes its kernels from a mamba-ssm that it can import. What only kernels need has
stand-ins while the files are imported. Of the references of the scans the faster ones are taken: the sequential one of
Mamba-2, and that of the whole block which rests on it, would take minutes at these sizes.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import Tensor

from benchmarks.child import ROOT
from benchmarks.passes import A_RANGE, DT_RANGE, draw, uniform
from benchmarks.variants import D_STATE_1, Scale, mixer
from diffmamba.ops import selective_scan, ssd

DIRECTORY = Path(os.environ.get("DIFFMAMBA_REFERENCE", ROOT / ".reference"))
CHUNK = 256  # what mamba-ssm's layers take
SHORT = 128  # of selective_scan_ref, whose backward takes time with the square of the length: a minute at 512

Function = Callable[..., Tensor]
Pair = tuple[str, Function, Function, tuple[Tensor, ...]]


def pairs(scale: Scale, batch: int, length: int) -> Iterator[Pair]:
    """Name, our function, theirs, and inputs for both."""
    their_scan, their_ssd = _import()
    block = mixer("mamba", scale)
    chunk = min(CHUNK, length)
    yield (
        "ssd_chunk_scan_combined_ref",
        lambda *inputs: ssd(*inputs)[0],
        lambda *inputs: their_ssd.ssd_chunk_scan_combined_ref(*inputs[:5], chunk, D=inputs[5]),
        (
            draw(batch, length, block.heads, scale.headdim),
            uniform(*DT_RANGE, batch, length, block.heads),
            uniform(*A_RANGE, block.heads),
            draw(batch, length, 1, scale.d_state),
            draw(batch, length, 1, scale.d_state),
            draw(block.heads),
        ),
    )
    inner, length = block.d_inner, min(length, SHORT)
    yield (
        f"selective_scan_ref, length {length}",
        lambda *inputs: selective_scan(*inputs)[0],
        partial(_selective_scan, their_scan.selective_scan_ref),
        (
            draw(batch, length, inner),
            uniform(*DT_RANGE, batch, length, inner),
            uniform(*A_RANGE, inner, D_STATE_1),
            draw(batch, length, 1, D_STATE_1),
            draw(batch, length, 1, D_STATE_1),
            draw(inner),
        ),
    )


def _selective_scan(reference: Function, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Theirs has channels before positions."""
    B, C = (tensor.permute(0, 2, 3, 1) for tensor in (B, C))
    return reference(x.mT, dt.mT, A, B, C, D).mT


def _import() -> tuple[ModuleType, ModuleType]:
    """Their `selective_scan_interface` and `ssd_combined`."""
    sys.path.insert(0, str(DIRECTORY))
    package = ModuleType("mamba_ssm")  # whose own __init__ would import all its models
    package.__path__ = [str(DIRECTORY / "mamba_ssm")]
    sys.modules["mamba_ssm"] = package
    stand_ins = dict(_stand_ins())
    sys.modules.update(stand_ins)
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    ssd = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    for name in stand_ins:
        del sys.modules[name]  # before PyTorch looks for them
    return scan, ssd


def _stand_ins() -> Iterator[tuple[str, ModuleType]]:
    """Modules for what only kernels need: enough of each to import the files that define kernels and references."""

    def module(name: str, **contents: Any) -> tuple[str, ModuleType]:
        made = ModuleType(name)
        vars(made).update(contents)
        return name, made

    yield module("selective_scan_cuda")
    yield module("causal_conv1d.cpp_functions", __getattr__=lambda name: None)
    if importlib.util.find_spec("triton") is None:
        _, language = module("triton.language", constexpr=None)
        yield "triton.language", language
        yield module(
            "triton",
            __version__="3.5.0",
            language=language,
            jit=lambda kernel: kernel,
            heuristics=lambda values: lambda kernel: kernel,
            autotune=lambda configs, key: lambda kernel: SimpleNamespace(configs=configs),
            Config=lambda kwargs, num_warps=0, **_: SimpleNamespace(kwargs=kwargs, num_warps=num_warps),
        )
