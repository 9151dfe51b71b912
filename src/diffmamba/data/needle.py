"""Needles in prose: keys with their values far back in a text, then the keys again, whose values are asked for.

It is recall as in MAD, but English stands between the pairs, and they are rare in it. Each pair is the needle of its
own question and a distractor of the others, so that a measure knows where both are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffmamba.data.corpus import Corpus, CorpusChoice
from diffmamba.data.data import Data
from diffmamba.data.draws import Draws, Integers
from diffmamba.data.examples import SyntheticData
from diffmamba.data.recall import since_last
from diffmamba.data.streams import IGNORED
from diffmamba.data.synthetic import Examples, Rule, draws_of, require
from diffmamba.ranges import Count, Size


@dataclass(frozen=True)
class NeedlesInProse(Rule):
    """`keys` pairs of a key and its value in a stretch of prose; then each key again, followed by its value.

    Above the symbols of the prose there are `names` symbols for keys, and above those `values` for values. An example
    has `keys` different keys; a value is `value` symbols, uniform and independent. Pairs stand
    anywhere without overlap (two side by side are rarer than by chance), so that at least `distance` symbols of prose
    stand between the last of them and the questions, which are in random order. An example has `length` positions, and
    one symbol more that is only predicted; its prose is a stretch of its split of the corpus, interrupted where a pair
    stands.

    Only values that can be known are targets, in training too: prose would need far more training. In training each
    pair is shown `shown` times before the questions, and from the second time on its value is a target, which makes
    the task quick to learn. In evaluations each is shown once.
    """

    prose: Corpus
    length: Size
    keys: Size
    names: Size
    values: Size
    value: Size = 1
    distance: Count = 0
    shown: Size = 1

    name = "needle"

    @property
    def vocabulary(self) -> int:  # type: ignore[override]
        return self.prose.vocabulary.size + self.names + self.values

    @property
    def answers(self) -> int:
        return self.values

    @property
    def width(self) -> int:
        """Symbols of a pair."""
        return 1 + self.value

    @property
    def room(self) -> int:
        """The first so many symbols hold all pairs."""
        return self.length + 1 - self.distance - self.keys * self.width

    def check(self) -> None:
        require(self.keys <= self.names, f"data.keys={self.keys}", f"there are data.names={self.names} different ones")
        least = self.keys * self.width * (self.shown + 1) + self.distance
        require(
            self.length >= least,
            f"data.length={self.length}",
            f"data.shown={self.shown} times data.keys={self.keys} pairs of {self.width} symbols, "
            f"data.distance={self.distance} and the questions need at least {least}",
        )
        shortest = min(self.prose.sizes.values())
        require(self.length < shortest, f"data.length={self.length}", f"a split of the prose has {shortest} symbols")

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        draws, shown = draws_of(seed, split, part), self.shown if split == "train" else 1
        names = draws.distinct(self.names, self.keys, count).T
        values = self.names + draws.below(self.values, count, self.keys, self.value)
        pairs = np.concatenate([names[..., None], values], axis=2) + self.prose.vocabulary.size
        before, asked = (_shuffled(draws, self.keys, times, count) for times in (shown, 1))
        order = np.concatenate([before, asked], axis=1)  # the pair in each place, the questions last
        free = draws.below(self.room - before.shape[1] * self.width + 1, count, before.shape[1])
        places = np.sort(free, axis=1) + np.arange(before.shape[1]) * self.width
        questions = self.length + 1 - self.keys * self.width + np.arange(self.keys) * self.width
        starts = np.concatenate([places, np.broadcast_to(questions, (count, self.keys))], axis=1)
        return self._laid_out(draws, split, pairs, order, starts)

    def _laid_out(self, draws: Draws, split: str, pairs: Integers, order: Integers, starts: Integers) -> Examples:
        """Pairs `(count, keys, width)` in this order `(count, places)`, where they start, and prose in between."""
        count, rows = len(order), np.arange(len(order))[:, None, None]
        at = starts[..., None] + np.arange(self.width)
        symbols, gaps = np.full((count, self.length + 1), -1), np.zeros((count, self.length + 1), np.int64)
        symbols[rows, at] = np.take_along_axis(pairs, order[..., None], axis=1)
        back = since_last(order)
        gap = starts - np.take_along_axis(starts, np.arange(order.shape[1]) - back, axis=1) - 1
        gaps[rows, at[..., 1:]] = np.where(back > 0, gap, 0)[..., None]
        free, text = symbols < 0, np.asarray(self.prose.split(split))
        prose = int(free[0].sum())
        begins = draws.below(len(text) - prose + 1, count, 1)
        symbols[free] = text[begins + np.arange(prose)].ravel()
        targets = np.where(gaps > 0, symbols, IGNORED)
        return Examples(symbols[:, :-1], targets[:, 1:], gaps[:, 1:])


def _shuffled(draws: Draws, keys: int, times: int, count: int) -> Integers:
    """Each number below `keys` so many times in random order, `(count, keys · times)`."""
    return np.argsort(draws.shares(count, keys * times), axis=1, kind="stable") % keys


class NeedleData(SyntheticData):
    """Examples of `NeedlesInProse`; the arguments are those of `SyntheticData`.

    The prose is no `corpus` of these data: a measure of a corpus would read it without the needles.

    Args:
        corpus: the prose, or the choice of it, which is prepared here.
        rule: makes the rule from the prose.
    """

    def __init__(self, *, corpus: Corpus | CorpusChoice, rule: Callable[..., Rule], **settings: Any) -> None:
        self.prose = corpus.prepare() if isinstance(corpus, CorpusChoice) else corpus
        super().__init__(rule=rule(prose=self.prose), **settings)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"fingerprint": self.prose.fingerprint}

    @classmethod
    def known_by(cls, fingerprint: str | None, **settings: Any) -> Data:
        choice = settings["corpus"]
        found = choice.find(fingerprint) if isinstance(choice, CorpusChoice) else None
        return cls(**settings | ({"corpus": found} if found else {}))

    def require_unchanged(self) -> None:
        self.prose.require_unchanged()
