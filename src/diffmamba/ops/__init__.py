"""Pure functions on tensors: the ground floor, which knows PyTorch and nothing else.

Each operator has a file of its own with its sequential definition (the truth, a few lines that tests run in float64),
the fast path that models use, and the call of the CUDA kernel that `backend` puts in its place.
"""

from diffmamba.ops.conv import causal_conv, causal_conv_sequential, causal_conv_step
from diffmamba.ops.fused import conv_scan_norm
from diffmamba.ops.norm import gated_rms_norm, rms_norm
from diffmamba.ops.selective_scan import selective_scan, selective_scan_sequential, selective_scan_step
from diffmamba.ops.ssd import ssd, ssd_sequential, ssd_step

__all__ = [
    "causal_conv",
    "causal_conv_sequential",
    "causal_conv_step",
    "conv_scan_norm",
    "gated_rms_norm",
    "rms_norm",
    "selective_scan",
    "selective_scan_sequential",
    "selective_scan_step",
    "ssd",
    "ssd_sequential",
    "ssd_step",
]
