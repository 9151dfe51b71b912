"""The selective scan of Mamba (Gu & Dao 2023, arXiv 2312.00752, algorithm 2): one decay per channel and state.

    h[t] = exp(dt[t] · A) · h[t-1] + dt[t] · x[t] · B[t]
    y[t] = h[t] · C[t] + D · x[t]

Shapes, the same in all three functions (`selective_scan_step` without `length`):

    x, dt  (batch, length, channels), dt positive      A  (channels, state), negative      D  (channels,)
    B, C   (batch, length, groups, state)              channel i belongs to group i // (channels / groups)
    h      (batch, channels, state)

All return `(y, final h)`. The argument `state` is the initial h; None means zeros. The branches of a differential mixer
are stacked along the channels; with one group per branch, each branch has its own B and C.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend
from diffmamba.ops.checks import check, check_groups
from diffmamba.ops.cpu import mamba1

CHUNK = 32
"""Positions whose h are in memory together. With 4 × 512 × 16 numbers in each h this is 4 MB, which fits a cache."""


def selective_scan_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One position of the recurrence, in constant time and memory."""
    per_group = x.shape[1] // B.shape[1]
    B = B.repeat_interleave(per_group, dim=1)
    C = C.repeat_interleave(per_group, dim=1)
    state = torch.exp(dt[..., None] * A) * state + (dt * x)[..., None] * B
    return ((state * C).sum(dim=-1) + D * x).to(x.dtype), state


