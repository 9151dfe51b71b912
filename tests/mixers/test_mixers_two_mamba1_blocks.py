"""One pass of Mamba-1 equals two blocks, as `test_mixers_two_blocks.py` says of Mamba-2.

The reference takes its weights from the mixer by the documented layout: x and z, in each of them branch 1 before
branch 2; the rows of x_proj (dt, B and C), dt_proj, A and D those of branch 1, then those of branch 2.
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

from diffmamba.mixers import Difference, Mamba1, Single

D_STATE, DT_RANK = 3, 1  # ⌈8 / 16⌉


def gated_scan(inputs: Tensor, p: Weights, branch: int, branches: int, expand: int, shared: bool) -> Tensor:
    """One branch up to its output projection: y · silu(z), `(batch, length, d_inner)`."""
    d_inner = expand * D_MODEL
    x, z = (inputs @ rows.T for rows in slices(p["in_proj.weight"], [d_inner, d_inner], branch, branches))
    own = (0, 1) if shared else (branch, branches)
    (filters,), (bias,) = (slices(p[f"conv1d.{name}"], [d_inner], *own) for name in ("weight", "bias"))
    x = convolution(x, filters[:, 0], bias)
    (projection,) = slices(p["x_proj.weight"], [DT_RANK + 2 * D_STATE], branch, branches)
    low_rank, B, C = (x @ projection.T).split([DT_RANK, D_STATE, D_STATE], dim=-1)
    rows = {
        name: slices(p[name], [d_inner], branch, branches)[0]
        for name in ("dt_proj.weight", "dt_proj.bias", "A_log", "D")
    }
    dt = (low_rank @ rows["dt_proj.weight"].T + rows["dt_proj.bias"]).exp().log1p()  # softplus
    columns = []
    for channel in range(d_inner):
        h = inputs.new_zeros(len(inputs), D_STATE)
        ys = []
        for t in range(inputs.shape[1]):
            step, x_t = dt[:, t, channel, None], x[:, t, channel, None]
            h = (-step * rows["A_log"][channel].exp()).exp() * h + step * x_t * B[:, t]
            ys.append((h * C[:, t]).sum(-1) + rows["D"][channel] * x_t[:, 0])
        columns.append(torch.stack(ys, dim=1))
    return torch.stack(columns, dim=-1) * silu(z)


def two_blocks(
    x: Tensor, p: Weights, scope: str, outer_norm: bool, form: str, sign: int, expand: int = 1, depth: int = DEPTH
) -> Tensor:
    us = [gated_scan(x, p, branch, 2, expand, scope == "ssm") for branch in (0, 1)]
    return combination(*us, p, scope, outer_norm, form, sign, depth)


def one_block(x: Tensor, p: Weights, outer_norm: bool, expand: int = 2) -> Tensor:
    return single(gated_scan(x, p, 0, 1, expand, shared=False), p, outer_norm)


@PRECISIONS
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("form", "outer_norm"),
    [("scalar", True), ("scalar", False), ("reparam", True), ("channel", True), ("exp", True), ("fixed", False)],
)
@pytest.mark.parametrize("scope", ["block", "ssm"])
def test_one_pass_is_two_blocks(
    scope: str, outer_norm: bool, form: str, sign: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    combine = partial(Difference, scope=scope, outer_norm=outer_norm, lambda_form=form, sign=sign)
    mixer = randomised(Mamba1(D_MODEL, DEPTH, D_STATE, expand=1, combine=combine))
    reference = partial(two_blocks, scope=scope, outer_norm=outer_norm, form=form, sign=sign)
    assert_same_function(mixer, reference, 7, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize(
    ("length", "expand", "depth", "d_conv"), [(1, 1, 1, 4), (3, 1, 2, 4), (33, 1, 5, 4), (35, 2, 7, 2), (5, 2, 3, 1)]
)
@pytest.mark.parametrize("scope", ["block", "ssm"])
def test_at_any_length_width_and_depth(
    scope: str, length: int, expand: int, depth: int, d_conv: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(1)
    combine = partial(Difference, scope=scope, lambda_form="channel")
    mixer = randomised(Mamba1(D_MODEL, depth, D_STATE, d_conv, expand, combine))
    reference = partial(two_blocks, scope=scope, outer_norm=True, form="channel", sign=-1, expand=expand, depth=depth)
    assert_same_function(mixer, reference, length, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize("outer_norm", [True, False])
def test_one_branch_is_one_block(outer_norm: bool, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(2)
    mixer = randomised(Mamba1(D_MODEL, DEPTH, D_STATE, combine=partial(Single, outer_norm=outer_norm)))
    assert_same_function(mixer, partial(one_block, outer_norm=outer_norm), 20, dtype, tolerance)


@pytest.mark.parametrize("outer_norm", [True, False])
def test_the_branches_of_scope_block_are_two_mamba1_mixers(outer_norm: bool) -> None:
    """Two modules, each loaded with its share of the weights, one after the other."""
    torch.manual_seed(3)
    combine = partial(Difference, scope="block", outer_norm=outer_norm)
    both = randomised(Mamba1(D_MODEL, DEPTH, D_STATE, expand=1, combine=combine))
    weights = both.state_dict()
    branches = []
    for branch in range(2):
        own = {
            name: torch.cat(slices(weight, [D_MODEL, D_MODEL], branch, 2))
            if name == "in_proj.weight"
            else weight.chunk(2, dim=1 if name == "out_proj.weight" else 0)[branch]
            for name, weight in weights.items()
            if not name.startswith("combine.")
        }
        mixer = Mamba1(D_MODEL, DEPTH, D_STATE, expand=1).double()
        mixer.load_state_dict(own)
        branches.append(mixer)
    x = torch.randn(2, 37, D_MODEL, dtype=torch.float64)
    difference = branches[0](x) - (torch.sigmoid(weights["combine.weight.bar"]) + lambda_init(DEPTH)) * branches[1](x)
    if outer_norm:
        difference = rms(difference) * weights["combine.outer_norm.weight"]
    torch.testing.assert_close(both(x), (1 - lambda_init(DEPTH)) * difference, rtol=1e-10, atol=1e-10)
