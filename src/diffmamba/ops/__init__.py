"""Pure functions on tensors: the lowest layer of the package, which needs PyTorch only.

Each operator has its own file with its versions: the sequential definition (a few lines, which tests run in float64 as
the reference), PyTorch's operators, the call of the compiled CPU library (`cpu/`) and that of a CUDA kernel (`cuda`).
`backend` chooses among them.
"""

from diffmamba.ops.conv import causal_conv, causal_conv_sequential, causal_conv_step
from diffmamba.ops.fused import conv_scan_norm
from diffmamba.ops.norm import gated_rms_norm, rms_norm
from diffmamba.ops.selective_scan import (
    gated_selective_scan,
    selective_scan,
    selective_scan_sequential,
    selective_scan_step,
)
from diffmamba.ops.ssd import ssd, ssd_sequential, ssd_step
from diffmamba.ops.step import conv_scan_norm_step, conv_selective_scan_step

__all__ = [
    "causal_conv",
    "causal_conv_sequential",
    "causal_conv_step",
    "conv_scan_norm",
    "conv_scan_norm_step",
    "conv_selective_scan_step",
    "gated_rms_norm",
    "gated_selective_scan",
    "rms_norm",
    "selective_scan",
    "selective_scan_sequential",
    "selective_scan_step",
    "ssd",
    "ssd_sequential",
    "ssd_step",
]
