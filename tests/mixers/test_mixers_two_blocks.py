"""One pass equals two blocks: the identity the whole package rests on.

The reference is two separate Mamba-2 blocks with a sequential scan, combined by the formulas of *Differential Mamba*,
all written here. It takes its weights from the mixer by the documented layout: z, x, B, C and dt, in each of them
branch 1 before branch 2. Gradients are compared parameter by parameter.
"""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from diffmamba.mixers import Difference, Mamba2, Single

Weights = dict[str, Tensor]
EPSILON = 1e-5
D_MODEL, HEADDIM, D_STATE = 8, 4, 3
DEPTH = 4


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def slices(weight: Tensor, sizes: list[int], branch: int, branches: int) -> list[Tensor]:
    """Rows of one branch, where each section lists branch 1 and then branch 2; sizes are those of one branch."""
    sections, start = [], 0
    for size in sizes:
        sections.append(weight[start + branch * size : start + (branch + 1) * size])
        start += branches * size
    assert start == len(weight)
    return sections


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


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    width = weight.shape[1]
    padded = torch.cat([x.new_zeros(len(x), width - 1, x.shape[2]), x], dim=1)
    return silu(bias + sum(weight[:, k] * padded[:, k : k + x.shape[1]] for k in range(width)))


def lambda_init(depth: int) -> float:
    return 0.8 - 0.6 * math.exp(-0.3 * (depth - 1))


def lambda_(form: str, p: Weights, depth: int) -> Tensor | float:
    initial = lambda_init(depth)
    if form == "fixed":
        return initial
    if form in ("exp", "exp_printed"):
        q1, k1, q2, k2 = (p[f"combine.weight.{name}"] for name in ("q1", "k1", "q2", "k2"))
        return (q1 * k1).sum().exp() - (q2 * k2).sum().exp() + (initial if form == "exp" else -initial)
    bar = p["combine.weight.bar"]
    return 1 / (1 + torch.exp(-(bar.sum() if form == "reparam" else bar))) + initial


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
    """(1 - λ_init) · N[M1(x) ± λ M2(x)], or the same on what enters a shared output projection."""
    shared = scope == "ssm"
    u1, u2 = (gated_scan(x, p, branch, 2, groups, expand, shared) for branch in (0, 1))
    weight = p["out_proj.weight"]
    if not shared:
        d_inner = expand * D_MODEL
        u1, u2 = u1 @ weight[:, :d_inner].T, u2 @ weight[:, d_inner:].T
    combined = u1 + sign * lambda_(form, p, depth) * u2
    if outer_norm:
        combined = rms(combined) * p["combine.outer_norm.weight"]
    combined = (1 - lambda_init(depth)) * combined
    return combined @ weight.T if shared else combined


def one_block(x: Tensor, p: Weights, outer_norm: bool, expand: int = 2, groups: int = 1) -> Tensor:
    out = gated_scan(x, p, 0, 1, groups, expand, shared=False) @ p["out_proj.weight"].T
    return rms(out) * p["combine.outer_norm.weight"] if outer_norm else out


def randomised(mixer: Mamba2) -> Mamba2:
    """The mixer in float64 with every parameter moved away from where it starts, so that none is at a neutral value."""
    mixer.double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def assert_same_function(
    mixer: Mamba2, reference: Callable[[Tensor, Weights], Tensor], length: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Output and every gradient of a mixer in this type against the reference in float64."""
    x = torch.randn(2, length, D_MODEL, dtype=torch.float64).to(dtype)
    towards = torch.randn(2, length, D_MODEL, dtype=torch.float64)
    mixer.to(dtype)
    p = {name: parameter.detach().double().requires_grad_() for name, parameter in mixer.named_parameters()}

    judge_x = x.double().requires_grad_()
    judge = reference(judge_x, p)
    (judge * towards).sum().backward()
    x.requires_grad_()
    y = mixer(x)
    (y * towards.to(dtype)).sum().backward()

    pairs = {"output": (y, judge), "input's gradient": (x.grad, judge_x.grad)}
    pairs |= {f"{name}'s gradient": (parameter.grad, p[name].grad) for name, parameter in mixer.named_parameters()}
    for name, (found, expected) in pairs.items():
        assert found is not None, name
        assert expected is not None, name
        scale = expected.abs().max() if expected.any() else 1  # a single position has no decay, nor A a gradient
        error = (found.double() - expected).abs().max() / scale
        assert error <= tolerance, f"{name} is off by {error:.1e} of its largest entry"


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["float64", "float32"]
)


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
