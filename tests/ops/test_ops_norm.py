"""The norms against their formulas, group by group."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffmamba.ops import gated_rms_norm, rms_norm

EPSILON = 1e-5  # the paper's and mamba-ssm's


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["usual", "as small as epsilon"])
def test_rms_norm_is_its_formula(size: float) -> None:
    x, weight = randn(3, 7) * size, randn(7, seed=1)
    expected = torch.stack([row / math.sqrt(sum(v**2 for v in row.tolist()) / 7 + EPSILON) * weight for row in x])
    torch.testing.assert_close(rms_norm(x, weight), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_gate_comes_first_and_each_group_is_normalised_by_itself(groups: int) -> None:
    y, z, weight = randn(2, 5, groups, 6), randn(2, 5, groups, 6, seed=1), randn(groups, 6, seed=2)
    found = gated_rms_norm(y, z, weight)
    for group in range(groups):
        gated = y[..., group, :] * z[..., group, :] / (1 + torch.exp(-z[..., group, :]))
        root = (gated**2).mean(-1, keepdim=True).add(EPSILON).sqrt()
        torch.testing.assert_close(found[..., group, :], gated / root * weight[group], rtol=1e-12, atol=1e-12)


def test_one_weight_serves_all_groups() -> None:
    y, z, weight = randn(5, 2, 6), randn(5, 2, 6, seed=1), randn(6, seed=2)
    torch.testing.assert_close(gated_rms_norm(y, z, weight), gated_rms_norm(y, z, torch.stack([weight, weight])))


def written(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """The gated norm by its formula, its gradient left to autograd."""
    gated = y * z / (1 + torch.exp(-z))
    return gated / (gated.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight


def output_and_gradients(norm: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor]:
    out = norm(*leaves)
    towards = randn(*out.shape, seed=9)
    return [out, *torch.autograd.grad((out.double() * towards).sum(), leaves)]


def norm_arguments(groups: int = 2, shared: bool = False) -> list[Tensor]:
    weight = randn(6, seed=2) if shared else randn(groups, 6, seed=2)
    return [randn(2, 5, groups, 6), randn(2, 5, groups, 6, seed=1), weight]


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["usual", "as small as epsilon"])
def test_gated_norm_and_its_gradients_are_those_of_the_formula(size: float, groups: int, shared: bool) -> None:
    y, z, weight = norm_arguments(groups, shared)
    leaves = [t.requires_grad_() for t in (y * size, z, weight)]
    for found, expected in zip(
        output_and_gradients(gated_rms_norm, leaves), output_and_gradients(written, leaves), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True], ids=["a gain for each group", "one for all"])
def test_gradients_are_those_of_finite_differences(shared: bool) -> None:
    weight = randn(3, seed=2) if shared else randn(2, 3, seed=2)
    leaves = [t.requires_grad_() for t in (randn(2, 2, 3), randn(2, 2, 3, seed=1), weight)]
    assert torch.autograd.gradcheck(gated_rms_norm, leaves)


@pytest.mark.parametrize("wanted", range(3))
def test_each_gradient_alone_is_what_it_is_among_all(wanted: int) -> None:
    leaves = norm_arguments()
    leaf = leaves[wanted].requires_grad_()
    found, expected = (torch.autograd.grad(norm(*leaves).sum(), leaf)[0] for norm in (gated_rms_norm, written))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_slice_of_a_wider_tensor_will_do() -> None:
    """z is a slice of the mixer's projected input, whose memory must stay as it is."""
    y, z, weight = norm_arguments()
    both = torch.cat([y, z], dim=-1).requires_grad_()
    kept = both.detach().clone()

    def sliced(norm: Callable[..., Tensor]) -> Tensor:
        return torch.autograd.grad((norm(*both.split(6, dim=-1), weight) * randn(*y.shape, seed=9)).sum(), both)[0]

    torch.testing.assert_close(sliced(gated_rms_norm), sliced(written), rtol=1e-10, atol=1e-12)
    assert torch.equal(both, kept)


def test_second_derivatives_are_refused_rather_than_wrong() -> None:
    leaves = [t.requires_grad_() for t in norm_arguments()]
    (slope,) = torch.autograd.grad(gated_rms_norm(*leaves).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("zero", ["y", "z", "y and z"])
def test_zeros_stay_finite(zero: str) -> None:
    y, z, weight = (t.float() for t in norm_arguments())
    y, z = (torch.zeros_like(t) if name in zero else t for name, t in (("y", y), ("z", z)))
    found = output_and_gradients(gated_rms_norm, [t.requires_grad_() for t in (y, z, weight)])
    assert not found[0].any()
    assert all(t.isfinite().all() for t in found)


@pytest.mark.parametrize("size", [1e-18, 1e15])
def test_sizes_near_the_ends_of_float32_stay_finite(size: float) -> None:
    y, z, weight = (t.float() for t in norm_arguments())
    leaves = [t.requires_grad_() for t in (y * size, z, weight)]
    found = output_and_gradients(gated_rms_norm, leaves)
    expected = output_and_gradients(written, [t.detach().double().requires_grad_() for t in leaves])
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_float32_is_close_to_float64() -> None:
    leaves = [t.float().requires_grad_() for t in norm_arguments()]
    expected = output_and_gradients(written, [t.detach().double().requires_grad_() for t in leaves])
    for found, judge in zip(output_and_gradients(gated_rms_norm, leaves), expected, strict=True):
        assert found.dtype == torch.float32
        assert (found - judge).abs().max() <= 1e-6 * judge.abs().max()


def test_autocast_changes_nothing_where_all_is_wide() -> None:
    leaves = [t.float().requires_grad_() for t in norm_arguments()]
    expected = output_and_gradients(gated_rms_norm, leaves)
    with torch.autocast("cpu", torch.bfloat16):
        out = gated_rms_norm(*leaves)
    found = [out, *torch.autograd.grad((out.double() * randn(*out.shape, seed=9)).sum(), leaves)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("narrow", [(0,), (1,), (0, 1), (2,), (0, 1, 2)], ids=lambda i: " ".join("yzw"[k] for k in i))
def test_narrow_and_wide_arguments_mix(narrow: tuple[int, ...]) -> None:
    """Under autocast z comes in bfloat16, y and the gain in float32; a mixer in bfloat16 has all three narrow."""
    leaves = [
        t.to(torch.bfloat16 if i in narrow else torch.float32).requires_grad_() for i, t in enumerate(norm_arguments())
    ]
    found = output_and_gradients(gated_rms_norm, leaves)
    expected = output_and_gradients(written, [t.detach().double().requires_grad_() for t in leaves])
    for one, judge, like in zip(found[1:], expected[1:], leaves, strict=True):
        assert one.dtype == like.dtype
        assert (one - judge).abs().max() <= 2e-2 * judge.abs().max()
    assert (found[0] - expected[0]).abs().max() <= 2e-2 * expected[0].abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_statistics_of_narrow_types_are_wide(dtype: torch.dtype) -> None:
    x = (randn(4, 64) * 1000).to(dtype)  # squares overflow float16
    found = rms_norm(x, torch.ones(64, dtype=dtype))
    assert found.dtype == dtype
    wide = x.double()
    torch.testing.assert_close(found.double(), wide / wide.square().mean(-1, keepdim=True).sqrt(), rtol=1e-2, atol=1e-2)
