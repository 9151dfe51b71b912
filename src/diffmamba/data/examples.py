"""Examples of a synthetic task as Lightning wants them: made in memory, in a new order each epoch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmamba.data.data import Data
from diffmamba.data.draws import Draws
from diffmamba.data.streams import IGNORED
from diffmamba.data.synthetic import SPLITS, Examples, Rule
from diffmamba.errors import SettingError
from diffmamba.ranges import Seed, Size

TRIES = 20  # parts of a split that are made in search of examples that are not in training
SAMPLE = 256  # examples by which `check` sees whether a task may have too few different ones
ORDER = len(SPLITS) + 1
"""The key of the order of the examples, beside the splits and what is fixed."""


class SyntheticData(Data):
    """Batches `(inputs, targets)` to train on, `(inputs, targets, gaps)` to evaluate with; int64 `(batch, positions)`.

    The examples of val and test are all evaluated. None of them stands in training too, or twice in both, unless the
    rule lets examples repeat. The order of the training examples is another one in each epoch.

    Args:
        rule: the task, with its factors of difficulty.
        examples: of training.
        evaluated: examples of val, and as many of test.
        batch_size: examples of one optimiser step, over all ranks and accumulated parts. The last step of an epoch has
            the rest.
        eval_batch_size: examples of an evaluation batch, on each rank.
        seed: of the examples and of their order.
        parts: number of batches, with accumulated gradients, that make up a rank's share of a step.
    """

    def __init__(
        self,
        *,
        rule: Rule,
        examples: Size,
        evaluated: Size,
        batch_size: Size,
        eval_batch_size: Size,
        seed: Seed,
        parts: Size = 1,
    ) -> None:
        super().__init__()
        self.rule, self.examples, self.evaluated, self.seed = rule, examples, evaluated, seed
        self.batch_size, self.eval_batch_size, self.parts = batch_size, eval_batch_size, parts
        self._batches: TrainBatches | None = None
        self._restored: dict[str, int] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        self.rule.check()  # a plan asks for these before anything is checked
        counts = (self.examples, self.evaluated, self.evaluated)
        return {
            "name": self.rule.name,
            "fingerprint": None,
            "sizes": {split: count * self.rule.positions for split, count in zip(SPLITS, counts, strict=True)},
            "vocabulary": self.rule.vocabulary,
            "chance": 1 / self.rule.answers,
            "ceiling": self.rule.ceiling(self.examples),
        }

    @classmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        return -(-settings["examples"] // settings["batch_size"])

    @property
    def steps_per_epoch(self) -> int:
        return self.steps_in_epoch(self.facts, examples=self.examples, batch_size=self.batch_size)

    def check(self, world_size: int) -> None:
        self.rule.check()
        if self.examples < self.batch_size:
            raise SettingError(
                f"data.examples={self.examples}: fewer than one batch; use at least data.batch_size={self.batch_size}"
            )
        shares = world_size * self.parts
        for count in {self.batch_size, self.examples % self.batch_size}:
            if count % shares:
                raise SettingError(
                    f"data.batch_size={self.batch_size}: steps of {count} examples cannot be divided among "
                    f"{world_size} ranks with {self.parts} accumulated parts each; use a multiple of {shares} that "
                    f"divides data.examples={self.examples}"
                )
        if self.evaluated < world_size:
            raise SettingError(f"data.evaluated={self.evaluated}: each of {world_size} ranks needs an example")
        if not self.rule.repeats and len(np.unique(_names(self.rule.examples("train", SAMPLE, self.seed)))) < SAMPLE:
            _ = self.splits  # they can be made quickly, and it is seen whether there are enough

    def described(self) -> str:
        factors = ", ".join(f"{name} {value}" for name, value in self.rule.factors.items())
        return (
            f"{self.facts['name']} ({factors}): {self.examples:,} examples of training, {self.evaluated:,} of val and "
            f"as many of test; chance {self.facts['chance']:.3f}, at most {self.facts['ceiling']:.3f} can be expected"
        )

    @cached_property
    def splits(self) -> dict[str, Examples]:
        """The examples of each split; made where they are first asked for.

        Raises SettingError where the task has too few different ones.
        """
        found = {"train": self.rule.examples("train", self.examples, self.seed)}
        known = _names(found["train"])
        for split in SPLITS[1:]:
            found[split] = self._new(split, known)
            known = np.concatenate([known, _names(found[split])])
        return found

    def _new(self, split: str, known: np.ndarray) -> Examples:
        """The examples of a split, without those that are known by their name."""
        made = self.rule.examples(split, self.evaluated, self.seed)
        if self.rule.repeats:
            return made
        made = made.at(_unknown(made, known))
        for part in range(1, TRIES):
            if len(made.inputs) >= self.evaluated:
                break
            further = self.rule.examples(split, self.evaluated, self.seed, part)
            both = made.and_(further.at(_unknown(further, known)))
            made = both.at(_unknown(both, known[:0]))
        if len(made.inputs) < self.evaluated:
            factors = ", ".join(f"data.{name}={value}" for name, value in self.rule.factors.items() if value)
            raise SettingError(
                f"{factors}: there are too few different examples for {split} that are not in training; raise one of "
                f"these, or lower data.examples={self.examples} or data.evaluated={self.evaluated}"
            )
        return made.at(np.arange(self.evaluated))

    def train_dataloader(self) -> "TrainBatches":
        self._batches = TrainBatches(self.splits["train"], self.batch_size, self.seed, *self._ranks(), self.parts)
        if self._restored is not None:
            self._batches.load_state_dict(self._restored)
            self._restored = None
        return self._batches

    def val_dataloader(self) -> list["EvalBatches"]:
        return [EvalBatches(self.splits[split], self.eval_batch_size, *self._ranks()) for split in ("val", "test")]

    def state_dict(self) -> dict[str, int]:
        return self._batches.state_dict() if self._batches is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._restored = state_dict  # Lightning asks for the training loader later

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)


class TrainBatches:
    """Batches `(inputs, targets)` of a rank. One iteration goes from the current position to the end of the epoch.

    The position moves just before the last part of a step is yielded, as in `streams.TrainStreams`.
    """

    def __init__(self, examples: Examples, batch_size: int, seed: int, rank: int, world_size: int, parts: int):
        self._inputs, self._targets = map(
            torch.from_numpy, map(np.ascontiguousarray, (examples.inputs, examples.targets))
        )
        self._batch_size, self._seed = batch_size, seed
        self._shares, self._own = world_size * parts, range(rank * parts, (rank + 1) * parts)
        self.steps = -(-len(self._inputs) // batch_size)
        self.epoch = self.position = 0

    def __len__(self) -> int:
        """Batches of a whole epoch: `parts` for each step."""
        return self.steps * len(self._own)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = self.epoch
        order = torch.from_numpy(Draws(self._seed, ORDER, epoch).order(len(self._inputs)))
        while self.epoch == epoch:
            step = order[self.position * self._batch_size : (self.position + 1) * self._batch_size]
            shares = step.chunk(self._shares)
            for share in self._own:
                if share == self._own[-1]:
                    self.epoch, self.position = divmod(self.epoch * self.steps + self.position + 1, self.steps)
                yield self._inputs[shares[share]], self._targets[shares[share]]

    def state_dict(self) -> dict[str, int]:
        """The next step takes batch `position` of `epoch`. It is the same on every rank."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from a saved position, with any number of ranks and parts."""
        self.epoch, self.position = state["epoch"], state["position"]


