"""The norms against their formulas, group by group."""

import math

import pytest
import torch

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


def test_gradients_are_those_of_finite_differences() -> None:
    leaves = [t.requires_grad_() for t in (randn(2, 2, 3), randn(2, 2, 3, seed=1), randn(2, 3, seed=2))]
    assert torch.autograd.gradcheck(gated_rms_norm, leaves)


def test_zeros_stay_finite() -> None:
    y = torch.zeros(2, 3, requires_grad=True)
    out = gated_rms_norm(y, torch.zeros(2, 3), torch.ones(3))
    out.sum().backward()
    assert not out.any()
    assert y.grad is not None
    assert y.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_statistics_of_narrow_types_are_wide(dtype: torch.dtype) -> None:
    x = (randn(4, 64) * 1000).to(dtype)  # squares overflow float16
    found = rms_norm(x, torch.ones(64, dtype=dtype))
    assert found.dtype == dtype
    wide = x.double()
    torch.testing.assert_close(found.double(), wide / wide.square().mean(-1, keepdim=True).sqrt(), rtol=1e-2, atol=1e-2)
