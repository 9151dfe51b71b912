"""The formulas around the scans of *Differential Mamba*, written a second time, and how mixers are held to them."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffmamba.mixers import Mixer

Weights = dict[str, Tensor]
EPSILON = 1e-5
D_MODEL = 8
DEPTH = 4

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["float64", "float32"]
)


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
    return 1 / (1 + torch.exp(-(bar.sum() if form == "reparam" else bar))) + initial


def combination(
    u1: Tensor, u2: Tensor, p: Weights, scope: str, outer_norm: bool, form: str, sign: int, depth: int = DEPTH
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


def randomised(mixer: Mixer) -> Mixer:
    """The mixer in float64 with every parameter moved away from where it starts, so that none is at a neutral value."""
    mixer.double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def assert_same_function(
    mixer: Mixer, reference: Callable[[Tensor, Weights], Tensor], length: int, dtype: torch.dtype, tolerance: float
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
