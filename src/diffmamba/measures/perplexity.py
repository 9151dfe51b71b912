"""PPL of given weights, and the loss by position in the window.

Windows may overlap. Every symbol of the split but the first counts once, in the first window that holds it: with a
small stride, each is predicted from nearly a whole window of symbols before it. Position `p`, counted from 1, is
predicted from the `p` symbols of its window up to there.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from diffmamba.data import Data
from diffmamba.data.corpus import ALL
from diffmamba.data.sliding import SlidingWindows
from diffmamba.data.streams import IGNORED
from diffmamba.errors import SettingError
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.metric import Metric
from diffmamba.ranges import Count


@dataclass(frozen=True)
class Perplexity(Measure):
    """Mean of -ln p over a split in sliding windows. What is None is as in training (see `completed`).

    Args:
        split: test, val, train, or all: train, val and test one after the other, as one sequence.
        window: symbols in a window.
        stride: symbols from the start of a window to that of the next; None is the window.
        batch: windows at once; None is as many symbols at once as in the evaluations of training.
        limit: that many windows, spread evenly over the split; None is all.
    """

    split: Literal["test", "val", "train", "all"] = "test"
    window: Count | None = None
    stride: Count | None = None
    batch: Count | None = None
    limit: Count | None = None

    metrics: ClassVar[Mapping[str, Metric]] = {
        "ppl": Metric("PPL"),
        "nats": Metric("nats per symbol", digits=4),
        "bits": Metric("bits per symbol", digits=4),
        "symbols": Metric("symbols", "higher", 0),
        "windows": Metric("windows", "higher", 0),
    }
    headline = "ppl"
    reads_corpus_alone = True

    def completed(self, settings: Mapping[str, Any]) -> "Perplexity":
        data = settings["data"]
        window = self.window or data["length"]
        batch = self.batch or max(1, data["eval_batch_size"] * data["length"] // window)
        return replace(self, window=window, stride=self.stride or window, batch=batch, limit=self.limit or None)

    def over(self, facts: Mapping[str, Any]) -> "Perplexity":
        sizes = facts["sizes"]
        symbols = sum(sizes.values()) if self.split == ALL else sizes.get(self.split)
        if not (symbols and self.limit and self.window and self.stride):
            return self
        windows = 1 + max(0, -(-(symbols - 1 - self.window) // self.stride))
        return self if self.limit < windows else replace(self, limit=None)

    def check(self, data: Data) -> None:
        self._windows(data)

    @torch.inference_mode()
    def rows(self, subject: Subject) -> Iterator[Row]:
        """Sums in float64 what each batch of windows costs; no more than one batch is in memory."""
        windows = self._windows(subject.data)
        total, predicted, done = 0.0, 0, 0
        sums, counts = torch.zeros(windows.length, dtype=torch.float64), torch.zeros(windows.length, dtype=torch.int64)
        for inputs, targets, counted in windows:
            nats = subject.network(*subject.to_device((inputs, targets))).cpu().double()
            sums += nats.sum(0)
            counts += (targets != IGNORED).sum(0)
            total += nats[counted].sum().item()
            predicted += int(counted.sum())
            done += len(inputs)
            subject.progress(done, len(windows))
        mean = total / predicted
        figures = {
            "ppl": perplexity(mean),
            "nats": mean,
            "bits": mean / math.log(2),
            "symbols": predicted,
            "windows": len(windows),
        }
        yield from (Row(name, value) for name, value in figures.items())
        by_position = (sums / counts).tolist()  # the first window reaches every position
        for position, (nats_there, count) in enumerate(zip(by_position, counts.tolist(), strict=True), start=1):
            yield Row("nats", nats_there, {"position": position})
            yield Row("windows", count, {"position": position})

    def _windows(self, data: Data) -> SlidingWindows:
        corpus = getattr(data, "corpus", None)
        if corpus is None:
            raise SettingError(f"measure=perplexity needs a corpus, and {data.facts['name']} is none")
        assert self.window is not None
        assert self.stride is not None
        assert self.batch is not None
        return SlidingWindows(corpus.split(self.split), self.window, self.stride, self.batch, self.limit)


def perplexity(nats: float) -> float:
    """e to the nats; infinite where that is beyond a float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
