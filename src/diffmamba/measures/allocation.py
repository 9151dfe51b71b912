"""How the weights of a row are shared out among the positions that it can take from.

The weights of a row t are |M[t, s]| or |K[t, s]| for s ≤ t (see `mixers.implicit_attention`), divided by their sum.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

NEEDLE = ("needle", "distractors", "rest")


@dataclass(frozen=True)
class Asked:
    """The rows that are looked at in a batch of examples, and what stands where.

    Args:
        rows: positions t, `(rows,)`.
        counted: which of them count in which example, `(batch, rows)`.
        marks: for needle and distractors, where they stand for each row, bool `(batch, rows, length)`; None for a text.
    """

    rows: Tensor
    counted: Tensor
    marks: dict[str, Tensor] | None = None

    @classmethod
    def of_text(cls, batch: int, length: int, rows: int) -> Self:
        """So many rows, spread evenly over the second half, where a row has much to take from; the last is the last."""
        second = length - length // 2
        found = length - 1 - torch.arange(rows).flip(0) * second // rows
        return cls(found, torch.ones(batch, rows, dtype=torch.bool))

    @classmethod
    def of_answers(cls, targets: Tensor, gaps: Tensor, reach: int) -> Self:
        """The rows at which something is asked for that stands in the context, as examples of recall say it.

        At row t the symbol asked for stands at v = t - gap, and v - 1 has what names it. The needle is these two and
        the `reach` positions after them, whose convolution still reads v. The needles of the example's other rows are
        the distractors, where they lie beyond it.
        """
        asked = (targets >= 0) & (gaps > 0)
        rows = asked.any(0).nonzero()[:, 0]
        counted, at = asked[:, rows], torch.arange(targets.shape[1])
        value = (rows - gaps[:, rows])[..., None]
        needle = (at >= value - 1) & (at <= value + reach) & (at <= rows[:, None]) & counted[..., None]
        all_of_them = (needle.any(1, keepdim=True)) & (at <= rows[:, None])
        return cls(rows, counted, {"needle": needle, "distractors": all_of_them & ~needle})


def normalised(weights: Tensor) -> Tensor:
    """|weights| over their sum along the last dimension, in float64."""
    sizes = weights.double().abs()
    return sizes / sizes.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def uniform(asked: Asked, length: int) -> Tensor:
    """Equal weights `(batch, 1, rows, length)`: what a mixer without any choice would give."""
    seen = torch.arange(length) <= asked.rows[:, None]
    return normalised(seen).expand(len(asked.counted), 1, -1, -1)


def readings(shares: Tensor, asked: Asked) -> dict[str, Tensor]:
    """Figures of each row of shares `(batch, heads, rows, length)`, each `(batch, heads, rows)`.

    entropy     in bits
    first       the share of the first position
    distance    how many positions back it is taken from, on average
    needle, distractors, rest    the shares of these; they add up to 1
    X_each      the mean share of a position of X; `elsewhere` is all but the needle
    """
    back = asked.rows[:, None] - torch.arange(shares.shape[-1])
    found = {
        "entropy": -torch.special.xlogy(shares, shares).sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64)),
        "first": shares[..., 0],
        "distance": (shares * back).sum(-1),
    }
    if asked.marks is not None:
        seen, needle = (back >= 0)[None], asked.marks["needle"]
        where = {**asked.marks, "rest": seen & ~needle & ~asked.marks["distractors"], "elsewhere": seen & ~needle}
        for name, there in where.items():
            share = (shares * there[:, None]).sum(-1)
            found[name] = share
            found[f"{name}_each"] = share / there.sum(-1)[:, None].clamp(min=1)
    return found


def by_distance(shares: Tensor, asked: Asked) -> dict[int, Tensor]:
    """The share of positions at distances 0, 1, 2–3, 4–7 and so on, by the first of them; each `(batch, heads, rows)`.

    Only distances that every row has are told.
    """
    back = asked.rows[:, None] - torch.arange(shares.shape[-1])
    starts = [0, *(2**power for power in range(int(asked.rows.min()).bit_length()))]
    found = {}
    for start in starts:
        end = max(1, 2 * start)
        if end - 1 <= int(asked.rows.min()):
            found[start] = (shares * ((back >= start) & (back < end))).sum(-1)
    return found
