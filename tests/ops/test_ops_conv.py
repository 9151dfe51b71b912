"""The causal convolution against its formula, against PyTorch's own, and against itself in pieces."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import assert_close, normal, outputs_and_gradients
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import causal_conv, causal_conv_sequential


def inputs(length: int, width: int = 4, channels: int = 5, batch: int = 2) -> list[Tensor]:
    """x, weight, bias and state in float64."""
    shapes = [(batch, length, channels), (channels, width), (channels,), (batch, width - 1, channels)]
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def formula(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y[t] = silu(bias + Σ_k weight[k] x[t - width + 1 + k]), where the state holds the x of negative t."""
    width = weight.shape[1]
    ys = []
    for t in range(x.shape[1]):
        total = bias.expand_as(x[:, t])
        for k in range(width):
            at = t - width + 1 + k
            total = total + weight[:, k] * (x[:, at] if at >= 0 else state[:, at])
        ys.append(total / (1 + torch.exp(-total)))
    return torch.stack(ys, dim=1), torch.cat([state, x], dim=1)[:, x.shape[1] :]


@pytest.mark.parametrize("conv", [causal_conv, causal_conv_sequential])
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 1), (3, 4), (3, 2), (4, 4), (33, 2), (33, 4)])
def test_conv_is_the_formula(conv: Callable[..., tuple[Tensor, Tensor]], length: int, width: int) -> None:
    arguments = inputs(length, width)
    assert_close(outputs_and_gradients(conv, arguments), outputs_and_gradients(formula, arguments), 1e-12)


@pytest.mark.parametrize("length", [1, 33])
def test_without_a_state_it_is_conv1d_with_zeros_on_the_left(length: int) -> None:
    def library(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        padded = F.pad(x.mT, (weight.shape[1] - 1, 0))
        return F.silu(F.conv1d(padded, weight[:, None], bias, groups=len(bias))).mT

    arguments = inputs(length)[:3]
    found = outputs_and_gradients(lambda *leaves: causal_conv(*leaves)[0], arguments)
    assert_close(found, outputs_and_gradients(library, arguments), 1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.floats(0, 1))
def test_any_shape_in_one_piece_or_two(length: int, width: int, channels: int, batch: int, cut: float) -> None:
    x, weight, bias, state = inputs(length, width, channels, batch)
    expected, _ = formula(x, weight, bias, state)
    pieces = []
    for piece in x.split([int(cut * length), length - int(cut * length)], dim=1):
        if piece.shape[1]:
            y, state = causal_conv(piece, weight, bias, state)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    leaves = [t.requires_grad_() for t in inputs(5, width=3, channels=2)]
    assert torch.autograd.gradcheck(causal_conv, leaves)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str)
def test_narrow_types_are_close(dtype: torch.dtype, tolerance: float) -> None:
    arguments = [t.to(dtype) for t in inputs(130)]
    found = outputs_and_gradients(causal_conv, arguments)
    assert {t.dtype for t in found} == {dtype}
    assert_close(found, outputs_and_gradients(formula, [t.double() for t in arguments]), tolerance)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("narrow", [(0,), (0, 3), (3,)], ids=["x", "x and the state", "the state"])
def test_narrow_inputs_meet_wide_weights(narrow: tuple[int, ...]) -> None:
    """Under autocast x comes in bfloat16 and the weights in float32: nothing is rounded but what came in."""
    arguments = [t.to(torch.bfloat16 if i in narrow else torch.float32) for i, t in enumerate(inputs(9))]
    y, *gradients = outputs_and_gradients(lambda *leaves: causal_conv(*leaves)[0], arguments)
    judge, *expected = outputs_and_gradients(lambda *leaves: formula(*leaves)[0], [t.double() for t in arguments])
    assert y.dtype == torch.float32
    assert_close([y], [judge], 1e-6)
    for found, exact, argument in zip(gradients, expected, arguments, strict=True):
        assert found.dtype == argument.dtype
        assert_close([found], [exact], 1e-2 if argument.dtype == torch.bfloat16 else 1e-6)


def test_arguments_stay_as_they_are() -> None:
    leaves = [t.requires_grad_() for t in inputs(9)]
    kept = [t.detach().clone() for t in leaves]
    y, state = causal_conv(*leaves)
    (y.sum() + state.sum()).backward()
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, kept, strict=True))
