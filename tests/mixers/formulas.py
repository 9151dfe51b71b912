"""The formulas of *Differential Mamba*, written a second time: λ, norms, combination, and one branch of either Mamba.

A branch takes its weights from a mixer by the documented layout, branch 1 before branch 2. In Mamba-2 this order holds
in each of z, x, B, C and dt; in Mamba-1 in each of x and z, and in the rows of x_proj (dt, B and C), dt_proj, A and D.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]
EPSILON = 1e-5
D_MODEL, DEPTH = 8, 4
HEADDIM, D_STATE, DT_RANK = 4, 3, 1  # the rank is ⌈D_MODEL / 16⌉


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
    scale = {"reparam": 1.0, "reparam_bounded": len(bar) ** -0.5}.get(form)
    return 1 / (1 + torch.exp(-(bar if scale is None else scale * bar.sum()))) + initial


def combination(
    u1: Tensor, u2: Tensor, p: Weights, scope: str, outer_norm: bool, form: str, sign: int, depth: int
) -> Tensor:
    """(1 - λ_init) · N[M1(x) ± λ M2(x)], or the same on what enters a shared output projection."""
    shared = scope == "ssm"
    weight = p["out_proj.weight"]
    if not shared:
        d_inner = u1.shape[-1]
        u1, u2 = u1 @ weight[:, :d_inner].T, u2 @ weight[:, d_inner:].T
    combined = u1 + sign * lambda_(form, p, depth) * u2
    if outer_norm:
        combined = rms(combined) * p["combine.outer_norm.weight"]
    combined = (1 - lambda_init(depth)) * combined
    return combined @ weight.T if shared else combined


def single(u: Tensor, p: Weights, outer_norm: bool) -> Tensor:
    """W u, or N[W u]."""
    out = u @ p["out_proj.weight"].T
    return rms(out) * p["combine.outer_norm.weight"] if outer_norm else out


def mamba2_branch(
    inputs: Tensor, p: Weights, branch: int, branches: int, groups: int, expand: int, shared: bool
) -> Tensor:
    """One branch of Mamba-2 up to its output projection: N(y · silu(z)), `(batch, length, d_inner)`."""
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


def mamba1_branch(
    inputs: Tensor, p: Weights, branch: int, branches: int, groups: int, expand: int, shared: bool
) -> Tensor:
    """One branch of Mamba-1 up to its output projection: y · silu(z); B and C have one group."""
    assert groups == 1
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
