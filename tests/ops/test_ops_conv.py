"""The causal convolution against its formula, against PyTorch's own, and against itself in pieces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import causal_conv, causal_conv_sequential


def inputs(length: int, width: int = 4, channels: int = 5, batch: int = 2) -> list[Tensor]:
    """x, weight, bias and state in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, length, channels), (channels, width), (channels,), (batch, width - 1, channels)]
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def formula(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """y[t] = silu(bias + Σ_k weight[k] x[t - width + 1 + k]), where the state holds the x of negative t."""
    width = weight.shape[1]
    ys = []
    for t in range(x.shape[1]):
        total = bias.expand_as(x[:, t])
        for k in range(width):
            at = t - width + 1 + k
            total = total + weight[:, k] * (x[:, at] if at >= 0 else state[:, at])
        ys.append(total / (1 + torch.exp(-total)))
    return torch.stack(ys, dim=1)


def gradients(y: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad((y.double() * towards).sum(), leaves)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 33])
def test_conv_is_the_formula(length: int, width: int) -> None:
    leaves = [t.requires_grad_() for t in inputs(length, width)]
    used = leaves if width > 1 else leaves[:3]
    expected = formula(*leaves)
    expected_gradients = gradients(expected, used)
    for conv in (causal_conv, causal_conv_sequential):
        y, state = conv(*leaves)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(state, torch.cat([leaves[3], leaves[0]], dim=1)[:, length:])
        for found, judge in zip(gradients(y, used), expected_gradients, strict=True):
            torch.testing.assert_close(found, judge, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 33])
def test_without_a_state_it_is_conv1d_with_zeros_on_the_left(length: int) -> None:
    leaves = [t.requires_grad_() for t in inputs(length)[:3]]
    x, weight, bias = leaves
    padded = F.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    expected = F.silu(F.conv1d(padded, weight[:, None], bias, groups=len(bias))).transpose(1, 2)
    y = causal_conv(*leaves)[0]
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for found, judge in zip(gradients(y, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(found, judge, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.floats(0, 1))
def test_any_shape_in_one_piece_or_two(length: int, width: int, channels: int, batch: int, cut: float) -> None:
    x, weight, bias, state = inputs(length, width, channels, batch)
    expected = formula(x, weight, bias, state)
    pieces = []
    for piece in x.split([int(cut * length), length - int(cut * length)], dim=1):
        if piece.shape[1]:
            y, state = causal_conv(piece, weight, bias, state)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    leaves = [t.requires_grad_() for t in inputs(5, width=3, channels=2)]
    assert torch.autograd.gradcheck(causal_conv, leaves)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str)
def test_narrow_types_are_close(dtype: torch.dtype, tolerance: float) -> None:
    leaves = [t.to(dtype).requires_grad_() for t in inputs(130)]
    judges = [t.detach().double().requires_grad_() for t in leaves]
    y, expected = causal_conv(*leaves)[0], formula(*judges)
    assert y.dtype == dtype
    assert (y - expected).abs().max() <= tolerance * expected.abs().max()
    for found, judge in zip(gradients(y, leaves), gradients(expected, judges), strict=True):
        assert (found - judge).abs().max() <= tolerance * judge.abs().max()


@pytest.mark.parametrize("narrow", [(0,), (0, 3), (3,)], ids=["x", "x and the state", "the state"])
def test_narrow_inputs_meet_wide_weights(narrow: tuple[int, ...]) -> None:
    """Under autocast x comes in bfloat16 and the weights in float32: nothing is rounded but what came in."""
    leaves = [t.to(torch.bfloat16 if i in narrow else torch.float32).requires_grad_() for i, t in enumerate(inputs(9))]
    judges = [t.detach().double().requires_grad_() for t in leaves]
    y, expected = causal_conv(*leaves)[0], formula(*judges)
    assert y.dtype == torch.float32
    assert (y - expected).abs().max() <= 1e-6 * expected.abs().max()
    for found, judge, leaf in zip(gradients(y, leaves), gradients(expected, judges), leaves, strict=True):
        assert found.dtype == leaf.dtype
        assert (found - judge).abs().max() <= (1e-2 if leaf.dtype == torch.bfloat16 else 1e-6) * judge.abs().max()


def test_arguments_stay_as_they_are() -> None:
    leaves = [t.requires_grad_() for t in inputs(9)]
    kept = [t.detach().clone() for t in leaves]
    y, state = causal_conv(*leaves)
    (y.sum() + state.sum()).backward()
    assert all(torch.equal(leaf, t) for leaf, t in zip(leaves, kept, strict=True))
