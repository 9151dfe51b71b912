"""One pass equals two blocks: the identity that the whole package rests on.

The reference is two separate blocks of Mamba-2, or of Mamba-1, each with a sequential scan, combined by the formulas of
*Differential Mamba*, all written in `formulas.py`. Gradients are compared parameter by parameter.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from formulas import (
    D_MODEL,
    D_STATE,
    DEPTH,
    HEADDIM,
    Weights,
    combination,
    lambda_init,
    mamba1_branch,
    mamba2_branch,
    rms,
    single,
    slices,
)
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer, Single

MAMBA2 = partial(Mamba2, D_MODEL, headdim=HEADDIM, d_state=D_STATE)
MAMBA1 = partial(Mamba1, D_MODEL, d_state=D_STATE)
EITHER = pytest.mark.parametrize(
    ("mamba", "branch"), [(MAMBA2, mamba2_branch), (MAMBA1, mamba1_branch)], ids=["mamba2", "mamba1"]
)
FORMS = ("scalar", "reparam", "reparam_bounded", "channel", "exp", "exp_printed", "fixed")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def randomised(mixer: Mixer) -> Mixer:
    """The mixer in float64, every parameter moved away from where it starts, so that none has a neutral value."""
    mixer.double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def assert_same_function(
    mixer: Mixer, reference: Callable[[Tensor, Weights], Tensor], length: int, dtype: torch.dtype = torch.float64
) -> None:
    """Output and every gradient of a mixer in this type against the reference in float64."""
    x, towards = (torch.randn(2, length, D_MODEL, dtype=torch.float64).to(dtype) for _ in range(2))
    mixer.to(dtype)
    p = {name: parameter.detach().double().requires_grad_() for name, parameter in mixer.named_parameters()}
    both = []
    for function, inputs, weights in (
        (mixer, x.requires_grad_(), dict(mixer.named_parameters())),
        (lambda x: reference(x, p), x.detach().double().requires_grad_(), p),
    ):
        y = function(inputs)
        gradients = torch.autograd.grad((y * towards).sum(), [inputs, *weights.values()])
        both.append(dict(zip(["output", "input", *weights], [y, *gradients], strict=True)))
    found, expected = both
    for name, judge in expected.items():
        scale = judge.abs().max() if judge.any() else 1  # a single position has no decay, nor A a gradient
        error = (found[name].double() - judge).abs().max() / scale
        assert error <= TOLERANCE[dtype], f"{name} is off by {error:.1e} of its largest entry"


def two_blocks(
    x: Tensor,
    p: Weights,
    branch: Callable[..., Tensor],
    scope: str,
    outer_norm: bool,
    form: str,
    sign: int = -1,
    expand: int = 1,
    groups: int = 1,
    depth: int = DEPTH,
) -> Tensor:
    us = [branch(x, p, i, 2, groups, expand, scope == "ssm") for i in (0, 1)]
    return combination(*us, p, scope, outer_norm, form, sign, depth)


@pytest.mark.usefixtures("path")
@EITHER
@pytest.mark.parametrize("scope", ["block", "ssm"])
@pytest.mark.parametrize(
    ("form", "outer_norm", "sign", "dtype"),
    [
        (form, (i + odd) % 2 == 0, (-1, 1)[i // 2 % 2], (torch.float64, torch.float32)[i == odd])
        for i, form in enumerate(FORMS)
        for odd in (0, 1)
    ],
)
def test_one_pass_is_two_blocks(
    mamba: Any, branch: Any, scope: str, form: str, outer_norm: bool, sign: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    settings = {"scope": scope, "outer_norm": outer_norm, "sign": sign}
    mixer = randomised(mamba(depth=DEPTH, expand=1, combine=partial(Difference, lambda_form=form, **settings)))
    assert_same_function(mixer, partial(two_blocks, branch=branch, form=form, **settings), 7, dtype)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("scope", ["block", "ssm"])
@pytest.mark.parametrize(
    ("mamba", "branch", "length", "groups", "expand", "depth", "d_conv", "dtype"),
    [
        (MAMBA2, mamba2_branch, 1, 1, 1, 1, 4, torch.float32),
        (MAMBA2, mamba2_branch, 67, 2, 2, 7, 4, torch.float64),
        (MAMBA2, mamba2_branch, 35, 4, 2, 1, 2, torch.float32),
        (MAMBA2, mamba2_branch, 5, 2, 1, 3, 1, torch.float64),
        (MAMBA1, mamba1_branch, 1, 1, 1, 1, 4, torch.float32),
        (MAMBA1, mamba1_branch, 33, 1, 1, 5, 4, torch.float64),
        (MAMBA1, mamba1_branch, 5, 1, 2, 3, 1, torch.float64),
    ],
)
def test_at_any_length_grouping_width_and_depth(
    mamba: Any,
    branch: Any,
    scope: str,
    length: int,
    groups: int,
    expand: int,
    depth: int,
    d_conv: int,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(1)
    sizes = {"expand": expand, "depth": depth} | ({"groups": groups} if groups > 1 else {})
    mixer = randomised(mamba(d_conv=d_conv, combine=partial(Difference, scope=scope, lambda_form="channel"), **sizes))
    reference = partial(two_blocks, branch=branch, scope=scope, outer_norm=True, form="channel", **sizes)
    assert_same_function(mixer, reference, length, dtype)


@pytest.mark.parametrize(
    ("mamba", "branch", "groups", "outer_norm"),
    [
        (partial(MAMBA2, groups=1), mamba2_branch, 1, True),
        (partial(MAMBA2, groups=2), mamba2_branch, 2, False),
        (partial(MAMBA2, groups=4), mamba2_branch, 4, True),
        (MAMBA1, mamba1_branch, 1, False),
        (MAMBA1, mamba1_branch, 1, True),
    ],
)
def test_one_branch_is_one_block(mamba: Any, branch: Any, groups: int, outer_norm: bool) -> None:
    torch.manual_seed(2)
    mixer = randomised(mamba(depth=DEPTH, combine=partial(Single, outer_norm=outer_norm)))
    assert_same_function(mixer, lambda x, p: single(branch(x, p, 0, 1, groups, 2, False), p, outer_norm), 20)


def test_two_branches_of_expand_1_are_one_mamba2_of_expand_2_with_two_groups() -> None:
    torch.manual_seed(3)
    combine = partial(Difference, scope="block", outer_norm=False)
    differential = randomised(MAMBA2(depth=DEPTH, expand=1, combine=combine))
    grouped = MAMBA2(depth=DEPTH, expand=2, groups=2).double()
    weights = {name: weight.clone() for name, weight in differential.state_dict().items()}
    weights["out_proj.weight"][:, D_MODEL:] *= -torch.sigmoid(weights.pop("combine.weight.bar")) - lambda_init(DEPTH)
    weights["out_proj.weight"] *= 1 - lambda_init(DEPTH)
    grouped.load_state_dict(weights)
    x = torch.randn(2, 33, D_MODEL, dtype=torch.float64)
    torch.testing.assert_close(grouped(x), differential(x), rtol=1e-10, atol=1e-10)


def test_the_branches_of_scope_block_are_two_mamba1_mixers() -> None:
    """Two modules, each loaded with its share of the weights, one after the other."""
    torch.manual_seed(3)
    both = randomised(MAMBA1(depth=DEPTH, expand=1, combine=partial(Difference, scope="block")))
    weights = both.state_dict()
    x, outputs = torch.randn(2, 37, D_MODEL, dtype=torch.float64), []
    for branch in range(2):
        own = {
            name: torch.cat(slices(weight, [D_MODEL, D_MODEL], branch, 2))
            if name == "in_proj.weight"
            else weight.chunk(2, dim=1 if name == "out_proj.weight" else 0)[branch]
            for name, weight in weights.items()
            if not name.startswith("combine.")
        }
        mixer = MAMBA1(depth=DEPTH, expand=1).double()
        mixer.load_state_dict(own)
        outputs.append(mixer(x))
    difference = outputs[0] - (torch.sigmoid(weights["combine.weight.bar"]) + lambda_init(DEPTH)) * outputs[1]
    expected = (1 - lambda_init(DEPTH)) * rms(difference) * weights["combine.outer_norm.weight"]
    torch.testing.assert_close(both(x), expected, rtol=1e-10, atol=1e-10)
