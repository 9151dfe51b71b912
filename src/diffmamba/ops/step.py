"""One position of a state-space mixer between its projections, for decoding: Mamba-2's and Mamba-1's.

Both take the parameters as the mixers keep them, so that a step needs no operators to prepare them, and return what the
step operators of the convolution, the scan and the norm give one after the other. Where gradients are off and `backend`
has a compiled library, this is a single call. The states that are given are never changed.

With `sharing` branches that share their parameters, `conv_weight`, `conv_bias` and `norm_weight` are those of one
branch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend
from diffmamba.ops.conv import causal_conv_step
from diffmamba.ops.cpu import step
from diffmamba.ops.norm import EPSILON, gated_rms_norm
from diffmamba.ops.selective_scan import selective_scan_step
from diffmamba.ops.ssd import ssd_step

States = tuple[Tensor, Tensor]
"""The last inputs of the convolution, `(batch, width - 1, channels)`, and the h of the scan."""


def conv_scan_norm_step(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    headdim: int,
    groups: int,
    conv_state: Tensor,
    state: Tensor,
    sharing: int = 1,
) -> tuple[Tensor, States]:
    """One position of Mamba-2: `gated_rms_norm(ssd_step(causal_conv_step(xBC)), z)`.

    Args:
        zxBCdt: output of the input projection, `(batch, 2 · inner + 2 · groups · state + heads)`.
        conv_weight: `(channels, 1, width)` as nn.Conv1d has it, channels = inner + 2 · groups · state; conv_bias:
            `(channels,)`.
        dt_bias, A_log, D: `(heads,)`; dt = softplus(its input + dt_bias), A = -exp(A_log).
        norm_weight: `(inner,)`; each group's part of inner is normalised separately.
        headdim: width of a head.
        groups: groups of B, C and the norm.
        conv_state: `(batch, width - 1, channels)`.
        state: h, `(batch, heads, headdim, state)`.
        sharing: number of branches that share the convolution and the norm.

    Returns:
        u `(batch, inner)`, and the two states after this position.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    heads, states = len(dt_bias), state.shape[-1]
    divisors = (groups, "groups", heads, "heads"), (sharing, "sharing", groups, "groups")
    check_divides("conv_scan_norm_step", *divisors)
    inner, projected = heads * headdim, groups * states
    own_inner, own_projected = inner // sharing, projected // sharing
    check_step(
        "conv_scan_norm_step",
        (zxBCdt, (len(zxBCdt), 2 * inner + 2 * projected + heads), "the input"),
        (conv_state, (len(zxBCdt), conv_weight.shape[-1] - 1, inner + 2 * projected), "the convolution's state"),
        (state, (len(zxBCdt), heads, headdim, states), "the state"),
        (conv_weight, (own_inner + 2 * own_projected, 1, conv_weight.shape[-1]), "conv_weight"),
        (conv_bias, (own_inner + 2 * own_projected,), "conv_bias"),
        (dt_bias, (heads,), "dt_bias"),
        (A_log, (heads,), "A_log"),
        (D, (heads,), "D"),
        (norm_weight, (own_inner,), "norm_weight"),
    )
    if _compiled(zxBCdt, conv_state, norm_weight):
        call = step.mamba2 if _directly(zxBCdt) else step.mamba2_operator
        parameters = (conv_weight, conv_bias, dt_bias, A_log, D, norm_weight)
        u, *following = call(zxBCdt, *parameters, conv_state, state, groups, sharing, EPSILON)
        return u, (following[0], following[1])
    z, xBC, dt = zxBCdt.split([inner, inner + 2 * projected, heads], dim=-1)
    parts = [own_inner, own_projected, own_projected]
    weight, bias = (repeated(one, parts, sharing) for one in (conv_weight[:, 0], conv_bias))
    xBC, conv_state = causal_conv_step(xBC, weight, bias, conv_state)
    x, B, C = xBC.split([inner, projected, projected], dim=-1)
    y, state = ssd_step(
        x.unflatten(-1, (heads, headdim)),
        F.softplus(dt.to(dt_bias.dtype) + dt_bias),
        -torch.exp(A_log),
        B.unflatten(-1, (groups, states)),
        C.unflatten(-1, (groups, states)),
        D,
        state,
    )
    by_group = (sharing, groups // sharing, -1)
    gated = (y.flatten(-2).unflatten(-1, by_group), z.unflatten(-1, by_group), norm_weight.unflatten(0, by_group[1:]))
    return gated_rms_norm(*gated).flatten(-3), (conv_state, state)


def conv_selective_scan_step(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    branches: int,
    conv_state: Tensor,
    state: Tensor,
    sharing: int = 1,
) -> tuple[Tensor, States]:
    """One position of Mamba-1: the convolution, the projections of x, `selective_scan_step`, and the gate.

    Args:
        xz: output of the input projection, `(batch, 2 · channels)`.
        conv_weight: `(channels, 1, width)` as nn.Conv1d has it; conv_bias: `(channels,)`.
        x_proj: `(branches · (rank + 2 · state), channels / branches)`, which gives r, B and C of each branch.
        dt_proj: `(channels, rank)`; dt = softplus(dt_proj · r + dt_bias) with dt_bias `(channels,)`.
        A_log, D: `(channels, state)` and `(channels,)`; A = -exp(A_log).
        branches: the channels are divided among them.
        conv_state: `(batch, width - 1, channels)`.
        state: h, `(batch, channels, state)`.
        sharing: number of branches that share the convolution.

    Returns:
        y · silu(z) `(batch, channels)`, and the two states after this position.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    (channels, states), rank = A_log.shape, dt_proj.shape[-1]
    divisors = (branches, "branches", channels, "channels"), (sharing, "sharing", branches, "branches")
    check_divides("conv_selective_scan_step", *divisors)
    check_step(
        "conv_selective_scan_step",
        (xz, (len(xz), 2 * channels), "the input"),
        (conv_state, (len(xz), conv_weight.shape[-1] - 1, channels), "the convolution's state"),
        (state, (len(xz), channels, states), "the state"),
        (conv_weight, (channels // sharing, 1, conv_weight.shape[-1]), "conv_weight"),
        (conv_bias, (channels // sharing,), "conv_bias"),
        (x_proj, (branches * (rank + 2 * states), channels // branches), "x_proj"),
        (dt_proj, (channels, rank), "dt_proj"),
        (dt_bias, (channels,), "dt_bias"),
        (D, (channels,), "D"),
    )
    if _compiled(xz, conv_state, D):
        call = step.mamba1 if _directly(xz) else step.mamba1_operator
        parameters = (conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A_log, D)
        u, *following = call(xz, *parameters, conv_state, state, branches, sharing)
        return u, (following[0], following[1])
    x, z = xz.chunk(2, dim=-1)
    weight, bias = conv_weight[:, 0].repeat(sharing, 1), conv_bias.repeat(sharing)
    x, conv_state = causal_conv_step(x, weight, bias, conv_state)
    low_rank, B, C = by_branch(x.unflatten(-1, (branches, -1)), x_proj).split([rank, states, states], dim=-1)
    dt = by_branch(low_rank, dt_proj).flatten(-2)
    dt = F.softplus(dt.to(dt_bias.dtype) + dt_bias)
    y, state = selective_scan_step(x, dt, -torch.exp(A_log), B, C, D, state)
    return y * F.silu(z), (conv_state, state)


FEW = 2**22
"""Products that `difference_step` computes; more are faster by PyTorch's matrix product."""


def difference_step_takes(u: Tensor, weight: Tensor | None, gain: Tensor | None) -> bool:
    """Whether `difference_step` can be called with these tensors: few rows of float32, where `backend` is compiled."""
    if torch.is_grad_enabled() or u.dim() != 2 or backend.transformed() or not _directly(u) or not backend.compiled(u):
        return False
    outputs = u.shape[1] // 2 if weight is None else len(weight)
    fits = (weight is None or weight.shape == (outputs, u.shape[1])) and (gain is None or gain.shape == (outputs,))
    few = len(u) * (u.shape[1] if weight is None else weight.numel()) <= FEW
    return (
        fits
        and few
        and u.dtype == torch.float32 == getattr(weight, "dtype", u.dtype) == getattr(gain, "dtype", u.dtype)
    )


def difference_step(u: Tensor, weight: Tensor | None, gain: Tensor | None, second: float, scale: float) -> Tensor:
    """`rms_norm(W1 u1 + second · W2 u2, gain · scale)` in one call; only where `difference_step_takes` the tensors.

    Args:
        u: `(rows, 2 · inner)`: u1, then u2.
        weight: [W1, W2] `(outputs, 2 · inner)`, or None for the identity.
        gain: `(outputs,)`; None leaves the norm out: only the scale is multiplied.
        second: weight of the second branch.
        scale: a factor of everything.
    """
    return step.difference(u, weight, gain, second, scale, EPSILON)


def repeated(whole: Tensor, parts: list[int], sharing: int) -> Tensor:
    """A parameter whose parts one after the other are each repeated for the branches that share it."""
    if sharing == 1:
        return whole
    return torch.cat([part for part in whole.split(parts) for _ in range(sharing)])


def by_branch(x: Tensor, weight: Tensor) -> Tensor:
    """Projects each branch with its own rows of the weight.

    x `(..., branches, in)`, weight `(branches · out, in)` → `(..., branches, out)`
    """
    if x.shape[-2] == 1:
        return F.linear(x, weight)
    return torch.einsum("...ni,noi->...no", x, weight.unflatten(0, (x.shape[-2], -1)))


def check_step(operator: str, *arguments: tuple[Tensor, tuple[int, ...], str]) -> None:
    """Raises ValueError unless tensors have these shapes, all on one device. Cheap, since a step calls it."""
    device = arguments[0][0].device
    for tensor, shape, name in arguments:
        if tensor.shape != shape:
            raise ValueError(f"{operator}: {name} has shape {tuple(tensor.shape)}; it must be {shape}")
        if tensor.device != device:
            raise ValueError(f"{operator}: {name} is on {tensor.device}, {arguments[0][2]} on {device}")


def check_divides(operator: str, *divisors: tuple[int, str, int, str]) -> None:
    """Raises ValueError unless each number divides what it must: the number and its name, then the other and its."""
    for number, name, total, what in divisors:
        if number < 1 or total % number:
            raise ValueError(f"{operator}: {name}={number} must divide the {total} {what}")


def _compiled(given: Tensor, conv_state: Tensor, parameter: Tensor) -> bool:
    narrow = conv_state.dtype in backend.CPU_DTYPES and parameter.dtype != torch.float64
    return narrow and not torch.is_grad_enabled() and not backend.transformed() and backend.compiled(given) is not None


def _directly(given: Tensor) -> bool:
    """Whether a tensor has memory whose address can be passed: not while PyTorch traces."""
    return type(given) is Tensor and not torch.compiler.is_compiling()
