"""The state-space dual scan of Mamba-2 (Dao & Gu 2024, arXiv 2405.21060, section 6).

For every head, with a scalar decay per position and B, C shared by the heads of a group:

    h[t] = exp(dt[t] · A) · h[t-1] + dt[t] · x[t] ⊗ B[t]
    y[t] = h[t] · C[t] + D · x[t]

Shapes, the same in all three functions (`ssd_step` without `length`):

    x   (batch, length, heads, headdim)      dt  (batch, length, heads), positive
    A   (heads,), negative                   D   (heads,)
    B,C (batch, length, groups, state)       heads divisible by groups; head i belongs to group i // (heads / groups)
    h   (batch, heads, headdim, state)

All return `(y, final h)` and take the h to start from (zeros if None).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 32
"""Positions handled by one matrix product. Inside a chunk the work per position is proportional to `chunk · headdim`,
between chunks to `state · headdim / chunk`; 32 was the fastest of 16, 32, 64, 128 on a CPU at headdim 32 and 64."""


def ssd_step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One position of the recurrence, in constant time and memory."""
    per_group = x.shape[1] // B.shape[1]
    B = B.repeat_interleave(per_group, dim=1)
    C = C.repeat_interleave(per_group, dim=1)
    decay = torch.exp(dt * A)
    state = decay[:, :, None, None] * state + (dt[:, :, None] * x)[..., None] * B[:, :, None, :]
    return ((state * C[:, :, None, :]).sum(dim=-1) + D[:, None] * x).to(x.dtype), state