def selective_scan_sequential(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: the recurrence, one position at a time."""
    if state is None:
        state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        y, state = selective_scan_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same function, computed in chunks of positions: everything but the recurrence itself is done chunk by chunk.

    Time is linear in the length, which can be any. For the gradient, one h per chunk is stored. Computes in float32 or
    wider, also under autocast. First derivatives only.

    On a CPU this is the compiled operator of `cpu/mamba1.py` where `backend` has it, on CUDA mamba-ssm's kernel. The
    kernel starts from zeros and gives no gradient through the final h. So with an initial state it is used only if that
    state is zero and gradients are off, as when a prompt is read.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    _check(x, dt, A, B, C, D, state)
    if backend.by_definition():
        return selective_scan_sequential(x, dt, A, B, C, D, state)
    if backend.compiled(x):
        return _compiled(x, dt, A, B, C, D, state)
    kernel = backend.kernel("selective_scan", x)
    if kernel and (state is None or not (torch.is_grad_enabled() or state.any())):
        return _cuda(kernel, x, dt, A, B, C, D)
    wide = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = x.new_zeros(x.shape[0], *A.shape)
    y, final, _ = _chunked(*(tensor.to(wide) for tensor in (x, dt, A, B, C, D, state)))
    return y.to(x.dtype), final


def _check(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None) -> None:
    check(
        "selective_scan",
        ("x", x, "batch length channels"),
        ("dt", dt, "batch length channels"),
        ("A", A, "channels state"),
        ("B", B, "batch length groups state"),
        ("C", C, "batch length groups state"),
        ("D", D, "channels"),
        ("the state", state, "batch channels state"),
    )
    check_groups("selective_scan", "channels", x.shape[2], B.shape[2])


def gated_selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`selective_scan` between what surrounds it in a Mamba block: y · silu(z), with softplus(dt + dt_bias) for dt.

    On a CPU it is a single pass over memory.

    Args:
        x, A, B, C, D, state: as in `selective_scan`.
        dt: `(batch, length, channels)`, any numbers; dt_bias: `(channels,)`.
        z: the gate, `(batch, length, channels)`.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    check(
        "gated_selective_scan",
        ("x", x, "batch length channels"),
        ("dt_bias", dt_bias, "channels"),
        ("z", z, "batch length channels"),
    )
    _check(x, dt, A, B, C, D, state)
    if not backend.by_definition() and backend.compiled(x):
        return _compiled(x, dt, A, B, C, D, state, dt_bias, z)
    dt = F.softplus(dt.to(dt_bias.dtype) + dt_bias)
    y, state = selective_scan(x, dt, A, B, C, D, state)
    return y * F.silu(z), state


def _compiled(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None,
    dt_bias: Tensor | None = None,
    z: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    A, D = A.float(), D.float()
    dt, B, C = (one if one.dtype in backend.CPU_DTYPES else one.float() for one in (dt, B, C))
    z = z if z is None or z.dtype in backend.CPU_DTYPES else z.float()
    state = A.new_zeros(len(x), *A.shape) if state is None else state.float()
    dt_bias = None if dt_bias is None else dt_bias.float()
    tensors = (x, dt, A, B, C, D, state, dt_bias, z)
    keep = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)
    y, final, _ = mamba1.scan(*tensors, dt_bias is not None, keep)
    return y, final


def _cuda(
    kernel: Callable[..., Any], x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    """Calls mamba-ssm's `selective_scan_fn`, which needs length last, and x, dt, B and C of one dtype."""
    B, C = (tensor.permute(0, 2, 3, 1).to(x.dtype).contiguous() for tensor in (B, C))
    y, final = kernel(
        x.mT.contiguous(), dt.to(x.dtype).mT.contiguous(), A.float(), B, C, D=D.float(), return_last_state=True
    )
    return y.mT, final.detach().float()


@torch.library.custom_op("diffmamba::selective_scan_chunked", mutates_args=())
def _chunked(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final state, and the h before every chunk: (chunks, batch, groups, state, channels of a group).

    This is a custom operator with its own gradient, so `torch.compile` does not look inside. If autograd recorded the
    loop, every position would be a node of its graph, and all h would be stored. In h, the state dimension is the outer
    one and the channels the inner one, so that every operation runs along the channels.
    """
    with torch.autocast(x.device.type, enabled=False):
        y = torch.empty_like(x)
        scan = _Chunks(x, dt, A, B)
        kept = []
        h = scan.by_group(state)
        for positions in scan.plan:
            kept.append(h)
            _, states = scan.states(positions, h)
            scan.cut(y, positions).copy_(_cut_states(C, positions).mT @ states[1:])
            h = states[-1].clone()
        return y.addcmul_(x, D), scan.by_channel(h), torch.stack(kept)


@torch.library.custom_op("diffmamba::selective_scan_gradient", mutates_args=())
def _chunked_gradient(
    dy: Tensor, dfinal: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, dt, A, B, C, D and of the initial state.

    dh follows a recurrence backwards in time: dh[t] = C[t] · dy[t] + exp(dt[t+1] · A) · dh[t+1]. The other gradients
    are products of h and dh at each position.
    """
    with torch.autocast(x.device.type, enabled=False):
        dx, ddt, dB, dC = (torch.empty_like(tensor) for tensor in (x, dt, B, C))
        scan = _Chunks(x, dt, A, B)
        dA = torch.zeros_like(scan.A)
        gradients = torch.empty_like(scan.h)
        dh = scan.by_group(dfinal).clone()
        for positions, h in zip(reversed(scan.plan), kept.flip(0), strict=True):
            decays, states = scan.states(positions, h)
            x_at, dt_at, dy_at = (scan.cut(tensor, positions) for tensor in (x, dt, dy))
            gradient = torch.mul(_cut_states(C, positions), dy_at, out=gradients[: len(decays)])
            gradient[-1] += dh
            by_position = gradient.unbind()
            for earlier, later, decay in zip(
                by_position[-2::-1], by_position[::-1], decays.unbind()[::-1], strict=False
            ):
                earlier.addcmul_(decay, later)
            torch.mul(decays[0], gradient[0], out=dh)
            _cut_states(dC, positions).copy_(states[1:] @ dy_at.mT)
            _cut_states(dB, positions).copy_(gradient @ (x_at * dt_at).mT)
            dX = _cut_states(B, positions).mT @ gradient
            of_exponent = decays.mul_(gradient).mul_(states[:-1])
            dA += torch.mul(of_exponent, dt_at, out=states[1:]).sum((0, 1))
            scan.cut(dx, positions).copy_(dX * dt_at)
            scan.cut(ddt, positions).copy_((dX * x_at).add_(of_exponent.mul_(scan.A).sum(3, keepdim=True)))
        dD = (dy * x).sum((0, 1))
        return dx.addcmul_(dy, D), ddt, scan.by_channel(dA[None])[0], dB, dC, dD, scan.by_channel(dh)


class _Chunks:
    """The chunks of a scan, and two buffers that all chunks use in turn.

    Shapes: A (groups, state, channels of a group); `cut` gives (chunk, batch, groups, 1, channels of a group); decays
    and h are (chunk, batch, groups, state, channels of a group).
    """

    def __init__(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor):
        self.x, self.dt, self.B, self.groups = x, dt, B, B.shape[2]
        self.A = self.by_group(A[None])[0].contiguous()
        length = x.shape[1]
        self.plan = [slice(first, min(first + CHUNK, length)) for first in range(0, length, CHUNK)]
        chunk = min(CHUNK, length)
        self.decays = x.new_empty(chunk, x.shape[0], *self.A.shape)
        self.h = x.new_empty(chunk + 1, x.shape[0], *self.A.shape)

    def by_group(self, state: Tensor) -> Tensor:
        """(batch, channels, state) → (batch, groups, state, channels of a group)"""
        return state.unflatten(1, (self.groups, -1)).mT

    def by_channel(self, state: Tensor) -> Tensor:
        return state.mT.flatten(1, 2).contiguous()

    def cut(self, tensor: Tensor, positions: slice) -> Tensor:
        """(batch, length, channels) → (chunk, batch, groups, 1, channels of a group), a view"""
        return tensor[:, positions].transpose(0, 1).unflatten(2, (self.groups, 1, -1))

    def states(self, positions: slice, before: Tensor) -> tuple[Tensor, Tensor]:
        """The decays exp(dt · A) of a chunk, and its h. The first entry of h is `before`, the h before the chunk."""
        x, dt = self.cut(self.x, positions), self.cut(self.dt, positions)
        decays = torch.mul(dt, self.A, out=self.decays[: len(x)]).exp_()
        h = self.h[: len(x) + 1]
        h[0] = before
        torch.mul(x * dt, _cut_states(self.B, positions), out=h[1:])
        by_position = h.unbind()
        for earlier, later, decay in zip(by_position, by_position[1:], decays.unbind(), strict=False):
            later.addcmul_(decay, earlier)
        return decays, h


def _cut_states(tensor: Tensor, positions: slice) -> Tensor:
    """(batch, length, groups, state) → (chunk, batch, groups, state, 1), a view"""
    return tensor[:, positions].transpose(0, 1)[..., None]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:-1], output[2])


def _backward(ctx: Any, dy: Tensor | None, dfinal: Tensor | None, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: checkpointing computes them again
    x, A = saved[0], saved[2]
    dy = torch.zeros_like(x) if dy is None else dy
    dfinal = x.new_zeros(len(x), *A.shape) if dfinal is None else dfinal
    return _chunked_gradient(dy, dfinal, *saved)


@_chunked.register_fake
def _(x, dt, A, B, C, D, state):
    chunks = -(-x.shape[1] // CHUNK)
    groups = B.shape[2]
    return (
        torch.empty_like(x),
        state.new_empty(state.shape),
        x.new_empty(chunks, x.shape[0], groups, A.shape[1], A.shape[0] // groups),
    )


@_chunked_gradient.register_fake
def _(dy, dfinal, x, dt, A, B, C, D, kept):
    dx, ddt, dB, dC, dD = (torch.empty_like(tensor) for tensor in (x, dt, B, C, D))
    return dx, ddt, A.new_empty(A.shape), dB, dC, dD, dfinal.new_empty(dfinal.shape)


_chunked.register_autograd(_backward, setup_context=_setup_context)
