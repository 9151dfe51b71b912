"""How the weights of a row are shared out among the positions that it can take from.

The weights of a row t are |M[t, s]| or |K[t, s]| (see `mixers.implicit_attention`). What a position takes from itself
is no attention to the context, and of the output of a mixer it is a large part: the D of the scan is in it. So the
shares of a row are of the positions s < t, divided by their sum; that of s = t in the whole row is told by itself.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

TINY = torch.finfo(torch.float64).tiny


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
    def of_answers(cls, inputs: Tensor, targets: Tensor, gaps: Tensor, reach: int) -> Self:
        """The rows at which something is asked for that stands in the context, as examples of recall say it.

        At row t the symbol asked for stands at v = t - gap, and v - 1 has what names it. The needle is these two and
        the `reach` positions after them, whose convolution still reads v. The needles of the example's other rows are
        the distractors, where they lie beyond it. One with the same two symbols is none, nor what stands in it: it is
        the pair that is asked for, shown earlier.
        """
        asked = (targets >= 0) & (gaps > 0)
        rows = asked.any(0).nonzero()[:, 0]
        counted, at = asked[:, rows], torch.arange(targets.shape[1])
        value = (rows - gaps[:, rows])[..., None]
        needle = (at >= value - 1) & (at <= value + reach) & (at < rows[:, None]) & counted[..., None]
        pairs = torch.stack([inputs.gather(1, (value[..., 0] - back).clamp(min=0)) for back in (1, 0)], -1)
        another = (pairs[:, :, None] != pairs[:, None]).any(-1)  # (batch, rows, rows)
        of_others, of_same = (torch.bmm(which.float(), needle.float()) > 0 for which in (another, ~another))
        return cls(rows, counted, {"needle": needle, "distractors": of_others & ~of_same & (at < rows[:, None])})


def shared_out(weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of earlier positions, and that of the own one, of weights `(..., rows, length)` of positions `rows`.

    Both are float64: `(..., rows, length)` with 0 from the own position on, and `(..., rows)`.
    """
    sizes, at = weights.double().abs(), torch.arange(weights.shape[-1])
    earlier = sizes * (at < rows[:, None])
    total, own = earlier.sum(-1, keepdim=True), (sizes * (at == rows[:, None])).sum(-1)
    return earlier / total.clamp(min=TINY), own / (own + total[..., 0]).clamp(min=TINY)


def uniform(asked: Asked, length: int) -> Tensor:
    """Equal weights `(batch, 1, rows, length)`: what a mixer without any choice would give."""
    return (torch.arange(length) <= asked.rows[:, None]).expand(len(asked.counted), 1, -1, -1)


def readings(weights: Tensor, asked: Asked) -> dict[str | int, Tensor]:
    """Figures of each row of weights `(batch, heads, rows, length)`, each `(batch, heads, rows)`.

    own         the share of the own position; all others are of the earlier ones
    entropy     in bits
    first       the share of the first position
    distance    how many positions back it is taken from, on average
    needle, distractors, rest    the shares of these; they add up to 1
    X_each      the mean share of a position of X, 0 where there is none; `elsewhere` is all but the needle
    X_there     1 where there is a position of X, else 0
    a number    the share of the positions from so many back to twice as many, without these: 1, 2–3, 4–7 and so on
    """
    shares, own = shared_out(weights, asked.rows)
    back = asked.rows[:, None] - torch.arange(shares.shape[-1])
    found: dict[str | int, Tensor] = {
        "own": own,
        "entropy": -torch.special.xlogy(shares, shares).sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64)),
        "first": shares[..., 0],
        "distance": (shares * back).sum(-1),
    }
    if asked.marks is not None:
        seen, needle = (back > 0)[None], asked.marks["needle"]
        where = {**asked.marks, "rest": seen & ~needle & ~asked.marks["distractors"], "elsewhere": seen & ~needle}
        for name, there in where.items():
            share = (shares * there[:, None]).sum(-1)
            found[name] = share
            found[f"{name}_each"] = share / there.sum(-1)[:, None].clamp(min=1)
            found[f"{name}_there"] = there.any(-1)[:, None].expand_as(share).double()
    for start in (2**power for power in range((shares.shape[-1] - 1).bit_length())):
        found[start] = (shares * ((back >= start) & (back < 2 * start))).sum(-1)
    return found
