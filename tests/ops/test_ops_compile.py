"""Under `torch.compile` an operator is one graph, with the same outputs and gradients as without."""

import shutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from judge import assert_close, normal, outputs_and_gradients, selective_arguments, ssd_arguments
from torch import Tensor

from diffmamba.ops import causal_conv, gated_rms_norm, selective_scan, ssd, ssd_chunked

CONV, SCAN = (import_module(f"diffmamba.ops.{name}") for name in ("conv", "selective_scan"))


def conv_arguments(length: int = 45) -> list[Tensor]:
    return [normal(*shape, seed=i) for i, shape in enumerate([(2, length, 8), (8, 4), (8,), (2, 3, 8)])]


def norm_arguments(length: int = 45) -> list[Tensor]:
    return [normal(*shape, seed=i) for i, shape in enumerate([(2, length, 2, 8), (2, length, 2, 8), (2, 8)])]


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers, with the first two dimensions exchanged in memory."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def last_first(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT


def sliced(tensor: Tensor) -> Tensor:
    """A slice of a wider tensor, as x, B and C of a mixer are."""
    return torch.cat([tensor, tensor], dim=-1)[..., : tensor.shape[-1]]


LAYOUTS = pytest.mark.parametrize("layout", [torch.clone, transposed, last_first, sliced], ids=lambda f: f.__name__)


def prepared(arguments: list[Tensor], layout: Callable[[Tensor], Tensor], gradients: bool = True) -> list[Tensor]:
    return [(layout(t.float()) if t.dim() > 1 else t.float()).detach().requires_grad_(gradients) for t in arguments]


def assert_told(operator: Any, *arguments: Any, thoroughly: bool = False) -> None:
    """Checks sizes, types and memory order of the outputs, and that no input is returned or changed."""
    tests = {} if thoroughly else {"test_utils": ("test_schema", "test_faketensor")}
    torch.library.opcheck(operator, arguments, **tests)


@LAYOUTS
@pytest.mark.parametrize("gradients", [True, False])
def test_what_the_operators_tell_the_compiler_is_so(layout: Callable[[Tensor], Tensor], gradients: bool) -> None:
    thoroughly = layout is sliced and gradients  # then also traced and differentiated, which is slow
    for operator, arguments in (
        (ssd_chunked._chunked, (*prepared(ssd_arguments(45), layout, gradients), 16, gradients)),
        (SCAN._chunked, prepared(selective_arguments(45), layout, gradients)),
        (CONV._convolve, prepared(conv_arguments(), layout, gradients)),
    ):
        assert_told(operator, *arguments, thoroughly=thoroughly)


@LAYOUTS
def test_what_their_gradients_tell_the_compiler_is_so(layout: Callable[[Tensor], Tensor]) -> None:
    def towards(tensor: Tensor) -> Tensor:
        return layout(torch.ones_like(tensor))

    inputs = prepared(ssd_arguments(45), layout, gradients=False)
    y, final, *kept = ssd_chunked._chunked(*inputs, 16, True)
    assert_told(ssd_chunked._chunked_gradient, towards(y), towards(final), *inputs[:-1], *kept, 16)
    inputs = prepared(selective_arguments(45), layout, gradients=False)
    y, final, *kept = SCAN._chunked(*inputs)
    assert_told(SCAN._chunked_gradient, towards(y), towards(final), *inputs[:-1], *kept)
    inputs = prepared(conv_arguments(), layout, gradients=False)
    y, before = CONV._convolve(*inputs)
    assert_told(CONV._convolve_gradient, towards(y), *inputs[:2], inputs[3], before)


@pytest.mark.parametrize("narrow", [(0,), (0, 3), (0, 1, 2, 3)], ids=str)
def test_a_narrow_convolution_tells_its_type(narrow: tuple[int, ...]) -> None:
    """Under autocast x comes in bfloat16, the weights in float32."""
    inputs = [t.to(torch.bfloat16 if i in narrow else torch.float32) for i, t in enumerate(conv_arguments())]
    y, before = CONV._convolve(*inputs)
    assert_told(CONV._convolve, *inputs)
    assert_told(CONV._convolve_gradient, torch.ones_like(y), *inputs[:2], inputs[3], before)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (ssd, ssd_arguments),
        (selective_scan, selective_arguments),
        (causal_conv, conv_arguments),
        (gated_rms_norm, norm_arguments),
    ],
    ids=lambda value: value.__name__,
)
def test_each_is_one_graph_whatever_the_length(
    operator: Callable[..., Any], arguments: Callable[[int], list[Tensor]]
) -> None:
    torch.compiler.reset()
    compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
    for length in (45, 33, 1):
        inputs = arguments(length)
        assert_close(outputs_and_gradients(compiled, inputs), outputs_and_gradients(operator, inputs), 1e-12)
    with torch.no_grad():
        assert_close(compiled(*inputs), operator(*inputs), 1e-12)


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile on a CPU needs a C++ compiler"
)
def test_the_default_compiler_gives_the_same() -> None:
    """With code generation, for the operators that have no code of PyTorch around them: it takes many seconds."""

    def both_scans(*leaves: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, state, dt, A, B, C, D = leaves
        x, _ = causal_conv(x, weight, bias, state)
        y, h = ssd(x.unflatten(-1, (4, 2)), dt, A, B, C, D)
        z, g = selective_scan(y.flatten(-2)[..., :4], dt, A[:, None].expand(4, 5), B, C, D)
        return z, h, g

    arguments = [t.float() for t in (*conv_arguments(), *ssd_arguments(45)[1:6])]
    torch.compiler.reset()
    unoptimised = {"aot_inductor.debug_compile": True}  # the C++ compiler then takes half the time
    compiled = torch.compile(both_scans, fullgraph=True, options=unoptimised)
    assert_close(outputs_and_gradients(compiled, arguments), outputs_and_gradients(both_scans, arguments), 1e-5)
