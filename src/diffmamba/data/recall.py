"""In-context recall, plain, noisy and fuzzy (MAD, arXiv 2403.17844, section 3): keys and values, then keys again.

Each example has a dictionary of its own. Wherever a key stands that has stood before, its value is to be predicted
("multi-query"). In training every next symbol is a target, also those that cannot be known, as in the suite's code; in
evaluations only the answers are.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from diffmamba.data.draws import Draws, Integers
from diffmamba.data.streams import IGNORED
from diffmamba.data.synthetic import Examples, Rule, draws_of, require, require_even
from diffmamba.ranges import Count, Size


@dataclass(frozen=True)
class InContextRecall(Rule):
    """Pairs of a key and its value, each one symbol; `length` symbols, of which the last is only predicted.

    Of the `vocabulary - noise_vocabulary` lower symbols the first half are keys and the others values; the rest is
    noise. All pairs but the last have a uniform key, and in its first place a key gets a uniform value. A pair is
    instead two noise symbols with probability `noise`, but one pair, uniformly chosen, never is. The last pair has one
    of the keys that have stood before, all equally likely.
    """

    vocabulary: Size
    length: Size
    noise: Annotated[float, Ge(0), Lt(1)] = 0.0
    noise_vocabulary: Count = 0

    def check(self) -> None:
        require_even(self.length, "in-context recall reads pairs of a key and a value")
        left = self.vocabulary - self.noise_vocabulary
        require(
            left >= 4,
            f"data.vocabulary={self.vocabulary}",
            f"in-context recall needs two keys and two values, so at least 4 + data.noise_vocabulary = "
            f"{4 + self.noise_vocabulary}",
        )
        require(
            not self.noise or self.noise_vocabulary > 0,
            f"data.noise={self.noise}",
            "there is no symbol for noise; set data.noise_vocabulary=16",
        )

    @property
    def name(self) -> str:
        return "noisy_" * bool(self.noise_vocabulary) + super().name

    @property
    def positions(self) -> int:
        return self.length - 1

    @property
    def keys(self) -> int:
        """The number of keys."""
        return (self.vocabulary - self.noise_vocabulary) // 2

    @property
    def answers(self) -> int:
        return self.vocabulary - self.noise_vocabulary - self.keys

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        draws, pairs, low = draws_of(seed, split, part), self.length // 2, self.vocabulary - self.noise_vocabulary
        rows = np.arange(count)
        values = self.keys + draws.below(self.answers, count, self.keys)  # that each key has if it is shown
        keys = draws.below(self.keys, count, pairs)
        noisy = np.zeros((count, pairs), bool)
        if self.noise:
            noisy[:, :-1] = draws.shares(count, pairs - 1) < self.noise
            noisy[rows, draws.below(pairs - 1, count)] = False
        shown = np.zeros((count, self.keys), bool)
        shown[np.nonzero(~noisy[:, :-1])[0], keys[:, :-1][~noisy[:, :-1]]] = True
        keys[:, -1] = np.where(shown, draws.shares(count, self.keys), -1).argmax(1)
        symbols = np.empty((count, pairs, 2), np.int64)
        symbols[..., 0], symbols[..., 1] = keys, values[rows[:, None], keys]
        if self.noise:
            symbols[noisy] = low + draws.below(self.noise_vocabulary, int(noisy.sum()), 2)
        back = since_last(np.where(noisy, -1, keys)) * 2 - 1  # from the key to where its value stood
        answered = np.zeros((count, pairs, 2), bool)
        answered[..., 1] = (back > 0) & ~noisy
        gaps = np.zeros((count, pairs, 2), np.int64)
        gaps[..., 1] = np.where(answered[..., 1], back, 0)
        return predicted(symbols, answered, gaps, split)


@dataclass(frozen=True)
class FuzzyInContextRecall(Rule):
    """Keys and values of several symbols, at most `motif` each, and what is asked for at the end; `length` positions.

    The highest symbol fills up the beginning. Of the others the lower half are for keys, the rest for values. A motif
    is an ordered choice of different symbols. Its size is uniform from 1 to `motif`, and all motifs of a size are
    equally likely; keys have always the full size in evaluations. In its first place a key gets a uniform value.

    A pair is asked for at the end. It is drawn first, and stands also among the others: in place of the pair that
    would stand first at or after a uniform position, unless its key stands before that by chance. Pairs follow each
    other as long as one of full size and the one that is asked for fit into `length - 1` positions with those before.
    (In the suite's code a few examples ask for a pair that has not been shown. Here each has.)
    """

    vocabulary: Size
    length: Size
    motif: Size = 3

    def check(self) -> None:
        least = 2 * self.motif + 1
        require(
            self.vocabulary >= least,
            f"data.vocabulary={self.vocabulary}",
            f"keys and values of data.motif={self.motif} different symbols need at least {least}",
        )
        room = 4 * self.motif + 1
        require(self.length >= room, f"data.length={self.length}", f"fuzzy in-context recall needs at least {room}")

    @property
    def keys(self) -> int:
        """The number of symbols that keys are made of."""
        return (self.vocabulary - 1) // 2

    @property
    def answers(self) -> int:
        return self.vocabulary - 1 - self.keys

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        draws, smallest = draws_of(seed, split, part), 1 if split == "train" else self.motif
        fitting = 5 + 5 * self.length // (2 * (smallest + 1 + 2 * self.motif))  # a quarter more than fit on average
        pairs = self._pairs(draws, count, 1, smallest)  # what is asked for
        while _sizes(pairs[:, :, 1:]).sum(1).min() < self.length:
            pairs = np.concatenate([pairs, self._pairs(draws, count, fitting, smallest)], axis=2)
            names = _names(pairs[: self.motif])
            pairs[self.motif :] = _of_first(names, pairs[self.motif :])
        limit = self.length - _sizes(pairs[:, :, :1]) - 2 * self.motif  # a pair that starts below it fits
        starts, same = _starts(pairs), names[:, 1:] == names[:, :1]
        here = np.minimum((starts < draws.below(limit, count, 1)).sum(1), (starts < limit).sum(1) - 1)
        missing = np.nonzero(np.where(same.any(1), same.argmax(1), same.shape[1]) > here)[0]  # else there by chance
        for array in (pairs, names):
            array[..., missing, 1 + here[missing]] = array[..., missing, 0]
        used = np.concatenate([_starts(pairs) < limit, np.ones((count, 1), bool)], axis=1)
        return self._laid_out(np.roll(pairs, -1, axis=2), np.roll(names, -1, axis=1), used, split)

    def _pairs(self, draws: Draws, count: int, slots: int, smallest: int) -> Integers:
        """Keys, then values `(2 · motif, count, slots)`, each filled up with -1. A key's own value is not yet known."""
        keys = self._motifs(draws, self.keys, count, slots, smallest)
        values = self._motifs(draws, self.answers, count, slots, 1)
        return np.concatenate([keys, np.where(values >= 0, values + self.keys, -1)])

    def _motifs(self, draws: Draws, symbols: int, count: int, slots: int, smallest: int) -> Integers:
        """Motifs `(motif, count, slots)`, filled up with -1."""
        motifs = draws.distinct(symbols, self.motif, count, slots)
        sizes = smallest + draws.below(self.motif - smallest + 1, count, slots)
        return np.where(np.arange(self.motif)[:, None, None] < sizes, motifs, -1)

    def _laid_out(self, pairs: Integers, names: Integers, used: np.ndarray, split: str) -> Examples:
        """Lays out those pairs `(2 · motif, count, slots)` that are `used`, at the end of `length + 1` positions.

        `names` are those of their keys.
        """
        back = since_last(np.where(used, names, -1))  # pairs since the key stood last
        sizes = np.where(used, _sizes(pairs), 0)
        ends = np.cumsum(sizes, axis=1)
        source = np.take_along_axis(ends, np.arange(back.shape[1]) - back, axis=1)
        gap = np.where(back > 0, ends - source - 1, 0).ravel()  # from the symbol before the answer
        laid_out = np.ascontiguousarray(np.moveaxis(np.where(used, pairs, -1), 0, -1))
        filled = np.arange(self.length, -1, -1) < ends[:, -1:]
        symbols, gaps = np.full(filled.shape, self.vocabulary - 1), np.zeros(filled.shape, np.int64)
        symbols[filled], gaps[filled] = laid_out[laid_out >= 0], np.repeat(gap, sizes.ravel())
        gaps[symbols < self.keys] = 0
        return predicted(symbols, gaps > 0, gaps, split)


def predicted(symbols: np.ndarray, answered: np.ndarray, gaps: np.ndarray, split: str) -> Examples:
    """Inputs and the next symbols as targets: all of them in training, in evaluations those that are `answered`.

    The arrays are `(examples, positions)`, or positions are divided further.
    """
    symbols, answered, gaps = (array.reshape(len(array), -1) for array in (symbols, answered, gaps))
    targets = symbols[:, 1:] if split == "train" else np.where(answered[:, 1:], symbols[:, 1:], IGNORED)
    return Examples(symbols[:, :-1], targets, gaps[:, 1:])


def since_last(numbers: Integers) -> Integers:
    """How many places ago the number stood last in its row `(rows, places)`; 0 where it had not stood, and for -1."""
    order = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, order, axis=1)
    same = np.zeros(numbers.shape, bool)
    same[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    distance = np.zeros_like(order)
    distance[:, 1:] = np.diff(order, axis=1)
    found = np.zeros_like(numbers)
    np.put_along_axis(found, order, np.where(same, distance, 0), axis=1)
    return found


def _names(motifs: Integers) -> Integers:
    """A number of at least 0 for each motif `(motif, count, slots)`: equal motifs have the same."""
    base, most, names = int(motifs.max()) + 2, 1, np.zeros(motifs.shape[1:], np.int64)
    for symbols in motifs:
        if most > 2**62 // base:
            names = np.unique(names, return_inverse=True)[1].reshape(names.shape)
            most = names.size
        names, most = names * base + symbols + 1, most * base
    return names


def _of_first(names: Integers, values: Integers) -> Integers:
    """The values `(motif, count, slots)` with, for each key, those of the slot in which its name stands first."""
    order = np.argsort(names, axis=1, kind="stable")
    ordered = np.take_along_axis(names, order, axis=1)
    new = np.ones(names.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begins = np.maximum.accumulate(np.where(new, np.arange(names.shape[1]), 0), axis=1)
    first = np.empty_like(order)
    np.put_along_axis(first, order, np.take_along_axis(order, begins, axis=1), axis=1)
    return np.take_along_axis(values, first[None], axis=2)


def _sizes(pairs: Integers) -> Integers:
    """The number of symbols of each pair `(2 · motif, count, slots)`."""
    return (pairs >= 0).sum(0)


def _starts(pairs: Integers) -> Integers:
    """The position at which each pair but the first would start if these stood in a row `(count, slots - 1)`."""
    sizes = _sizes(pairs[:, :, 1:])
    return np.cumsum(sizes, axis=1) - sizes
