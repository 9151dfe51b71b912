"""Mamba-2's convolution, scan and gated norm in a single kernel of mamba-ssm."""

from torch import Tensor

from diffmamba.ops import backend
from diffmamba.ops.conv import kernel_takes
from diffmamba.ops.norm import EPSILON
from diffmamba.ops.ssd import CUDA_CHUNK


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
) -> Tensor | None:
    """`gated_rms_norm(ssd(causal_conv(xBC)), z)` from the zero state.

    The fused kernel stores less for the gradient than the three operators one by one, and needs fewer kernel launches.
    It loads 8 numbers at a time, so the width of the input and the widths of its parts must be multiples of 8.

    Args:
        zxBCdt: output of the input projection, `(batch, length, 2 · inner + 2 · groups · state + heads)`.
        conv_weight: `(inner + 2 · groups · state, width)`; conv_bias: `(inner + 2 · groups · state,)`.
        dt_bias, A, D: `(heads,)`; dt = softplus(its input + dt_bias).
        norm_weight: `(inner,)`; each group's part of inner is normalised separately.
        headdim: width of a head.
        groups: groups of B, C and the norm.

    Returns:
        `(batch, length, inner)`, or None if `backend` has no kernel for these tensors or the sizes do not fit.
    """
    kernel = backend.kernel("split_scan", zxBCdt)
    # then every row, and x in every row, starts at a multiple of 8 numbers
    eights = zxBCdt.shape[-1] % 8 == 0 and norm_weight.shape[0] % 8 == 0
    if kernel is None or not eights or not kernel_takes(conv_weight) or 0 in zxBCdt.shape:
        return None
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
