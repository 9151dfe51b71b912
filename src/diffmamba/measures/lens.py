"""What a language model would say after each of its layers, by the logit lens and the tuned lens (figure 6).

A tuned lens is trained first, on another split than it is measured on (see `tuned_lens`). Then, at each layer and with
each lens: how well it predicts the next symbol, how far it is from what the model says at its end, and the probability
of the right symbol. Layer 0 is the embedding, layer i the output of residual block i.
"""

import glob
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffmamba.data import Data
from diffmamba.data.data import of_a_corpus
from diffmamba.data.streams import IGNORED, spread_evenly
from diffmamba.errors import SettingError
from diffmamba.measures import sequences, tuned_lens
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.sequences import Sequences
from diffmamba.measures.tuned_lens import Descent, Kept, Part, Reading, TunedLens
from diffmamba.metric import Metric
from diffmamba.models.language_model import LanguageModel
from diffmamba.ranges import Count, Dropout, Positive, Seed, Size, Weight

FILE = "lens.safetensors"
BITS = 1 / math.log(2)
PERCENT = 100.0
QUANTITIES = ("cross_entropy", "kl", "entropy", "probability", "other_probability")
RATES = {"sgd": 0.1, "adam": 1e-3}
"""Learning rates of the public training of tuned lenses, by optimiser."""


