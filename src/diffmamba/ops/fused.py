"""Mamba-2's convolution, scan and gated norm as mamba-ssm's one kernel, where `backend` says so."""

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
    """`gated_rms_norm(ssd(causal_conv(xBC)), z)` from the zero state, or None where there is no such kernel.

    The kernel keeps less for the gradient than the three operators one by one, and starts fewer kernels. It loads
    eight numbers at a time, so the width of the input and of its parts must be multiples of 8.

    Args:
        zxBCdt: `(batch, length, 2 · inner + 2 · groups · state + heads)`, the input projection's output.
        conv_weight: `(inner + 2 · groups · state, width)`; conv_bias: `(inner + 2 · groups · state,)`.
        dt_bias, A, D: `(heads,)`; dt = softplus(its input + dt_bias).
        norm_weight: `(inner,)`; the norm is taken over each group's share of inner.

    Returns:
        `(batch, length, inner)`.
    """
    kernel = backend.kernel("split_scan", zxBCdt)
    eights = zxBCdt.shape[-1] % 8 == 0 and norm_weight.shape[0] % 8 == 0  # where each row and its x start
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
