"""One pass equals two blocks: the identity the whole package rests on.

The reference is two separate Mamba-2 blocks with a sequential scan, combined by the formulas of *Differential Mamba*,
all written here and in `formulas.py`. It takes its weights from the mixer by the documented layout: z, x, B, C and dt,
in each of them branch 1 before branch 2. Gradients are compared parameter by parameter.
"""

from functools import partial

import pytest
import torch
from formulas import (
    D_MODEL,
    DEPTH,
    PRECISIONS,
    Weights,
    assert_same_function,
    combination,
    convolution,
    lambda_init,
    randomised,
    rms,
    silu,
    single,
    slices,
)
from torch import Tensor

from diffmamba.mixers import Difference, Mamba2, Single

HEADDIM, D_STATE = 4, 3


def gated_scan(
    inputs: Tensor, p: Weights, branch: int, branches: int, groups: int, expand: int, shared: bool
) -> Tensor:
    """One branch up to its output projection: N(y · silu(z)), `(batch, length, d_inner)`."""
    d_inner = expand * D_MODEL
    heads = d_inner // HEADDIM
    states = groups * D_STATE
    z, x, B, C, dt = (
        inputs @ rows.T
        for rows in slices(p["in_proj.weight"], [d_inner, d_inner, states, states, heads], branch, branches)
    )
    own = (0, 1) if shared else (branch, branches)
    filters = slices(p["conv1d.weight"], [d_inner, states, states], *own)
    biases = slices(p["conv1d.bias"], [d_inner, states, states], *own)
    x, B, C = (convolution(s, f[:, 0], b) for s, f, b in zip((x, B, C), filters, biases, strict=True))
    (A,) = slices(-p["A_log"].exp(), [heads], branch, branches)
    (D,) = slices(p["D"], [heads], branch, branches)
    (bias,) = slices(p["dt_bias"], [heads], branch, branches)
    (gain,) = slices(p["norm.weight"], [d_inner], *own)
    dt = (dt + bias).exp().log1p()  # softplus
    columns = []
    for head in range(heads):
        group = head // (heads // groups) * D_STATE
        h = inputs.new_zeros(len(inputs), HEADDIM, D_STATE)
        ys = []
        for t in range(inputs.shape[1]):
            step = dt[:, t, head, None, None]
            x_t = x[:, t, head * HEADDIM : (head + 1) * HEADDIM, None]
            h = (step * A[head]).exp() * h + step * x_t * B[:, t, None, group : group + D_STATE]
            ys.append((h * C[:, t, None, group : group + D_STATE]).sum(-1) + D[head] * x_t[..., 0])
        columns.append(torch.stack(ys, dim=1))
    gated = torch.cat(columns, dim=-1) * silu(z)
    return torch.cat([rms(part) for part in gated.chunk(groups, dim=-1)], dim=-1) * gain


def two_blocks(
    x: Tensor,
    p: Weights,
    scope: str,
    outer_norm: bool,
    form: str,
    sign: int,
    expand: int = 2,
    groups: int = 1,
    depth: int = DEPTH,
) -> Tensor:
    us = [gated_scan(x, p, branch, 2, groups, expand, scope == "ssm") for branch in (0, 1)]
    return combination(*us, p, scope, outer_norm, form, sign, depth)


def one_block(x: Tensor, p: Weights, outer_norm: bool, expand: int = 2, groups: int = 1) -> Tensor:
    return single(gated_scan(x, p, 0, 1, groups, expand, shared=False), p, outer_norm)


@PRECISIONS
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("form", ["scalar", "reparam", "channel", "exp", "exp_printed", "fixed"])
@pytest.mark.parametrize("outer_norm", [True, False])
@pytest.mark.parametrize("scope", ["block", "ssm"])
def test_one_pass_is_two_blocks(
    scope: str, outer_norm: bool, form: str, sign: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    combine = partial(Difference, scope=scope, outer_norm=outer_norm, lambda_form=form, sign=sign)
    mixer = randomised(Mamba2(D_MODEL, DEPTH, HEADDIM, D_STATE, combine=combine))
    reference = partial(two_blocks, scope=scope, outer_norm=outer_norm, form=form, sign=sign)
    assert_same_function(mixer, reference, 11, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize(
    ("length", "groups", "expand", "depth", "d_conv"),
    [(1, 1, 1, 1, 4), (3, 1, 1, 2, 4), (33, 1, 1, 5, 4), (67, 2, 2, 7, 4), (35, 4, 2, 1, 2), (5, 2, 1, 3, 1)],
)
@pytest.mark.parametrize("scope", ["block", "ssm"])
def test_at_any_length_grouping_width_and_depth(
    scope: str, length: int, groups: int, expand: int, depth: int, d_conv: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(1)
    combine = partial(Difference, scope=scope, lambda_form="channel")
    mixer = randomised(Mamba2(D_MODEL, depth, HEADDIM, D_STATE, d_conv, expand, groups, combine))
    reference = partial(
        two_blocks, scope=scope, outer_norm=True, form="channel", sign=-1, expand=expand, groups=groups, depth=depth
    )
    assert_same_function(mixer, reference, length, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize("outer_norm", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_one_branch_is_one_block(groups: int, outer_norm: bool, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(2)
    mixer = randomised(
        Mamba2(D_MODEL, DEPTH, HEADDIM, D_STATE, groups=groups, combine=partial(Single, outer_norm=outer_norm))
    )
    reference = partial(one_block, outer_norm=outer_norm, groups=groups)
    assert_same_function(mixer, reference, 37, dtype, tolerance)


def test_two_branches_of_expand_1_are_one_mamba2_of_expand_2_with_two_groups() -> None:
    torch.manual_seed(3)
    combine = partial(Difference, scope="block", outer_norm=False)
    differential = randomised(Mamba2(D_MODEL, DEPTH, HEADDIM, D_STATE, expand=1, combine=combine))
    grouped = Mamba2(D_MODEL, DEPTH, HEADDIM, D_STATE, expand=2, groups=2).double()
    weights = {name: weight.clone() for name, weight in differential.state_dict().items()}
    weights["out_proj.weight"][:, D_MODEL:] *= -torch.sigmoid(weights.pop("combine.weight.bar")) - lambda_init(DEPTH)
    weights["out_proj.weight"] *= 1 - lambda_init(DEPTH)
    grouped.load_state_dict(weights)
    x = torch.randn(2, 33, D_MODEL, dtype=torch.float64)
    torch.testing.assert_close(grouped(x), differential(x), rtol=1e-10, atol=1e-10)
