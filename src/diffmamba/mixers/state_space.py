"""What Mamba-1 and Mamba-2 share: the state for decoding, and the start of dt."""

import math

import torch
from torch import Tensor

# both as in mamba-ssm: softplus of the dt bias starts log-uniform in this range, and never below the floor
DT_RANGE = (1e-3, 1e-1)
DT_FLOOR = 1e-4

MambaState = tuple[Tensor, Tensor]
"""The last inputs of the convolution, `(batch, d_conv - 1, channels)`, and the h of the scan, with the batch first."""


def initial_dt_bias(size: int) -> Tensor:
    """A bias `(size,)` for dt: its softplus is log-uniform in DT_RANGE, and at least DT_FLOOR."""
    low, high = (math.log(bound) for bound in DT_RANGE)
    dt = torch.exp(torch.rand(size) * (high - low) + low).clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))
