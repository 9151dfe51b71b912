"""What a mixer attends to: the matrices by which each position takes from all earlier ones, given the input.

A state-space mixer never forms these matrices, but the scan of a head is one (arXiv 2405.21060, section 3):

    y[t] - D x[t] = Σ_s M[t, s] x[s]        M[t, s] = C[t] · B[s] · exp(Σ_{s < r ≤ t} dt[r] A) · dt[s],   s ≤ t

Mamba-2 has a matrix for each head, Mamba-1 one for each channel (the sum over its states). Attention has the softmax of
each map. Three things are called attention of a mixer here:

    branch       M of each head of a branch (for attention: the softmax of each head of a map)
    difference   M1 - λ M2: head i of branch 1 minus λ times head i of branch 2
    output       what position s adds to the output of the mixer, a vector of width d_model: out[t] = Σ_s K[t, s]

In differential attention both maps weigh the same values, so the difference of maps is what is applied. The branches of
a state-space mixer weigh values of their own, x1 and x2. M1 - λ M2 is then no more than the analogue, and what is
subtracted in truth is vectors. Let g_b[t] be the gate silu(z) times gain / rms of the gated norm, for each channel (of
Mamba-1 the gate alone), M' be M with D on its diagonal, and n[t] be scale · gain / rms of the outer norm (scale alone
where there is none). Then

    k_b[t, s] = g_b[t] ⊙ M'_b[t, s] x_b[s]
    Mamba         K = n[t] ⊙ W k[t, s]
    Diff-S6       K = W (n[t] ⊙ (k_1[t, s] - λ k_2[t, s]))
    Diff-Mamba    K = n[t] ⊙ (W1 k_1[t, s] - λ W2 k_2[t, s])

The factors are taken as they come out for the given input, so the sum over s is the output exactly. K is the sum over
all heads. Its length |K[t, s]| is a weight that gates, norms and values are part of (for Transformers: Kobayashi et
al., arXiv 2004.10102).

A weight of position s is that of what the scan reads there. Before that, the convolution has mixed in the `d_conv - 1`
positions before s.
"""

from dataclasses import dataclass, fields
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.mixers.attention import Attention, MapDifference
from diffmamba.mixers.combine import Difference, OuterNorm, Single
from diffmamba.mixers.mamba1 import Mamba1
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.mixers.state_space import Scan
from diffmamba.ops.norm import EPSILON


@dataclass(frozen=True)
class Attended:
    """What a mixer attends to at some positions t, the rows, as the module says.

    Args:
        branches: the rows of the matrices of each branch, `(batch, heads, rows, length)`. Mamba-1 has a matrix for each
            channel in the place of heads.
        difference: of the same shape; None where there is one branch.
        output: the vectors K, `(batch, rows, length, d_model)`.
    """

    branches: tuple[Tensor, ...]
    difference: Tensor | None
    output: Tensor


@singledispatch
def attended(mixer: nn.Module, x: Tensor, rows: Tensor) -> Attended:
    """What a mixer attends to at positions `(rows,)` where its inputs are x `(batch, length, d_model)`.

    Float32 or wider. Memory grows with `batch · rows · length` times the inner width of the mixer.

    Raises SettingError for a mixer, or a way to combine branches, whose output is not known to be such a sum.
    """
    raise SettingError(f"model.mixers: it is not known what {type(mixer).__name__} attends to")


def require_known(mixer: nn.Module) -> None:
    """Raises the error of `attended` for this mixer, which may be on the meta device."""
    if attended.dispatch(type(mixer)) is attended.dispatch(object):
        attended(mixer, torch.empty(0), torch.empty(0))
    combine = getattr(mixer, "combine", None)
    if not isinstance(mixer, Attention) and not isinstance(combine, Single | Difference):
        raise SettingError(f"model.mixers: it is not known what {type(combine).__name__} makes of its branches")


@attended.register
def _(mixer: Mamba2, x: Tensor, rows: Tensor) -> Attended:
    scan = _wide(mixer.scan_of(x))
    weights = matrices(scan, rows)
    per_group = mixer.heads // mixer.groups
    gain = mixer.norm.weight.repeat(mixer.sharing).view(mixer.heads, 1, 1, mixer.headdim)
    own = _with_diagonal(weights, scan.D, rows)
    gate = F.silu(scan.z[:, rows]).transpose(1, 2)[:, :, :, None]
    k = own[..., None] * scan.x.transpose(1, 2)[:, :, None] * gate  # (batch, heads, rows, length, headdim)
    grouped = k.sum(3).unflatten(1, (-1, per_group))
    rms = (grouped.square().mean((2, 4), keepdim=True) + EPSILON).sqrt().expand_as(grouped[..., :1])
    output = _combined(mixer.combine, mixer.out_proj.weight, k * (gain / rms.flatten(1, 2)[..., None]))
    return Attended(*_parts(mixer.combine, weights), output)


@attended.register
def _(mixer: Mamba1, x: Tensor, rows: Tensor) -> Attended:
    scan = _wide(mixer.scan_of(x))
    weights = matrices(scan, rows)
    own = _with_diagonal(weights, scan.D, rows)
    k = own.movedim(1, -1) * scan.x[:, None] * F.silu(scan.z[:, rows])[:, :, None]
    by_branch = k.unflatten(-1, (mixer.branches, -1)).movedim(-2, 1)
    return Attended(*_parts(mixer.combine, weights), _combined(mixer.combine, mixer.out_proj.weight, by_branch))


