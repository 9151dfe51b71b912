"""Every CUDA kernel by itself against the definition in float64, and what each backend means on a GPU: `pytest -m gpu`.

Under Triton's interpreter the kernels are checked on a CPU, see `tests/ops/test_ops_kernels.py`.
"""

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from diffmamba.ops import backend, causal_conv, conv_scan_norm, cuda, gated_rms_norm, selective_scan, ssd
from diffmamba.ops.backend import BACKENDS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
BATCH, LENGTH = (1, 19) if INTERPRETED else (2, 333)  # no multiple of any chunk
HEADDIM = STATE = 16 if INTERPRETED else 64  # those of the mixers in test_gpu_parity.py, for which kernels are compiled
HEADS, WIDTH = 4, 4
INNER = HEADS * HEADDIM
NARROW = torch.float16 if INTERPRETED else torch.bfloat16  # which the interpreter lacks
BOUNDS = {torch.float32: (5e-3, 2e-2), NARROW: (5e-2, 1e-1)}
"""Of outputs and of gradients. On a GPU mamba-ssm's Mamba-2 kernels multiply float32 in TF32, of 10 bits."""
Tell = Callable[[str, str, dict[str, float]], None]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="there is no CUDA device here"),
]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def scan_arguments(x: tuple[int, ...], decays: tuple[int, ...], groups: int, dtype: torch.dtype) -> list[Tensor]:
    """x, dt, A, B, C, D as mixers hand them to a scan: what is not x, B or C stays in float32."""
    dt = 10 ** (-3 + 2 * torch.rand(BATCH, LENGTH, x[0], device=DEVICE))
    B, C = (draw(BATCH, LENGTH, groups, STATE, dtype=dtype) for _ in "BC")
    return [draw(BATCH, LENGTH, *x, dtype=dtype), dt, -1 - 15 * torch.rand(*decays, device=DEVICE), B, C, draw(x[0])]


def of_ssd(groups: int, dtype: torch.dtype, with_state: bool) -> tuple[Callable[..., object], list[Tensor]]:
    arguments = scan_arguments((HEADS, HEADDIM), (HEADS,), groups, dtype)
    return ssd, [*arguments, *([draw(BATCH, HEADS, HEADDIM, STATE)] if with_state else [])]


def of_selective_scan(dtype: torch.dtype) -> tuple[Callable[..., object], list[Tensor]]:
    return (lambda *arguments: selective_scan(*arguments)[0]), scan_arguments((INNER,), (INNER, STATE), 2, dtype)


def of_norm(groups: int, dtype: torch.dtype) -> tuple[Callable[..., object], list[Tensor]]:
    shape = (BATCH, LENGTH, groups, INNER // groups)
    return gated_rms_norm, [draw(*shape, dtype=dtype), draw(*shape, dtype=dtype), draw(*shape[2:])]


def of_conv(dtype: torch.dtype, with_state: bool) -> tuple[Callable[..., object], list[Tensor]]:
    arguments = [draw(BATCH, LENGTH, INNER, dtype=dtype), draw(INNER, WIDTH), draw(INNER)]
    state = [draw(BATCH, WIDTH - 1, INNER, dtype=dtype)] if with_state else []
    return (lambda *arguments: causal_conv(*arguments)[0]), [*arguments, *state]


def of_block(groups: int, dtype: torch.dtype) -> tuple[Callable[..., object], list[Tensor]]:
    heads, inner, channels = 8, 8 * HEADDIM, 8 * HEADDIM + 2 * groups * STATE
    decays = -1 - 15 * torch.rand(heads, device=DEVICE)
    sizes = [draw(channels, WIDTH), draw(channels), draw(heads) - 3, decays, draw(heads), draw(inner)]
    block = lambda *arguments: conv_scan_norm(*arguments, HEADDIM, groups)[0]  # noqa: E731
    return block, [draw(BATCH, LENGTH, inner + channels + heads, dtype=dtype), *sizes]


CASES = {
    "chunk_scan, one group": ("chunk_scan", partial(of_ssd, 1, with_state=False)),
    "chunk_scan, two groups, from a state": ("chunk_scan", partial(of_ssd, 2, with_state=True)),
    "gated_norm, one group": ("gated_norm", partial(of_norm, 1)),
    "gated_norm, two groups": ("gated_norm", partial(of_norm, 2)),
    "split_scan, two groups": ("split_scan", partial(of_block, 2)),
    "selective_scan": ("selective_scan", of_selective_scan),
    "conv": ("conv", partial(of_conv, with_state=False)),
    "conv, from a state": ("conv", partial(of_conv, with_state=True)),
}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_gives_what_float64_gives(
    case: str, dtype: torch.dtype, tell: Tell, need_kernels: Callable[..., None]
) -> None:
    name, build = CASES[case]
    need_kernels(name)
    torch.manual_seed(0)
    function, arguments = build(dtype=dtype)
    with backend.use("cuda"):
        found = outputs_and_gradients(function, arguments)
    with backend.use("torch"):
        expected = outputs_and_gradients(function, [argument.double() for argument in arguments])
    errors = {
        kind: max(error(*pair) for pair in zip(found[kind], expected[kind], strict=True))
        for kind in ("output", "gradient")
    }
    tell(case, f"{str(dtype).removeprefix('torch.')} by kernels", errors)
    assert all(off <= bound for off, bound in zip(errors.values(), BOUNDS[dtype], strict=True)), errors


def outputs_and_gradients(function: Callable[..., object], arguments: list[Tensor]) -> dict[str, list[Tensor]]:
    """All outputs, and the gradient of every argument for a fixed function of the outputs."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    found = function(*leaves)
    outputs = found if isinstance(found, tuple) else (found,)
    weights = (torch.linspace(-1, 1, out.numel(), device=DEVICE).cos().view_as(out) for out in outputs)
    total = sum((out.float() * weight).sum() for out, weight in zip(outputs, weights, strict=True))
    return {"output": [out.detach() for out in outputs], "gradient": list(torch.autograd.grad(total, leaves))}


def error(found: Tensor, judge: Tensor) -> float:
    """The largest difference over the judge's largest number; infinity for what is not a number."""
    return ((found.double() - judge).abs().max() / judge.abs().max()).nan_to_num(nan=float("inf")).item()


@pytest.mark.skipif(INTERPRETED, reason="it needs a CUDA device")
@pytest.mark.parametrize("name", BACKENDS)
def test_each_backend_on_a_gpu(name: str) -> None:
    function, arguments = of_ssd(2, torch.float32, with_state=True)
    expected, final = function(*(argument.double() for argument in arguments))
    with backend.use(name):
        described = backend.describe(torch.device("cuda"))
        assert "\n" not in described
        if name == "cpu" or (name == "cuda" and cuda.missing()):
            with pytest.raises(ValueError, match=rf"^backend={name}"):
                function(*arguments)
            return
        y, h = function(*arguments)
    assert described.startswith({"torch": "torch", "definition": "definition"}.get(name, ("cuda", "torch (")))
    for ours, theirs in ((y, expected), (h, final)):
        assert (ours - theirs).abs().max() <= 5e-3 * theirs.abs().max()
