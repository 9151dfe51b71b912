"""The chunked form of the SSD scan in PyTorch: matrix products inside chunks, the recurrence from chunk to chunk.

Definition and shapes are those of `ssd.py`. All tensors here are float32 or float64.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 32
"""Positions in one matrix product. The work per position inside a chunk is proportional to `chunk · headdim`, and
between chunks to `state · headdim / chunk`. On a CPU, 32 was the fastest of 16, 32, 64 and 128 at headdim 32 and 64."""
SEGMENT = {"cpu": 2**18, "cuda": 2**26}
"""How many numbers of x are computed together: on a CPU so few that all their intermediate results fit the cache."""


def ssd_chunked(chunk: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """y and the final state; the inputs are x, dt, A, B, C, D and the initial state. `_chunked` has the equations."""
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    y, final, _ = _chunked(*inputs, chunk, keep)
    return y, final


@torch.library.custom_op("diffmamba::ssd_chunked", mutates_args=())
def _chunked(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, chunk: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The chunked scan: y, the final state and, if `keep`, the state before every chunk for the gradient.

    For each head and chunk, with s the cumulative sum of dt · A, X = dt · x, and P `(state, headdim)` the state before
    the chunk:

        Y      = M X + exp(s) ∘ (C P) + D x         where M[i, j] = (C Bᵀ)[i, j] · exp(s[i] - s[j]) for i ≥ j, else 0
        P_next = exp(s[-1]) P + Bᵀ (exp(s[-1] - s) ∘ X)

    All heads of a group share the products with B and C, because the decays scale X and Y. If they scaled B and C,
    these would have to be repeated for every head. The length is divided into segments of several chunks (`SEGMENT`).

    This is a custom operator with its own gradient, `_chunked_gradient`, so `torch.compile` does not look inside.
    Recorded by autograd, it would store a dozen (chunk, chunk) tensors.
    """
    with torch.autocast(x.device.type, enabled=False):
        groups, d_state = B.shape[2:]
        plan = list(_plan(x, chunk))
        chunks = sum(count for _, count in plan) if keep else max(count for _, count in plan)
        states = x.new_empty(chunks + 1, x.shape[0], groups, d_state, x[0, 0].numel() // groups)
        states[0] = state.unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3).flatten(-2)
        y = torch.empty_like(x)
        first = 0
        for positions, count in plan:
            window = states[first : first + count + 1]
            _Segment(positions, count, x, dt, A, B, C).forward(D, window, y)
            if keep:
                first += count
            else:
                states[0] = window[-1]
        final = _plain(states[first], x)
        return y, final, states if keep else x.new_empty(0)


