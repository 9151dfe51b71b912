"""The whole of Mamba-2 between its two projections: convolution, scan and gated norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend
from diffmamba.ops.checks import check, check_groups
from diffmamba.ops.conv import causal_conv, kernel_takes, next_state
from diffmamba.ops.cpu.mamba2 import MAX_WIDTH, mamba2
from diffmamba.ops.norm import EPSILON, gated_rms_norm
from diffmamba.ops.ssd import CUDA_CHUNK, ssd

States = tuple[Tensor, Tensor]
"""The last inputs of the convolution, `(batch, width - 1, channels)`, and the h of the scan."""


def conv_scan_norm(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    headdim: int,
    groups: int,
    states: States | None = None,
    extend: bool = False,
) -> tuple[Tensor, States | None]:
    """`gated_rms_norm(ssd(causal_conv(xBC)), z)`.

    As one operator it stores less for the gradient than the three one by one, and goes over memory less often.

    Args:
        zxBCdt: output of the input projection, `(batch, length, 2 · inner + 2 · groups · state + heads)`.
        conv_weight: `(inner + 2 · groups · state, width)`; conv_bias: `(inner + 2 · groups · state,)`.
        dt_bias, A, D: `(heads,)`; dt = softplus(its input + dt_bias).
        norm_weight: `(inner,)`; each group's part of inner is normalised separately.
        headdim: width of a head.
        groups: groups of B, C and the norm.
        states: those before the first position; None means zeros.
        extend: whether the states after the last position are wanted.

    Returns:
        u `(batch, length, inner)`, and the states after the last position, or None without `extend`.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    heads, channels = dt_bias.numel(), conv_weight.shape[:1].numel()
    inner = heads * headdim
    check_groups("conv_scan_norm", "heads", heads, groups)
    if headdim < 1:
        raise ValueError(f"conv_scan_norm: headdim={headdim} must be at least 1")
    if channels <= inner or (channels - inner) % (2 * groups):
        wanted = f"{inner} + {2 * groups} · state, which is inner + 2 · groups · state"
        raise ValueError(f"conv_scan_norm: conv_weight has {channels} channels; there must be {wanted}")
    check(
        "conv_scan_norm",
        ("conv_weight", conv_weight, "channels width"),
        ("norm_weight", norm_weight, "inner"),
        ("zxBCdt", zxBCdt, "batch length columns"),
        ("conv_bias", conv_bias, "channels"),
        *((name, value, "heads") for name, value in (("dt_bias", dt_bias), ("A", A), ("D", D))),
        ("the state of the convolution", states and states[0], "batch past channels"),
        ("the state of the scan", states and states[1], "batch heads headdim state"),
        inner=inner,
        columns=inner + channels + heads,
        past=conv_weight.shape[-1:].numel() - 1,
        headdim=headdim,
        state=(channels - inner) // (2 * groups),
    )
    arguments = (zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight)
    if backend.compiled(zxBCdt) and conv_weight.shape[1] <= MAX_WIDTH:
        return _compiled(*arguments, headdim, groups, states, extend)
    # the kernel loads 8 numbers at a time: every row, and x in every row, must start at a multiple of 8
    fits = zxBCdt.shape[-1] % 8 == 0 and inner % 8 == 0 and kernel_takes(conv_weight) and states is None and not extend
    if fits and (kernel := backend.kernel("split_scan", zxBCdt)):
        return _cuda(kernel, *arguments, headdim, groups), None
    return _one_by_one(*arguments, headdim, groups, states)


def _compiled(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    headdim: int,
    groups: int,
    states: States | None,
    extend: bool,
) -> tuple[Tensor, States | None]:
    """The compiled CPU operator, which takes parameters and h in float32."""
    past, state = (None, None) if states is None else (states[0].to(zxBCdt.dtype), states[1].float())
    wide = [parameter.float() for parameter in (conv_weight, conv_bias, dt_bias, A, D, norm_weight)]
    keep = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (zxBCdt, past, state, *wide)
    )
    u, final, _, _ = mamba2(zxBCdt, *wide, past, state, headdim, groups, EPSILON, keep)
    if not extend:
        return u, None
    inner = norm_weight.shape[0]
    convolved = zxBCdt[..., inner : inner + conv_weight.shape[0]]
    before = zxBCdt.new_zeros(len(zxBCdt), conv_weight.shape[1] - 1, len(conv_weight)) if states is None else states[0]
    return u, (next_state(before, convolved), final)


def _cuda(
    kernel: Callable[..., Any],
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    headdim: int,
    groups: int,
) -> Tensor:
    """Calls mamba-ssm's `mamba_split_conv1d_scan_combined`."""
    return kernel(
        zxBCdt.contiguous(),
        conv_weight,
        conv_bias,
        dt_bias.float(),
        A.float(),
        D=D.float(),
        chunk_size=CUDA_CHUNK,
        activation="silu",
        rmsnorm_weight=norm_weight,
        rmsnorm_eps=EPSILON,
        headdim=headdim,
        ngroups=groups,
        norm_before_gate=False,
    )


def _one_by_one(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    headdim: int,
    groups: int,
    states: States | None,
) -> tuple[Tensor, States]:
    """The three operators by themselves."""
    inner, channels = norm_weight.shape[0], conv_weight.shape[0]
    z, xBC, dt = zxBCdt.split([inner, channels, dt_bias.shape[0]], dim=-1)
    past, state = states or (None, None)
    xBC, past = causal_conv(xBC, conv_weight, conv_bias, past)
    x, B, C = xBC.split([inner, (channels - inner) // 2, (channels - inner) // 2], dim=-1)
    y, state = ssd(
        x.unflatten(-1, (-1, headdim)),
        F.softplus(dt.to(dt_bias.dtype) + dt_bias),
        A,
        B.unflatten(-1, (groups, -1)),
        C.unflatten(-1, (groups, -1)),
        D,
        state,
    )
    by_group = (groups, inner // groups)
    u = gated_rms_norm(
        y.flatten(-2).unflatten(-1, by_group), z.unflatten(-1, by_group), norm_weight.unflatten(0, by_group)
    )
    return u.flatten(-2), (past, state)