def ssd_sequential(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: the recurrence, one position after the other."""
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
    """The same function by matrix products: quadratic inside chunks, the recurrence only from chunk to chunk.

    Any length; time and memory grow linearly with it. Decays enter as exponentials of sums that are never positive, so
    nothing overflows however large dt is. Computes in float32 or wider, also under autocast.
    """
    batch, length, heads, headdim = x.shape
    chunk = min(chunk, length)
    wide = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = x.new_zeros(batch, heads, headdim, B.shape[3])

    def chunked(tensor: Tensor) -> Tensor:
        """(batch, length, heads or groups, ...) → (batch, chunks, heads or groups, chunk, ...)"""
        if padding := -length % chunk:  # positions with dt = 0 leave the state alone
            tensor = F.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, padding))
        return tensor.unflatten(1, (-1, chunk)).transpose(2, 3).to(wide).contiguous()

    with torch.autocast(x.device.type, enabled=False):
        y, state = _ChunkedScan.apply(
            chunked(x), chunked(dt), A.to(wide), chunked(B), chunked(C), D.to(wide), state.to(wide)
        )
    return y.transpose(2, 3).flatten(1, 2)[:, :length].to(x.dtype), state


class _ChunkedScan(torch.autograd.Function):
    """The chunked scan with its gradient written out.

    Per head and chunk, with s the running sum of dt · A, X = dt · x, and P the state that enters the chunk:

        Y      = M X + (exp(s) ∘ C) Pᵀ + D x        where M[i, j] = (C Bᵀ)[i, j] · exp(s[i] - s[j]) for i ≥ j, else 0
        P_next = exp(s[-1]) P + Xᵀ (exp(s[-1] - s) ∘ B)

    Autograd would keep and walk a dozen (chunk, chunk) tensors. Written out, the gradient of s needs none: s[i] scales
    row i of Y (but for D x) and unscales row i of X, so ds = dY · (Y - D x) - X · dX row by row, and the last position
    of a chunk receives dP_next · P_next besides. (Y is kept without D x: taking D x off again would lose digits.)

    Shapes: x (batch, chunks, heads, chunk, headdim), dt without headdim, B and C (batch, chunks, groups, chunk, state).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        terms = _ChunkTerms(dt, A, B, C)
        X = x * dt[..., None]
        added = X.transpose(-1, -2) @ terms.to_end
        entering = torch.empty_like(added)
        for i in range(x.shape[1]):
            entering[:, i] = state
            state = torch.addcmul(added[:, i], terms.kept[:, i], state)
        y = _matmul_plus_matmul(terms.scores, X, terms.from_start, entering.transpose(-1, -2))
        ctx.save_for_backward(x, dt, A, B, C, D, entering, state, y)
        return torch.addcmul(y, x, D[:, None, None]), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dstate: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, B, C, D, entering, final, y = ctx.saved_tensors
        terms = _ChunkTerms(dt, A, B, C)
        X = x * dt[..., None]
        dy = dy.contiguous()

        # the recurrence over chunks, backwards: the gradient of the state that leaves each chunk
        read = dy.transpose(-1, -2) @ terms.from_start
        dleaving = torch.empty_like(read)
        for i in range(x.shape[1] - 1, -1, -1):
            dleaving[:, i] = dstate
            dstate = torch.addcmul(read[:, i], terms.kept[:, i], dstate)

        dX = _matmul_plus_matmul(terms.scores.transpose(-1, -2), dy, terms.to_end, dleaving.transpose(-1, -2))
        dCB = terms.sum_heads((dy @ X.transpose(-1, -2)).mul_(terms.decays))
        dC = dCB @ B + terms.sum_heads((dy @ entering).mul_(terms.exp_from_start))
        dB = dCB.transpose(-1, -2) @ C + terms.sum_heads((X @ dleaving).mul_(terms.exp_to_end))

        dy_x = (dy * x).sum(-1)
        dX_x = (dX * x).sum(-1)
        ds = (dy * y).sum(-1) - dt * dX_x
        leaving = torch.cat([entering[:, 1:], final[:, None]], dim=1)
        ds[..., -1] += (dleaving * leaving).sum((-1, -2))
        ds = ds.flip(-1).cumsum(-1).flip(-1)  # now of dt · A

        dx = (dX * dt[..., None]).addcmul_(dy, D[:, None, None])
        return dx, ds * A[:, None] + dX_x, (ds * dt).sum((0, 1, 3)), dB, dC, dy_x.sum((0, 1, 3)), dstate


class _ChunkTerms:
    """What forward and backward both need of a chunk; computed twice rather than kept, since memory is what is scarce.

    Shapes: decays and scores (batch, chunks, heads, chunk, chunk); from_start = exp(s) ∘ C and
    to_end = exp(s[-1] - s) ∘ B (batch, chunks, heads, chunk, state); kept = exp(s[-1]) (batch, chunks, heads, 1, 1).
    """

    def __init__(self, dt: Tensor, A: Tensor, B: Tensor, C: Tensor):
        self.groups = B.shape[2]
        # a decay below the smallest float is zero anyway, and a larger sum would swallow the digits of later ones
        s = (dt * A[:, None]).clamp(min=math.log(torch.finfo(dt.dtype).tiny)).cumsum(-1)
        last = s[..., -1:]
        chunk = s.shape[-1]
        future = torch.full((chunk, chunk), -torch.inf, dtype=s.dtype, device=s.device).triu_(1)
        self.decays = (s[..., :, None] - s[..., None, :]).add_(future).exp_()
        self.exp_from_start = s.exp()[..., None]
        self.exp_to_end = (last - s).exp_()[..., None]
        self.kept = last.exp()[..., None]
        self.scores = self._by_group(self.decays) * (C @ B.transpose(-1, -2))[:, :, :, None]
        self.scores = self.scores.flatten(2, 3)
        self.from_start = (self._by_group(self.exp_from_start) * C[:, :, :, None]).flatten(2, 3)
        self.to_end = (self._by_group(self.exp_to_end) * B[:, :, :, None]).flatten(2, 3)

    def _by_group(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(2, (self.groups, -1))

    def sum_heads(self, tensor: Tensor) -> Tensor:
        """Adds up the heads of each group."""
        return self._by_group(tensor).sum(3)


def _matmul_plus_matmul(first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
    """`first @ second + third @ fourth` without a pass of its own for the addition."""
    product = (first @ second).flatten(0, 2)
    return product.baddbmm_(third.flatten(0, 2), fourth.flatten(0, 2)).unflatten(0, first.shape[:3])