@dataclass(frozen=True)
class Lens(Measure):
    """Logit lens and tuned lens of a language model. What is None is as in training (see `completed`).

    Args:
        split: what is measured: test, val or train.
        length: symbols in a window of a corpus; a task's examples are as long as they are.
        limit: that many sequences are measured, spread evenly over the split; None is all.
        batch: sequences at once.
        prompts: a .csv or .jsonl file with the columns prompt and target, which is measured in the place of the split.
        lens: a lens that is there already, the id of its measurement or its file, in the place of training one.
        store: the run store that holds the id.
        trained_on: the split that the lens is trained on.
        steps: of the lens's training; 0 is the logit lens alone.
        sequences: of each step.
        optimizer, learning_rate, momentum, weight_decay, clip: see `tuned_lens.Descent`. A learning_rate of None is 0.1
            for sgd, and 0.001 for adam.
        seed: draws the sequences that the lens is trained on.
        numbering: of layers. embedding: 0 is the embedding, i is residual block i. published: as figure 6 counts, so
            that k is block k + 1, and the embedding and block 1 are missing.
        prompts_are, lens_is: the hashes of these files, which `completed` finds.
    """

    split: Literal["test", "val", "train"] = "test"
    length: Count | None = None
    limit: Count | None = None
    batch: Count | None = None
    prompts: str | None = None
    lens: str | None = None
    store: str = "runs"
    trained_on: Literal["train", "val"] = "train"
    steps: Count = 250
    sequences: Size = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive | None = None
    momentum: Dropout = 0.9
    weight_decay: Weight = 1e-3
    clip: Positive = 1.0
    seed: Seed = 0
    numbering: Literal["embedding", "published"] = "embedding"
    prompts_are: str | None = None
    lens_is: str | None = None

    metrics: ClassVar[Mapping[str, Metric]] = {
        "kl": Metric("bits from the model, tuned lens", digits=3),
        "logit_kl": Metric("bits from the model, logit lens", digits=3),
        "early_probability": Metric("probability of the target before the last layer, %", "higher", 2),
        "probability": Metric("probability of the target, %", "higher", 2),
        "bits": Metric("bits per symbol", digits=4),
        "entropy": Metric("bits of entropy", digits=4),
        "symbols": Metric("symbols", "higher", 0),
        "layers": Metric("layers", "higher", 0),
    }
    headline = "kl"
    reads_corpus_alone = True

    def completed(self, settings: Mapping[str, Any]) -> "Lens":
        data = settings["data"]
        length = self.length or data.get("length") or 1
        at_once = data.get("eval_batch_size", 1) * data.get("length", length)
        found = replace(
            self,
            length=length,
            limit=self.limit or None,
            batch=self.batch or max(1, at_once // length),
            learning_rate=self.learning_rate or RATES[self.optimizer],
            prompts_are=_digest(_read(Path(self.prompts), f"measure.prompts={self.prompts}")) if self.prompts else None,
        )
        if self.lens is None:
            return found
        plain = {name: getattr(Lens, name) for name in (*asdict(found.descent), "sequences", "seed", "trained_on")}
        return replace(found, lens_is=_digest(self._lens_content()), **plain)

    def over(self, facts: Mapping[str, Any]) -> "Lens":
        """Examples have a length of their own."""
        return self if of_a_corpus(facts) else replace(self, length=None)

    @property
    def descent(self) -> Descent:
        """How the lens is trained."""
        rate = self.learning_rate or RATES[self.optimizer]
        return Descent(self.steps, self.optimizer, rate, self.momentum, self.weight_decay, self.clip)

    def check(self, data: Data) -> None:
        self._measured(data)
        if self.lens is None and self.steps:
            self._trained_on(data)

    def check_network(self, network: nn.Module) -> None:
        if not isinstance(network, LanguageModel):
            raise SettingError(f"measure=lens needs a language model, and this is a {type(network).__name__}")
        if self.lens is not None:
            self._kept().require_shape(network, f"measure.lens={self.lens}")

    def check_weights(self, network: Callable[[], nn.Module]) -> None:
        if self.lens is not None:
            self._kept().require_weights(network(), f"measure.lens={self.lens}")

    def rows(self, subject: Subject) -> Iterator[Row]:
        network = subject.network
        assert isinstance(network, LanguageModel)
        lens = None
        if self.lens is not None:
            lens = self._kept().opened(network, f"measure.lens={self.lens}")
        elif self.steps:
            lens, losses = self._train(network, subject)
            trained = asdict(self.descent) | {"data": subject.data.facts["name"], "split": self.trained_on}
            subject.keep(FILE, tuned_lens.to_bytes(lens, network, trained))
            yield from (Row("training_kl", loss * BITS, {"step": step}) for step, loss in enumerate(losses, start=1))
        yield from self._measure(network, lens, subject)

    def _train(self, network: LanguageModel, subject: Subject) -> tuple[TunedLens, list[float]]:
        lens = TunedLens.of(network)
        of, random = self._trained_on(subject.data), np.random.default_rng(self.seed)
        drawn = (random.integers(0, of.count, self.sequences) for _ in range(self.steps))
        batches = (self._parts(of, rows, subject) for rows in drawn)
        return lens, tuned_lens.train(lens, network, batches, self.descent, subject.progress)

    def _parts(self, of: Sequences, rows: np.ndarray, subject: Subject) -> Iterator[Part]:
        for inputs, targets in self._batches(of, rows):
            yield subject.to_device(inputs), subject.to_device(targets != IGNORED)

    def _batches(self, of: Sequences, rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.batch or 1
        yield from (of.at(rows[first : first + size]) for first in range(0, len(rows), size))

    def _measure(self, network: LanguageModel, lens: TunedLens | None, subject: Subject) -> Iterator[Row]:
        of = self._measured(subject.data)
        rows = spread_evenly(of.count, self.limit)
        shares = _shares(subject.data.vocabulary_size, (targets for _, targets in self._batches(of, rows)))
        shares = shares.to(subject.device)
        sums: dict[tuple[int, str], list[Tensor]] = {}
        counts, done = [], 0
        for inputs, targets in self._batches(of, rows):
            symbols, expected = subject.to_device((inputs, targets))
            where = expected != IGNORED
            counts.append(where.sum(1).cpu().double())
            for reading in tuned_lens.readings(network, lens, symbols, where):
                by_sequence = _by_sequence(_quantities(reading, expected[where], shares), where)
                sums.setdefault((reading.layer, reading.lens), []).append(by_sequence)
            done += len(inputs)
            subject.progress(done, len(rows))
        found = {place: _estimates(torch.cat(parts, 1), torch.cat(counts)) for place, parts in sums.items()}
        yield from self._figures(found, int(torch.cat(counts).sum()))
        for (layer, name), estimates in sorted(found.items()):
            if (number := self._number(layer)) is not None:
                for quantity, value in estimates.items():
                    yield Row(quantity, value, {"layer": number, "lens": name})

    def _figures(self, found: Mapping[tuple[int, str], Mapping[str, float]], symbols: int) -> Iterator[Row]:
        """The figures of the whole. An untrained lens is the logit lens."""
        last = max(layer for layer, _ in found)
        tuned = "tuned" if (last, "tuned") in found else "logit"

        def before_last(quantity: str, lens: str) -> float:
            return sum(found[layer, lens][quantity] for layer in range(last)) / last

        model = found[last, "logit"]
        yield Row("kl", before_last("kl", tuned))
        yield Row("logit_kl", before_last("kl", "logit"))
        yield Row("early_probability", before_last("probability", tuned))
        yield Row("probability", model["probability"])
        yield Row("bits", model["cross_entropy"])
        yield Row("entropy", model["entropy"])
        yield Row("symbols", symbols)
        yield Row("layers", last)

    def _number(self, layer: int) -> int | None:
        """What a layer is called; None for one that is left out."""
        if self.numbering == "embedding":
            return layer
        return layer - 1 if layer > 1 else None

    def _measured(self, data: Data) -> Sequences:
        if self.prompts is not None:
            return sequences.of_prompts(
                _read(Path(self.prompts), f"measure.prompts={self.prompts}"), self.prompts, data
            )
        return sequences.of_data(data, self.split, self.length or 0, "measure=lens")

    def _trained_on(self, data: Data) -> Sequences:
        return sequences.of_data(data, self.trained_on, self.length or 0, "measure=lens", anywhere=True)

    def _kept(self) -> Kept:
        return Kept.of(self._lens_content(), f"measure.lens={self.lens}")

    def _lens_content(self) -> bytes:
        """The content of the file that `lens` names, itself or by the run that keeps it."""
        named, given = f"measure.lens={self.lens}", Path(str(self.lens)).expanduser()
        if not self.lens:
            raise SettingError("measure.lens= is empty: give the id of a lens's measurement, or its file")
        if given.is_file():
            return _read(given, named)
        kept = sorted(Path(self.store).glob(f"{glob.escape(str(self.lens))}*/{FILE}"))
        if len(kept) != 1:
            found = f"{len(kept)} measurements" if kept else "no measurement"
            raise SettingError(f"{named} is no file, and {found} in {self.store} with such an id keeps a lens")
        return _read(kept[0], named)


def _shares(vocabulary: int, targets: Iterator[Tensor]) -> Tensor:
    """The share of each symbol among the targets, float64 `(vocabulary,)`."""
    counts = torch.zeros(vocabulary, dtype=torch.float64)
    for batch in targets:
        counts += torch.bincount(batch[batch != IGNORED], minlength=vocabulary)
    return counts / counts.sum()


def _quantities(reading: Reading, targets: Tensor, shares: Tensor) -> Tensor:
    """`QUANTITIES` of each position `(quantities, positions)`, in bits and per cent.

    The other probability is that of a target of another position, drawn by how often each symbol but the right one is
    a target: what a lens that knows the targets, but not which one is asked for, gives to the right one.
    """
    said, shares = reading.said, shares.to(reading.said.dtype)
    probabilities = said.exp()
    log_target = said.gather(1, targets[:, None])[:, 0]
    target, share = log_target.exp(), shares[targets]
    entropy = -(probabilities * said.clamp(min=-1e4)).sum(1)  # 0 · -inf is 0 here
    other = (probabilities @ shares - share * target) / (1 - share)
    return torch.stack([-log_target * BITS, reading.kl * BITS, entropy * BITS, target * PERCENT, other * PERCENT])


def _by_sequence(values: Tensor, where: Tensor) -> Tensor:
    """The sums of each sequence, float64 `(quantities, sequences)`, of values `(quantities, positions)`."""
    sums = torch.zeros(len(values), len(where), dtype=torch.float64, device=values.device)
    return sums.index_add_(1, where.nonzero()[:, 0], values.double()).cpu()


def _estimates(sums: Tensor, counts: Tensor) -> dict[str, float]:
    """The mean of each quantity over all positions, and as NAME_error its standard error, from sums by sequence.

    Positions of one sequence are not independent, so the error is that of a ratio of two sums over sequences. There is
    none for fewer than two sequences. A quantity that is not defined is left out.
    """
    means = sums.sum(1) / counts.sum()
    found = {}
    for name, mean, by_sequence in zip(QUANTITIES, means.tolist(), sums, strict=True):
        if math.isnan(mean) and name == "other_probability":  # there is only one target
            continue
        found[name] = mean
        if (n := len(counts)) > 1:
            squares = (by_sequence - mean * counts).square().sum().item()
            found[f"{name}_error"] = math.sqrt(squares * n / (n - 1)) / counts.sum().item()
    return found


def _read(path: Path, named: str) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise SettingError(f"{named} cannot be read: {error.strerror}") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
