"""The state-space dual scan of Mamba-2 (Dao & Gu 2024, arXiv 2405.21060, section 6).

For every head, with one decay per position; the heads of a group share B and C:

    h[t] = exp(dt[t] · A) · h[t-1] + dt[t] · x[t] ⊗ B[t]
    y[t] = h[t] · C[t] + D · x[t]

Shapes, the same in all three functions (`ssd_step` without `length`):

    x   (batch, length, heads, headdim)      dt  (batch, length, heads), positive
    A   (heads,), negative                   D   (heads,)
    B,C (batch, length, groups, state)       heads divisible by groups; head i belongs to group i // (heads / groups)
    h   (batch, heads, headdim, state)

All return `(y, final h)`. The argument `state` is the initial h; None means zeros.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops import backend
from diffmamba.ops.checks import check, check_groups
from diffmamba.ops.cpu.ssd import ssd as cpu_ssd
from diffmamba.ops.ssd_chunked import CHUNK, ssd_chunked

CUDA_CHUNK = 256  # for mamba-ssm's kernel: the value of its own Mamba-2 layer


def ssd_step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One position of the recurrence, in constant time and memory."""
    by_group = (B.shape[1], x.shape[1] // B.shape[1])
    B, C = B[:, :, None, None, :], C[:, :, None, None, :]
    decay = torch.exp(dt * A).unflatten(1, by_group)[..., None, None]
    added = (dt[:, :, None] * x).unflatten(1, by_group)[..., None]
    state = torch.addcmul(decay * state.unflatten(1, by_group), added, B)  # batch groups heads headdim state
    y = (state * C).sum(dim=-1).flatten(1, 2) + D[:, None] * x
    return y.to(x.dtype), state.flatten(1, 2)


def ssd_sequential(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: the recurrence, one position at a time."""
    if state is None:
        state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        y, state = ssd_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The same function by matrix products inside chunks; only the states between chunks follow the recurrence.

    Time and memory are linear in the length, which can be any. Decays are exponentials of sums that are never positive,
    so no dt is too large. Computes in float32 or wider, also under autocast. First derivatives only.

    On a CPU this is the compiled library, and on CUDA it can be mamba-ssm's kernel, see `backend`. `chunk` is the
    number of positions in one matrix product of PyTorch; it changes no result, and the other two ignore it.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit, or `chunk` is below 1.
    """
    check(
        "ssd",
        ("x", x, "batch length heads headdim"),
        ("dt", dt, "batch length heads"),
        ("A", A, "heads"),
        ("B", B, "batch length groups state"),
        ("C", C, "batch length groups state"),
        ("D", D, "heads"),
        ("the state", state, "batch heads headdim state"),
    )
    check_groups("ssd", "heads", x.shape[2], B.shape[2])
    if chunk < 1:
        raise ValueError(f"ssd: chunk={chunk} must be at least 1")
    if backend.by_definition():
        return ssd_sequential(x, dt, A, B, C, D, state)
    if backend.compiled(x):
        arguments = [None if tensor is None else tensor.float() for tensor in (x, dt, A, B, C, D, state)]
        keep = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in arguments)
        y, final, _ = cpu_ssd(*arguments, keep)
        return y.to(x.dtype), final
    if kernel := backend.kernel("chunk_scan", x):
        return _cuda(kernel, x, dt, A, B, C, D, state)
    wide = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3])
    y, state = ssd_chunked(chunk, *(tensor.to(wide) for tensor in (x, dt, A, B, C, D, state)))
    return y.to(x.dtype), state


def _cuda(
    kernel: Callable[..., Any], x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Calls mamba-ssm's `mamba_chunk_scan_combined`: the same shapes, but B, C and x need one dtype."""
    y, final = kernel(
        x,
        dt,
        A.float(),
        B.to(x.dtype),
        C.to(x.dtype),
        chunk_size=CUDA_CHUNK,
        D=D.float(),
        initial_states=state,
        return_final_states=True,
    )
    return y, final
