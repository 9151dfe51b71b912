"""Root-mean-square norms: the plain one (outer norm, eq. 16 and 21 of the paper) and Mamba-2's gated one."""

from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5  # of every norm in the paper and in mamba-ssm's Mamba-2 block


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """`x / sqrt(mean(x²) + ε) · weight` over the last dimension.

    Shapes: x `(..., size)`, weight broadcastable against `(..., size)`. Statistics in float32 or wider.
    """
    wide = x.float() if x.dtype.itemsize < 4 else x
    return F.rms_norm(wide, x.shape[-1:], eps=EPSILON).to(x.dtype) * weight


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """Mamba-2's norm after the gate: `rms_norm(y · silu(z)) · weight` (`norm_before_gate=False` in mamba-ssm).

    Shapes: y and z `(..., groups, size)`, weight `(groups, size)` or `(size,)`; each group is normalised by itself.
    """
    return rms_norm(y * F.silu(z), weight)
