"""What Mamba-1 and Mamba-2 share: the state for decoding, what goes into the scan, and the start of dt."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# both as in mamba-ssm: softplus of the dt bias starts log-uniform in this range, and never below the floor
DT_RANGE = (1e-3, 1e-1)
DT_FLOOR = 1e-4

MambaState = tuple[Tensor, Tensor]
"""The last inputs of the convolution, `(batch, d_conv - 1, channels)`, and the h of the scan, with the batch first."""


@dataclass(frozen=True)
class Scan:
    """What goes into the scan of a mixer for some inputs, for those who want to look at it.

    |      | Mamba-2                            | Mamba-1                            |
    | x, z | `(batch, length, heads, headdim)`  | `(batch, length, channels)`        |
    | dt   | `(batch, length, heads)`           | `(batch, length, channels)`        |
    | A    | `(heads,)`                         | `(channels, d_state)`              |
    | B, C | `(batch, length, groups, d_state)` | `(batch, length, groups, d_state)` |
    | D    | `(heads,)`                         | `(channels,)`                      |

    dt is after the softplus, so it is not negative, and A is negative. z is the gate before its SiLU. Heads, channels
    and groups of branch 1 come before those of branch 2. A branch of Mamba-1 has one group.
    """

    x: Tensor
    z: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor


def initial_dt_bias(size: int) -> Tensor:
    """A bias `(size,)` for dt: its softplus is log-uniform in DT_RANGE, and at least DT_FLOOR."""
    low, high = (math.log(bound) for bound in DT_RANGE)
    dt = torch.exp(torch.rand(size) * (high - low) + low).clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))
