"""The loss at each position of long texts (figure 3a of the paper).

A text is read window by window. The state is carried from each window to the next, so that memory does not grow with
the length, and the result is that of one pass. Where the corpus knows its documents, each document is read from its
start. Other corpora are cut into stretches of `length` positions, side by side; what is left at the end is not read.

Position p, counted from 1, is predicted from p symbols. Its loss is the mean of -ln p over all stretches that reach it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffmamba.data import Data
from diffmamba.data.corpus import Corpus
from diffmamba.data.streams import IGNORED, spread_evenly
from diffmamba.errors import SettingError
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.perplexity import perplexity
from diffmamba.measures.streamed import streamed
from diffmamba.metric import Metric
from diffmamba.models.language_model import LanguageModel
from diffmamba.ranges import Count, Size

LATE = 8
"""The last positions of which there is a figure: one in so many."""


@dataclass(frozen=True)
class LossByPosition(Measure):
    """Mean of -ln p at each position of long stretches or documents.

    Args:
        split: test, val, train, or all: train, val and test one after the other, as one sequence.
        length: positions of a stretch; of a document at most.
        window: symbols read at once; None is as in training. It changes no result but for rounding.
        batch: stretches side by side.
        limit: that many stretches or documents, spread evenly over the split; None is all.
        shift: 1: the next symbol is predicted. 2: the one after it, a fault of the script behind the published figure.
    """

    split: Literal["test", "val", "train", "all"] = "test"
    length: Size = 65536
    window: Count | None = None
    batch: Size = 1
    limit: Count | None = None
    shift: Literal[1, 2] = 1

    metrics: ClassVar[Mapping[str, Metric]] = {
        "nats": Metric("nats per symbol", digits=4),
        "ppl": Metric("PPL"),
        "bits": Metric("bits per symbol", digits=4),
        "late_nats": Metric(f"nats per symbol in the last 1/{LATE} of the positions", digits=4),
        "uniform_nats": Metric("nats of equal chances for all symbols", digits=4),
        "unigram_nats": Metric("nats of the best guess that knows no symbol before", digits=4),
        "symbols": Metric("symbols", "higher", 0),
        "stretches": Metric("stretches", "higher", 0),
    }
    headline = "nats"
    reads_corpus_alone = True

    def completed(self, settings: Mapping[str, Any]) -> "LossByPosition":
        window = self.window or min(settings["data"].get("length") or self.length, self.length)
        return replace(self, window=window, limit=self.limit or None)

    def check(self, data: Data) -> None:
        if self.window and self.window > self.length:
            raise SettingError(
                f"measure.window={self.window} is more than measure.length={self.length}; set it to less"
            )
        self._stretches(data)

    def check_network(self, network: nn.Module) -> None:
        if not isinstance(network, LanguageModel):
            raise SettingError("measure=loss_by_position needs a language model, and this network is none")

    @torch.inference_mode()
    def rows(self, subject: Subject) -> Iterator[Row]:
        """Sums in float64; no more than a window of `batch` stretches is in memory."""
        network = cast(LanguageModel, subject.network)
        stretches = self._stretches(subject.data)
        longest = max(end - start for start, end in stretches)
        sums, counts = torch.zeros(longest, dtype=torch.float64), torch.zeros(longest, dtype=torch.int64)
        occurred = torch.zeros(network.vocabulary_size, dtype=torch.int64)
        for first in range(0, len(stretches), self.batch):
            self._read(subject, stretches[first : first + self.batch], sums, counts, occurred)
            subject.progress(min(first + self.batch, len(stretches)), len(stretches))
        by_position = sums / counts
        late = slice(longest - -(-longest // LATE), None)
        total, mean = int(counts.sum()), (sums.sum() / counts.sum()).item()
        shares = occurred[occurred > 0].double() / total
        figures = {
            "nats": mean,
            "ppl": perplexity(mean),
            "bits": mean / math.log(2),
            "late_nats": (sums[late].sum() / counts[late].sum()).item(),
            "uniform_nats": math.log(network.vocabulary_size),
            "unigram_nats": -(shares * shares.log()).sum().item(),
            "symbols": total,
            "stretches": len(stretches),
        }
        yield from (Row(name, value) for name, value in figures.items())
        before = 0
        for position, (nats, count) in enumerate(zip(by_position.tolist(), counts.tolist(), strict=True), start=1):
            yield Row("nats", nats, {"position": position})
            if count != before:  # where documents end
                yield Row("stretches", count, {"position": position})
            before = count

    def _read(
        self, subject: Subject, stretches: list[tuple[int, int]], sums: Tensor, counts: Tensor, occurred: Tensor
    ) -> None:
        """Adds what some stretches cost at each position, how many reach it, and how often each target occurs."""
        network, symbols = cast(LanguageModel, subject.network), _corpus(subject.data).split(self.split)
        longest = max(end - start for start, end in stretches)
        assert self.window
        places = [(at, min(at + self.window, longest)) for at in range(0, longest, self.window)]
        inputs = (subject.to_device(self._window(symbols, stretches, *place)[0]) for place in places)
        for (first, last), hidden in zip(places, streamed(network, inputs), strict=True):
            targets = self._window(symbols, stretches, first, last)[1]
            sums[first:last] += network.predicted(hidden, subject.to_device(targets)).cpu().double().sum(0)
            counted = targets != IGNORED
            counts[first:last] += counted.sum(0)
            occurred += torch.bincount(targets[counted], minlength=len(occurred))

    def _window(
        self, symbols: np.ndarray, stretches: list[tuple[int, int]], first: int, last: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets, each int64 `(stretches, last - first)`, of these positions, counted from 0.

        Beyond the end of a stretch the input is 0 and the target -100.
        """
        inputs = torch.zeros(len(stretches), last - first, dtype=torch.int64)
        targets = torch.full_like(inputs, IGNORED)
        for row, (start, end) in enumerate(stretches):
            here = slice(start + first, min(start + last, end))
            count = max(0, here.stop - here.start)
            inputs[row, :count] = torch.from_numpy(symbols[here].astype(np.int64))
            after = symbols[here.start + self.shift : here.start + self.shift + count]
            targets[row, :count] = torch.from_numpy(after.astype(np.int64))
        return inputs, targets

    def _stretches(self, data: Data) -> list[tuple[int, int]]:
        """Where each stretch starts and ends in the split: the positions from which something is predicted."""
        corpus = _corpus(data)
        documents, symbols = corpus.documents(self.split), len(corpus.split(self.split))
        if documents is None:
            count = (symbols - self.shift) // self.length
            found = [(at * self.length, (at + 1) * self.length) for at in range(max(0, count))]
        else:
            ends = ((start, min(end - self.shift, start + self.length)) for start, end in documents)
            found = [(start, end) for start, end in ends if end > start]
        if not found:
            raise SettingError(
                f"measure.length={self.length} is more than the {symbols} symbols of the {self.split} split of "
                f"{corpus.name} fill; set it to fewer, or measure.split=all"
            )
        return [found[at] for at in spread_evenly(len(found), self.limit)]


def _corpus(data: Data) -> Corpus:
    corpus = getattr(data, "corpus", None)
    if corpus is None:
        raise SettingError(f"measure=loss_by_position needs a corpus, and {data.facts['name']} is none")
    return corpus