@torch.library.custom_op("diffmamba::ssd_chunked_gradient", mutates_args=())
def _chunked_gradient(
    dy: Tensor,
    dfinal: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    states: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, dt, A, B, C, D and of the initial state.

    The decay at t is a factor of every path from a position before t to position t or later. There are four kinds of
    such paths: from x[j] to y[i] with j < t ≤ i, from P to y[i], from x[j] to P_next, and from P to P_next.
    `_Segment.backward` sums each kind separately. Their total also equals dY · Y - X · dX, row by row, which is
    cheaper. But that difference contains the paths from x[i] to y[i], which have no decay and must cancel. With strong
    decays all other paths are tiny, and the result would be the rounding error of this cancellation.
    """
    with torch.autocast(x.device.type, enabled=False):
        groups = B.shape[2]
        dx, ddt, dB, dC = (torch.empty_like(tensor) for tensor in (x, dt, B, C))
        dA, dD = torch.zeros_like(A), torch.zeros_like(D)
        dstate = dfinal.unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3).flatten(-2)
        last = len(states) - 1
        for positions, count in reversed(list(_plan(x, chunk))):
            segment = _Segment(positions, count, x, dt, A, B, C)
            window = states[last - count : last + 1]
            dstate = segment.backward(D, window, dy, dstate, dx, ddt, dA, dB, dC, dD)
            last -= count
        return dx, ddt, dA, dB, dC, dD, _plain(dstate, x)


def _plan(x: Tensor, chunk: int) -> Iterator[tuple[slice, int]]:
    """The positions and the number of chunks of each segment. The rest of the length is a shorter chunk at the end."""
    batch, length, heads, headdim = x.shape
    chunk = min(chunk, length)
    count = max(1, SEGMENT.get(x.device.type, SEGMENT["cuda"]) // (batch * chunk * heads * headdim))
    whole = length // chunk
    for first in range(0, whole, count):
        last = min(first + count, whole)
        yield slice(first * chunk, last * chunk), last - first
    if whole * chunk < length:
        yield slice(whole * chunk, length), 1


def _plain(state: Tensor, x: Tensor) -> Tensor:
    """(batch, groups, state, heads of a group · headdim) → (batch, heads, headdim, state), always a copy"""
    return (
        state.unflatten(-1, (-1, x.shape[3]))
        .permute(0, 1, 3, 4, 2)
        .flatten(1, 2)
        .clone(memory_format=torch.contiguous_format)
    )


class _Segment:
    """Some chunks of equal length, for all rows of the batch, with the tensors that forward and backward both need.

    To save memory, these tensors are computed again for the backward pass. Shapes, with `heads` the heads of a group:

        x           (chunks, batch, groups, chunk, heads, headdim), a view, like those that `cut` gives
        B, C        (chunks, batch, groups, chunk, state)
        CB          (chunks, batch, groups, 1, chunk, chunk), C Bᵀ without the future
        between     (chunks, batch, groups, heads, chunk, chunk), exp(s[i] - s[j])
        from_start  (chunks, batch, groups, chunk, heads, 1), exp(s)
        to_end      the same shape, exp(s[-1] - s)
        kept        (chunks, batch, groups, 1, heads, 1), exp(s[-1])
    """

    def __init__(self, positions: slice, chunks: int, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor):
        self.positions, self.chunks, self.groups = positions, chunks, B.shape[2]
        self.x, self.dt, self.A = self.cut(x), self.cut(dt), A
        self.B, self.C = (self.cut(tensor).squeeze(4).contiguous() for tensor in (B, C))
        # exp of a smaller number is zero in any case; and a very large sum would lose the digits of later terms
        self.lowest = math.log(torch.finfo(dt.dtype).tiny)
        log_decay = (self.dt * A.view(self.groups, 1, -1)).clamp(min=self.lowest)
        s = log_decay.mT.contiguous().cumsum(-1)
        last = s[..., -1:]
        self.from_start = s.exp().mT[..., None]
        self.to_end = (last - s).exp_().mT[..., None]
        self.kept = last.exp().mT[..., None]
        self.between = (s[..., :, None] - s[..., None, :]).clamp_(max=0).exp_()
        self.CB = (self.C @ self.B.mT).tril_()[..., None, :, :]

    def cut(self, tensor: Tensor) -> Tensor:
        """(batch, length, heads or groups, ...) → (chunks, batch, groups, chunk, heads of a group or 1, ...)"""
        tensor = tensor[:, self.positions].unflatten(2, (self.groups, -1)).unflatten(1, (self.chunks, -1))
        return tensor.transpose(0, 1).transpose(2, 3)

    def by_head(self, tensor: Tensor) -> Tensor:
        """Splits the last dimension, `heads · headdim`, in two."""
        return tensor.unflatten(-1, self.x.shape[-2:])

    def added(self) -> Tensor:
        """What each position adds to the state at the end of its chunk, before the product with B."""
        return _times(self.x, self.to_end * self.dt[..., None]).flatten(-2)

    def forward(self, D: Tensor, states: Tensor, y: Tensor) -> None:
        """Fills `states`, whose first entry is given, and y at the positions of the segment."""
        torch.bmm(_stacked(self.B).mT, _stacked(self.added()), out=_stacked(states[1:]))
        by_head = self.by_head(states)
        for i in range(self.chunks):
            by_head[i + 1].addcmul_(self.kept[i], by_head[i])
        scores = self.between.mul_(self.CB).mul_(self.dt.mT[..., None, :])
        within = scores @ self.x.transpose(-2, -3)
        carried = self.by_head(self.C @ states[:-1])
        segment = self.cut(y)
        torch.addcmul(within.transpose(-2, -3), carried, self.from_start, out=segment)
        segment.addcmul_(self.x, D.view(self.groups, 1, -1, 1))

    def backward(
        self,
        D: Tensor,
        states: Tensor,
        dy: Tensor,
        dstate: Tensor,
        dx: Tensor,
        ddt: Tensor,
        dA: Tensor,
        dB: Tensor,
        dC: Tensor,
        dD: Tensor,
    ) -> Tensor:
        """Fills dx, ddt, dB and dC at the positions of the segment, and adds to dA and dD.

        `dstate` is the gradient of the last state. Returns the gradient of the first state.
        """
        cut_dy, cut_dx = self.cut(dy), self.cut(dx)
        scores = self.between * self.CB
        between_dt = self.between.mul_(self.dt.mT[..., None, :])

        read = _times(cut_dy, self.from_start).flatten(-2)
        dstates = torch.empty_like(states)
        torch.bmm(_stacked(self.C).mT, _stacked(read), out=_stacked(dstates[:-1]))
        dstates[-1] = dstate
        by_head = self.by_head(dstates)
        for i in reversed(range(self.chunks)):
            by_head[i].addcmul_(self.kept[i], by_head[i + 1])

        x_heads, dy_heads = (tensor.transpose(-2, -3).contiguous() for tensor in (self.x, cut_dy))
        carried = self.by_head(self.B @ dstates[1:])
        dX = torch.addcmul((scores.mT @ dy_heads).transpose(-2, -3), carried, self.to_end)
        dCB = (dy_heads @ x_heads.mT).mul_(between_dt)
        added = self.added()
        sum_dCB = dCB.sum(3).tril_()
        torch.add(sum_dCB @ self.B, read @ states[:-1].mT, out=self.cut(dC).squeeze(4))
        torch.add(sum_dCB.mT @ self.C, added @ dstates[1:].mT, out=self.cut(dB).squeeze(4))

        product = torch.empty_like(dX)
        to_next = torch.mul(self.by_head(added), carried, out=product).sum(-1)
        read_carried = self.by_head(self.C @ states[:-1])
        from_state = torch.mul(self.by_head(read), read_carried, out=product).sum(-1)
        paths = dCB.mul_(self.CB.tril(-1))
        until = (paths.sum(-1) - paths.sum(-2)).mT + from_state
        ds = until.flip(3).cumsum(3).flip(3)  # of dt · A
        ds[:, :, :, 1:] += to_next[:, :, :, :-1].cumsum(3)
        through = self.by_head((dstates[1:] * states[:-1]).sum(3)).sum(-1)
        ds += self.kept.squeeze(-1) * through[:, :, :, None]
        A = self.A.view(self.groups, 1, -1)
        ds.masked_fill_(self.dt * A < self.lowest, 0)  # the gradient of `clamp`
        dt_dX = torch.mul(dX, self.x, out=product).sum(-1)
        torch.addcmul(dt_dX, ds, A, out=self.cut(ddt))
        dA += (ds * self.dt).sum((0, 1, 3)).flatten()
        dD += torch.mul(cut_dy, self.x, out=product).sum((0, 1, 3, 5)).flatten()
        torch.mul(dX, self.dt[..., None], out=cut_dx)
        cut_dx.addcmul_(cut_dy, D.view(self.groups, 1, -1, 1))
        return dstates[0]


def _stacked(tensor: Tensor) -> Tensor:
    return tensor.flatten(0, 2)


def _times(first: Tensor, second: Tensor) -> Tensor:
    """The product, contiguous in memory. By itself PyTorch would take over the memory order of `first`."""
    return torch.mul(first, second, out=first.new_empty(first.shape))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _, ctx.chunk, _ = inputs
    ctx.set_materialize_grads(False)  # otherwise PyTorch makes zeros as large as all states, which nothing uses
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*tensors, *output[2:])


def _backward(ctx: Any, dy: Tensor | None, dfinal: Tensor | None, *_: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: checkpointing computes them again
    x, _, _, B, *_ = saved
    dy = torch.zeros_like(x) if dy is None else dy
    dfinal = x.new_zeros(len(x), *x.shape[2:], B.shape[3]) if dfinal is None else dfinal
    return *_chunked_gradient(dy, dfinal, *saved, ctx.chunk), None, None


@_chunked.register_fake
def _(x, dt, A, B, C, D, state, chunk, keep):
    final = state.new_empty(state.shape)
    if not keep:
        return torch.empty_like(x), final, x.new_empty(0)
    chunks = -(-x.shape[1] // min(chunk, x.shape[1]))
    states = x.new_empty(chunks + 1, x.shape[0], *B.shape[2:], x.shape[2] // B.shape[2] * x.shape[3])
    return torch.empty_like(x), final, states


@_chunked_gradient.register_fake
def _(dy, dfinal, x, dt, A, B, C, D, states, chunk):
    return *(torch.empty_like(tensor) for tensor in (x, dt, A, B, C, D)), dfinal.new_empty(dfinal.shape)


_chunked.register_autograd(_backward, setup_context=_setup_context)