@attended.register
def _(mixer: Attention, x: Tensor, rows: Tensor) -> Attended:
    combine, (query, key, value) = mixer.combine, map(_widened, mixer._project(x, 0))
    query, key = (one.unflatten(-1, (combine.maps, -1)) for one in (query[:, rows], key))
    products = torch.einsum("bthmd,bshmd->mbhts", query, key) * query.shape[-1] ** -0.5
    maps = tuple(products.masked_fill(_later(rows, products), -torch.inf).softmax(-1))
    second = -combine.weight() if isinstance(combine, MapDifference) else 0.0
    weighed = [one[..., None] * value.transpose(1, 2)[:, :, None] for one in maps]
    k = weighed[0] if len(weighed) == 1 else weighed[0] + second * weighed[1]
    if isinstance(combine, MapDifference):
        k = k * _factor(combine.norm, k, (-1,), (-1,))
    difference = None if len(maps) == 1 else maps[0] + torch.as_tensor(second).mean() * maps[1]
    return Attended(maps, difference, _projected(k, mixer.out_proj.weight))


def matrices(scan: Scan, rows: Tensor) -> Tensor:
    """These rows of M of each head, `(batch, heads, rows, length)`; of each channel for Mamba-1. Float32 or wider."""
    scan = _wide(scan)
    summed = scan.dt.cumsum(1).transpose(1, 2)  # (batch, heads, length)
    steps = summed[..., rows, None] - summed[..., None, :]  # Σ dt[r] over s < r ≤ t
    steps = steps.masked_fill(_later(rows, steps), torch.inf)  # its exponential is 0
    own, C = scan.dt.shape[2] // scan.B.shape[2], scan.C[:, rows]  # heads of a group
    if scan.A.dim() == 1:
        products = torch.einsum("btgn,bsgn->bgts", C, scan.B).repeat_interleave(own, 1)
        return products * (steps * scan.A[:, None, None]).exp() * scan.dt.transpose(1, 2)[:, :, None]
    found = torch.zeros_like(steps)
    for n, A in enumerate(scan.A.unbind(1)):
        products = C[..., n].transpose(1, 2)[..., :, None] * scan.B[..., n].transpose(1, 2)[..., None, :]
        found += products.repeat_interleave(own, 1) * (steps * A[:, None, None]).exp()
    return found * scan.dt.transpose(1, 2)[:, :, None]


def _wide(scan: Scan) -> Scan:
    """The scan in float32 or wider."""
    found = {one.name: getattr(scan, one.name) for one in fields(scan)}
    return Scan(**{name: _widened(part) for name, part in found.items()})


def _widened(part: Tensor) -> Tensor:
    return part.to(torch.promote_types(part.dtype, torch.float32))


def _later(rows: Tensor, weights: Tensor) -> Tensor:
    """Where the column of weights `(..., rows, length)` is a later position than the row."""
    return torch.arange(weights.shape[-1], device=weights.device) > rows[:, None]


def _with_diagonal(weights: Tensor, D: Tensor, rows: Tensor) -> Tensor:
    """The rows of weights `(batch, heads, rows, length)` with D `(heads,)` added at each row's own position."""
    own = F.one_hot(rows, weights.shape[-1]).to(weights.dtype)
    return weights + D[:, None, None] * own


def _parts(combine: nn.Module, weights: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The matrices of each branch, and their difference.

    A λ of its own for each channel counts for a head as its mean over the channels that the head has; where it belongs
    to channels of the output, as the mean over all of these.
    """
    if not isinstance(combine, Difference):
        return (weights,), None
    first, second = weights.chunk(2, dim=1)
    factor = torch.as_tensor(combine.weight()).to(weights)
    if factor.numel() > 1:
        factor = factor.view(first.shape[1], -1).mean(1)[:, None, None] if combine.shared else factor.mean()
    return (first, second), first + combine.sign * factor * second


def _combined(combine: Single | Difference, weight: Tensor, k: Tensor) -> Tensor:
    """K of the vectors k `(batch, heads, rows, length, headdim)` of all branches; `weight` is the output projection."""
    norm = combine.outer_norm
    if isinstance(combine, Difference):
        factor = torch.as_tensor(combine.sign * combine.weight()).to(k)
        if combine.shared:
            first, second = k.chunk(2, dim=1)
            factor = factor.view(first.shape[1], 1, 1, -1) if factor.numel() > 1 else factor
            k = first + factor * second
            return _projected(k * _factor(norm, k, (1, -1), (k.shape[1], 1, 1, -1)), weight)
        first, second = (_projected(*one) for one in zip(k.chunk(2, dim=1), weight.chunk(2, dim=1), strict=True))
        found = first + factor * second
    else:
        found = _projected(k, weight)
    return found * _factor(norm, found, (-1,), (-1,))


def _projected(k: Tensor, weight: Tensor) -> Tensor:
    """k `(batch, heads, rows, length, headdim)`, each head by its columns of `weight` → their sum over heads.

    It is `(batch, rows, length, d_model)`.
    """
    return torch.einsum("bhtsp,dhp->btsd", k, weight.to(k.dtype).unflatten(1, (k.shape[1], -1)))


def _factor(norm: OuterNorm, parts: Tensor, dims: tuple[int, ...], gain: tuple[int, ...]) -> Tensor | float:
    """What the norm multiplies the sum over positions (the last dimension but one) of these parts by.

    Its mean is over `dims`, and its gain has the shape `gain`.
    """
    if norm.weight is None:
        return norm.scale
    mean = parts.sum(-2, keepdim=True).square().mean(dims, keepdim=True)
    return norm.weight.view(gain) * norm.scale / (mean + EPSILON).sqrt()