class EvalBatches:
    """Batches `(inputs, targets, gaps)` of a rank; all ranks have the same number of batches.

    Where the examples cannot be divided among the ranks, some have one example more. If that is a batch of its own, the
    others have an example without targets in its place.
    """

    def __init__(self, examples: Examples, batch_size: int, rank: int, world_size: int):
        rows = np.array_split(np.arange(len(examples.inputs)), world_size)
        count = -(-len(rows[0]) // batch_size)
        own = examples.at(rows[rank])
        if len(own.inputs) < count:
            other = own.at(np.array([0]))
            own = own.and_(replace(other, targets=np.full_like(other.targets, IGNORED)))
        self._parts = [
            torch.from_numpy(np.ascontiguousarray(part)).tensor_split(count)
            for part in (own.inputs, own.targets, own.gaps)
        ]

    def __len__(self) -> int:
        return len(self._parts[0])

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        yield from zip(*self._parts, strict=True)


def _names(examples: Examples) -> np.ndarray:
    """The inputs of each example as one value."""
    rows = np.ascontiguousarray(examples.inputs)
    return rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]


def _unknown(examples: Examples, known: np.ndarray) -> np.ndarray:
    """The numbers of the examples whose name is not known, each name once, in their order."""
    names = _names(examples)
    first = np.sort(np.unique(names, return_index=True)[1])
    return first[~np.isin(names[first], known)]
