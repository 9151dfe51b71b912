"""What a language model makes of sliding windows: nats per symbol, over all of them and by position in the window.

Position `p`, counted from 1, is predicted from the `p` symbols of its window up to there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffmamba.data.sliding import SlidingWindows
from diffmamba.data.streams import IGNORED

MOST_BUCKETS = 12  # of a table that is read at a glance


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation.

    Attributes:
        nats: the mean of -ln p over the predicted symbols.
        predicted: how many they are, each counted once.
        windows: windows they were predicted in.
        position_nats: the mean of -ln p over all windows at each position, also where they overlap.
        position_counts: windows that reach each position.
    """

    nats: float
    predicted: int
    windows: int
    position_nats: list[float]
    position_counts: list[int]

    @property
    def ppl(self) -> float:
        """e to the nats."""
        return perplexity(self.nats)

    @property
    def bits(self) -> float:
        """Bits per symbol."""
        return self.nats / math.log(2)

    def buckets(self) -> list[tuple[int, int, float]]:
        """First position, last position and mean nats of stretches that grow by the factor 2, in long windows 4."""
        length = len(self.position_nats)
        factor = 2 if length <= 2 ** (MOST_BUCKETS - 1) else 4
        found, first, last = [], 1, 1
        while first <= length:
            place = slice(first - 1, last)
            nats, counts = self.position_nats[place], self.position_counts[place]
            mean = sum(n * c for n, c in zip(nats, counts, strict=True)) / sum(counts)
            found.append((first, min(last, length), mean))
            first, last = last + 1, last * factor
        return found


def perplexity(nats: float) -> float:
    """e to the nats; infinite where that is beyond a float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


@torch.inference_mode()
def evaluate(
    nats_of: Callable[[Tensor, Tensor], Tensor],
    windows: SlidingWindows,
    advance: Callable[[int], None] = lambda windows: None,
) -> Evaluation:
    """Sums in float64 what each batch of windows costs; no more than one batch is in memory.

    Args:
        nats_of: inputs and targets, each `(batch, length)` on the CPU, to -ln p `(batch, length)`, on any device.
        windows: what to predict.
        advance: told the number of windows after each batch.
    """
    total, predicted = 0.0, 0
    sums, counts = torch.zeros(windows.length, dtype=torch.float64), torch.zeros(windows.length, dtype=torch.int64)
    for inputs, targets, counted in windows:
        nats = nats_of(inputs, targets).cpu().double()
        sums += nats.sum(0)
        counts += (targets != IGNORED).sum(0)
        total += nats[counted].sum().item()
        predicted += int(counted.sum())
        advance(len(inputs))
    return Evaluation(
        nats=total / predicted,
        predicted=predicted,
        windows=len(windows),
        position_nats=(sums / counts).tolist(),  # the first window reaches every position
        position_counts=counts.tolist(),
    )
