"""Synthetic tasks of MAD (arXiv 2403.17844, section 3): compression, memorization, selective copying.

The three recall tasks are in `recall`. A rule is a dataclass whose fields are the factors of difficulty. Its examples
are a pure function of these, of a split and of a seed. All examples of a split are made at once, with arrays. The rules
were read from the suite's own code (athms/mad-lab), which figure 5 of *Differential Mamba* was made with.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from diffmamba.data.draws import Draws, Integers
from diffmamba.data.streams import IGNORED
from diffmamba.errors import SettingError
from diffmamba.ranges import Size

SPLITS = ("train", "val", "test")
FIXED = len(SPLITS)
"""The key, beside the splits, of what is the same in all of them."""


@dataclass(frozen=True)
class Examples:
    """Examples as integers, each array `(examples, positions)`.

    Args:
        inputs: the symbols that are read.
        targets: the right symbol at each position; -100 where there is nothing to predict.
        gaps: how many positions back the symbol stands that the answer repeats or follows from; 0 where the context
            does not hold it, and where there is nothing to predict.
    """

    inputs: Integers
    targets: Integers
    gaps: Integers

    def at(self, rows: Integers) -> "Examples":
        """The examples with these numbers."""
        return Examples(self.inputs[rows], self.targets[rows], self.gaps[rows])

    def and_(self, others: "Examples") -> "Examples":
        """These examples, then the others."""
        pairs = ((getattr(self, name), getattr(others, name)) for name in ("inputs", "targets", "gaps"))
        return Examples(*(np.concatenate(pair) for pair in pairs))


class Rule(ABC):
    """What the examples of a task look like. Fields of the subclass are its factors of difficulty."""

    vocabulary: Size
    length: Size
    repeats = False
    """Whether the same examples may stand in training and test."""

    @abstractmethod
    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        """So many examples of a split (train, val or test).

        Another `part` of a split has other examples. Another count may have others too: fewer are not always the first
        of more.
        """

    @abstractmethod
    def check(self) -> None:
        """Raises SettingError for factors that do not fit each other."""

    @property
    def name(self) -> str:
        """Its name in the words of `conf/data/mad/`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def factors(self) -> dict[str, float]:
        """The factors of difficulty with their values."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int | float)}

    @property
    def positions(self) -> int:
        """The positions of an example that a network reads."""
        return self.length

    @property
    @abstractmethod
    def answers(self) -> int:
        """The number of different symbols among the targets of an evaluation."""

    def ceiling(self, train_examples: int) -> float:
        """The macro accuracy that can be expected of a model that knows all that the training examples show."""
        return 1.0


@dataclass(frozen=True)
class Compression(Rule):
    """An auto-encoder's task: `length - 1` random symbols and a last one, from whose state all of them are told.

    Symbols are uniform in [0, vocabulary - 1). The last position has the compression symbol, vocabulary - 1. Every
    position is a target, the last one too, as in the suite's code. The gap is the distance to the last position.
    """

    vocabulary: Size
    length: Size

    def check(self) -> None:
        require(self.vocabulary >= 3, f"data.vocabulary={self.vocabulary}", "compression needs at least 3")
        require(self.length >= 2, f"data.length={self.length}", "compression needs at least 2")

    @property
    def answers(self) -> int:
        return self.vocabulary

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        inputs = np.full((count, self.length), self.vocabulary - 1)
        inputs[:, :-1] = draws_of(seed, split, part).below(self.vocabulary - 1, count, self.length - 1)
        gaps = np.broadcast_to(np.arange(self.length)[::-1], inputs.shape)
        return Examples(inputs, inputs, gaps)


@dataclass(frozen=True)
class Memorization(Rule):
    """A dictionary to be learnt by heart: key, marker, key, marker, …; at each marker the key's value is the target.

    There are (vocabulary - 1) // 2 keys, the lowest symbols, and as many of the symbols above them, up to the marker
    vocabulary - 1, are their values. Which value belongs to which key follows from the seed alone, and is the same in
    all splits. Keys are uniform, with repetition.

    With few examples not every key is shown in training: `ceiling` is the share of keys that is, on average.
    """

    vocabulary: Size
    length: Size
    repeats = True

    def check(self) -> None:
        require(self.vocabulary >= 5, f"data.vocabulary={self.vocabulary}", "memorization needs at least 5: two pairs")
        require_even(self.length, "memorization reads pairs of a key and a marker")

    @property
    def answers(self) -> int:
        return (self.vocabulary - 1) // 2

    def ceiling(self, train_examples: int) -> float:
        return 1 - (1 - 1 / self.answers) ** (train_examples * self.length // 2)

    def values(self, seed: int) -> Integers:
        """The value of each key, `(keys,)`."""
        keys, others = self.answers, self.vocabulary - 1 - self.answers
        return keys + Draws(seed, FIXED).order(others)[:keys]

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        keys = draws_of(seed, split, part).below(self.answers, count, self.length // 2)
        inputs = np.full((count, self.length), self.vocabulary - 1)
        targets = np.full((count, self.length), IGNORED)
        inputs[:, ::2], targets[:, 1::2] = keys, self.values(seed)[keys]
        return Examples(inputs, targets, np.zeros_like(targets))


@dataclass(frozen=True)
class SelectiveCopying(Rule):
    """`copy` random symbols among blanks, a marker, then `copy` blanks, at which the symbols are told in their order.

    Symbols are uniform in [0, vocabulary - 2), the blank is vocabulary - 2 and the marker vocabulary - 1. Each of the
    `length - 2 · copy - 1` blanks before the marker stands before one of the symbols, uniformly chosen. (So the last
    symbol stands right before the marker, as in the suite's code.)
    """

    vocabulary: Size
    length: Size
    copy: Size

    def check(self) -> None:
        require(self.vocabulary >= 4, f"data.vocabulary={self.vocabulary}", "selective copying needs at least 4")
        most = (self.length - 1) // 2
        require(
            self.copy <= most,
            f"data.copy={self.copy}",
            f"at most {most} symbols, a marker and as many blanks fit into data.length={self.length}",
        )

    @property
    def answers(self) -> int:
        return self.vocabulary - 2

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        draws, copy, blank = draws_of(seed, split, part), self.copy, self.vocabulary - 2
        blanks = self.length - 2 * copy - 1
        symbols = draws.below(blank, count, copy)
        before = draws.below(copy, count, blanks)  # the symbol that each blank stands before
        rows = np.arange(count)[:, None]
        numbers = np.bincount((rows * copy + before).ravel(), minlength=count * copy).reshape(count, copy)
        places = np.cumsum(numbers, axis=1) + np.arange(copy)
        inputs, targets = np.full((count, self.length), blank), np.full((count, self.length), IGNORED)
        inputs[rows, places], inputs[:, -copy - 1], targets[:, -copy:] = symbols, blank + 1, symbols
        gaps = np.zeros_like(targets)
        gaps[:, -copy:] = np.arange(self.length - copy, self.length) - places
        return Examples(inputs, targets, gaps)


def draws_of(seed: int, split: str, part: int) -> Draws:
    """The random numbers of a part of a split."""
    return Draws(seed, SPLITS.index(split), part)


def require(holds: bool, setting: str, reason: str) -> None:
    """Raises SettingError for a setting that does not hold what it must."""
    if not holds:
        raise SettingError(f"{setting}: {reason}")


def require_even(length: int, reason: str) -> None:
    """Raises SettingError for a length that is odd or has no room for two pairs."""
    require(length >= 4 and length % 2 == 0, f"data.length={length}", f"{reason}, so it must be even and at least 4")
