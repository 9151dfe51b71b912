"""What a pass will take on a CPU, estimated from short passes, so that one which does not fit is not tried.

A system may promise memory that it does not have, and end the process that uses it.
"""

import gc
from itertools import pairwise

import torch

from diffmamba import free_memory
from diffmamba.measures.live import taken
from diffmamba.measures.passes import Load, Mode, passes
from diffmamba.models import LanguageModel

SHORTEST = 32  # symbols of the first pass; each further one is twice as long
STEADY = 1.05  # a slope that is at most so many times the largest before it has stopped growing
MARGIN = 1.1  # of the estimate: a scan fills up its last chunk
MOST_GROWTH = 4  # that a pass of twice the length takes more


class Need:
    """A straight line by length, times the batch; in training, what is there for any load comes on top.

    The peak of a pass is the largest of several: of one layer, of all that is kept, of the logits, of AdamW's step.
    Each has another slope, and short passes may see a lower one. So the length is doubled until the peak is twice the
    first and grows no faster than before, and the largest slope counts. Passes that would not fit are not made.

    Args:
        longest: symbols; a pass that is longer than any load says nothing more.
    """

    def __init__(self, network: LanguageModel, device: torch.device, mode: Mode, longest: int):
        self.network, self.device, self.mode = network, device, mode
        moments = 2 * sum(weight.nbytes for weight in network.parameters()) if mode == "training" else 0
        self.peaks: dict[int, int] = {}
        length = SHORTEST
        while self._further(length, longest, moments):
            try:
                self.peaks[length] = self._peak(length)
            except Exception as error:
                if not free_memory.exhausted(error):
                    raise
                gc.collect()
                break
            finally:
                network.zero_grad()
            length *= 2
        slopes = self._slopes()
        self.by_symbol = max([0.0, *slopes]) if slopes else float("inf")  # no room for two short passes: nothing fits
        rest = [peak - self.by_symbol * length for length, peak in self.peaks.items()] if slopes else []
        training = mode == "training"  # there the shortest pass is one of AdamW's step alone
        self.by_sequence = max([0.0, *(rest[-1:] if training else rest)])
        self.fixed = moments + self.peaks.get(SHORTEST, 0) if training else 0

    def bytes(self, load: Load) -> float:
        """The estimate for a load."""
        return self.fixed + load.batch * (self.by_sequence + self.by_symbol * (load.length + load.new))

    def fits(self, load: Load) -> bool:
        """Whether so much is free, as far as the system tells."""
        free = free_memory.free()
        return free is None or MARGIN * self.bytes(load) <= free

    def _further(self, length: int, longest: int, moments: int) -> bool:
        """Whether a pass of this length is to be made after those that are there."""
        found = [*self.peaks.values()]
        if len(found) < 2:
            return True
        free = free_memory.free()
        if length > longest or (free is not None and moments + MOST_GROWTH * found[-1] > free):
            return False
        *earlier, last = self._slopes()
        return found[-1] < 2 * found[0] or not earlier or last > STEADY * max(earlier)

    def _slopes(self) -> list[float]:
        """Bytes by symbol from each length to the next."""
        return [(most - less) / (longer - shorter) for (shorter, less), (longer, most) in pairwise(self.peaks.items())]

    def _peak(self, length: int) -> int:
        """That of a pass over one sequence, in bytes. In training of the second one: the moments are there before."""
        new = 2 if self.mode == "generation" else 0
        symbols = Load(1, length, new).symbols(self.network.vocabulary_size, self.device)
        repeated = passes(self.network, symbols, self.mode, new)
        if self.mode == "training":
            [*repeated()]
        return taken(self.device, lambda: [*repeated()]).peak
