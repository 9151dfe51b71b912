"""Attention, ordinary and differential: the baselines `transformer` and `diff_transformer`.

Let q, k and v be the projections of a head, with q and k rotated by position, and d the width of a map's queries:

    one map (arXiv 1706.03762)       softmax(q kᵀ / √d) v
    two maps (arXiv 2410.05258)      (1 - λ_init) · N[(softmax(q1 k1ᵀ / √d) - λ softmax(q2 k2ᵀ / √d)) v]

With two maps, q1 and q2 are the halves of q, and k1 and k2 those of k, so d is half the head dimension. Differential
attention has the parameters of ordinary attention, and in addition λ and the gain of N. N is an RMSNorm of each head;
all heads share its gain. λ and λ_init are defined in `combine.py`. Every query sees its own and all earlier positions.

No attention matrix is ever stored. Fused kernels want queries, keys and values of one width, so a map's query is q with
zeros in place of the other half: [q1, 0] · k = q1 · k1. Half of that product multiplies zeros, but keys and values are
read as they are, not copied for each map, and the alternative of two widths is not fused on CPUs: for 32 windows of 256
with 6 heads of 64 it took 271 ms forward on one core, this 105 ms, and ordinary attention 51 ms.

The maps are combined position by position, `(batch, length, heads, headdim)`, so that the gradient that comes back to a
map lies in memory as its output does. The backward kernel of cuDNN depends on this in PyTorch 2.11: compiled for one
layout of that gradient, it is used again for another, and the result is wrong without an error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.mixers.combine import Lambda, LambdaForm, OuterNorm, lambda_init
from diffmamba.mixers.mixer import Mixer
from diffmamba.ranges import Size, divisors

ROTARY_BASE = 10_000.0  # RoFormer, section 3.3
HEADDIM_UNIT = 4  # rotation takes pairs of channels, and a head has up to two maps


class OneMap(nn.Module):
    """Ordinary attention: the only map is the output."""

    maps = 1

    def __init__(self, headdim: int, depth: int):
        super().__init__()

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        (only,) = outputs
        return only


class MapDifference(nn.Module):
    """Differential attention: the second map is subtracted with weight λ, then each head is normalised.

    `headdim` is the width of a head's values, and `depth` the 1-based index of the residual block. All heads share λ
    and the gain. In the form "exp", the vectors of λ are as wide as a map's queries.
    """

    maps = 2

    def __init__(self, headdim: int, depth: int, lambda_form: LambdaForm = "exp"):
        super().__init__()
        initial = lambda_init(depth)
        self.weight = Lambda(lambda_form, headdim, headdim // self.maps, initial)
        self.norm = OuterNorm(headdim, outer_norm=True, scale=1 - initial)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """The outputs of the two maps, each `(..., headdim)` → the same shape."""
        first, second = outputs
        return self.norm(first - self.weight() * second)


class Cache:
    """The state of attention: keys and values of all positions so far. It grows, unlike that of a state-space mixer.

    They are the first `length` entries of `buffer` `(batch, capacity, 2, heads, headdim)`. A full buffer is copied into
    one twice as long as needed, so that on average a new position copies a constant number of entries.

    A cache itself never changes. The first entries appended to it are written in place, behind its own entries. If more
    entries are appended to the same cache later, they go into a copy, so several continuations of one prompt are
    possible. Entries that need gradients always go into a copy.
    """

    def __init__(self, buffer: Tensor, length: int):
        self.buffer, self.length = buffer, length
        self.rest_is_free = True

    @property
    def entries(self) -> Tensor:
        """`(batch, length, 2, heads, headdim)`: first the rotated keys, then the values."""
        return self.buffer[:, : self.length]

    def append(self, entries: Tensor) -> "Cache":
        """A cache with these entries added, which have the shape of `entries` with any length."""
        end = self.length + entries.shape[1]
        if self.rest_is_free and end <= self.buffer.shape[1] and not entries.requires_grad:
            self.rest_is_free = False
            self.buffer[:, self.length : end] = entries
            return Cache(self.buffer, end)
        spare = entries.new_empty(len(entries), 0 if entries.requires_grad else end, *entries.shape[2:])
        return Cache(torch.cat([self.entries.to(entries.dtype), entries, spare], dim=1), end)


class Attention(Mixer):
    """Causal multi-head attention with rotary positions and no biases.

    Args:
        d_model: width of input and output.
        depth: 1-based index of the residual block, which sets λ_init.
        headdim: width of a head; a multiple of 4 that divides `inner`.
        inner: width of all heads together.
        combine: builds the module that makes a head's output from its maps; called with headdim and depth.

    Raises:
        SettingError: if headdim or inner is no multiple of 4, or headdim does not divide inner.
    """

    def __init__(self, d_model: int, depth: int, headdim: Size, inner: Size, combine: Callable[..., Any] = OneMap):
        super().__init__()
        _check_sizes(headdim, inner)
        self.combine = combine(headdim=headdim, depth=depth)
        self.heads, self.headdim, self.inner = inner // headdim, headdim, inner
        self.in_proj = nn.Linear(d_model, 3 * inner, bias=False)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._attend(*self._project(x, 0))

    def extend(self, x: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        query, key, value = self._project(x, state.length)
        state = state.append(torch.stack([key, value], dim=2))
        return self._attend(query, *state.entries.to(query.dtype).unbind(2)), state

    def step(self, x: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        y, state = self.extend(x[:, None], state)
        return y[:, 0], state

    def allocate_state(self, batch: int) -> Cache:
        return Cache(self.in_proj.weight.new_empty(batch, 0, 2, self.heads, self.headdim), 0)

    def _project(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """x `(batch, length, d_model)`, starting at position `start` → q, k, v `(batch, length, heads, headdim)`."""
        both, value = self.in_proj(x).split([2 * self.inner, self.inner], dim=-1)
        both = rotate(both.unflatten(-1, (2, self.heads, self.combine.maps, -1)), start)
        query, key = both.flatten(-2).unbind(2)
        return query, key, value.unflatten(-1, (self.heads, self.headdim))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """q `(batch, length, heads, headdim)` of the last positions, k and v of all → `(batch, length, d_model)`."""
        length, total = query.shape[1], key.shape[1]
        causal, mask = False, None  # as it is for a single query, which sees everything
        if length == total:
            causal = True
        elif length > 1:
            mask = torch.ones(length, total, dtype=torch.bool, device=query.device).tril(total - length)
        width = self.headdim // self.combine.maps
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        outputs = []
        for start, part in zip(range(0, self.headdim, width), query.split(width, dim=-1), strict=True):
            part = F.pad(part, (start, self.headdim - width - start)).transpose(1, 2)
            read = F.scaled_dot_product_attention(part, key, value, mask, is_causal=causal, scale=width**-0.5)
            outputs.append(read.transpose(1, 2))  # before the norm, see above
        return self.out_proj(self.combine(outputs).flatten(-2))


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotary positions (RoFormer, arXiv 2104.09864, eq. 34): channels 2i and 2i + 1 turn by p · base^(-2i / width).

    x `(batch, length, ..., width)`; `start` is the position p of its first entry. Angles are float32 or wider.
    """
    width = x.shape[-1]
    wide = torch.promote_types(x.dtype, torch.float32)
    position = torch.arange(start, start + x.shape[1], dtype=wide, device=x.device)
    frequency = ROTARY_BASE ** -(torch.arange(0, width, 2, dtype=wide, device=x.device) / width)
    angle = position.view(-1, *(1 for _ in x.shape[2:])) * frequency
    cos, sin = angle.cos(), angle.sin()
    even, odd = x.to(wide).unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def _check_sizes(headdim: int, inner: int) -> None:
    if inner % HEADDIM_UNIT:
        raise SettingError(f"model.inner={inner} must be a multiple of {HEADDIM_UNIT}, and of model.headdim")
    valid = [size for size in divisors(inner) if size % HEADDIM_UNIT == 0]
    if headdim not in valid:
        raise SettingError(
            f"model.headdim={headdim} must be a multiple of {HEADDIM_UNIT} that divides model.inner = {inner}; "
            f"valid values: {', '.join(map(str, valid))}"
        )
