"""Needles in prose: keys with their values far back in a text, then the keys again, at which the values are asked for.

What MAD's recall has as random symbols is English here, and what is to be found is rare in it. Each pair is the needle of
its own question and a distractor of the others, so that a measure knows where both are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffmamba.data.corpus import Corpus, CorpusChoice
from diffmamba.data.data import Data
from diffmamba.data.draws import Draws, Integers
from diffmamba.data.examples import SyntheticData
from diffmamba.data.streams import IGNORED
from diffmamba.data.synthetic import Examples, Rule, draws_of, require
from diffmamba.ranges import Count, Size


@dataclass(frozen=True)
class NeedlesInProse(Rule):
    """`keys` pairs of a key and its value in a stretch of prose; then each key again, followed by its value.

    Key symbols are the `names` ones above those of the prose; each example has `keys` different ones. A value is
    `value` symbols of the prose, uniform and independent. Pairs do not overlap, and all ways of placing them are
    equally likely, so that at least `distance` symbols of prose stand between the last of them and the first question.
    The questions are in random order. An example has `length` positions, and one symbol more that is only predicted;
    its prose is a stretch of its split of the corpus, without a gap where a pair stands. Only the values that are asked
    for are targets, in training too: prose would need far more training than the needles.
    """

    prose: Corpus
    length: Size
    keys: Size
    names: Size
    values: Size
    value: Size
    distance: Count

    @property
    def vocabulary(self) -> int:  # type: ignore[override]
        return self.prose.vocabulary.size + self.names + self.values

    @property
    def answers(self) -> int:
        return self.values

    @property
    def name(self) -> str:
        return "needle"

    @property
    def room(self) -> int:
        """The first so many symbols hold all pairs."""
        return self.length + 1 - self.distance - self.keys * (1 + self.value)

    def check(self) -> None:
        require(self.keys <= self.names, f"data.keys={self.keys}", f"at most data.names={self.names} different ones")
        pairs = self.keys * (1 + self.value)
        least = 2 * pairs + self.distance - 1
        require(
            self.length >= least,
            f"data.length={self.length}",
            f"{self.keys} pairs of 1 + {self.value} symbols, data.distance={self.distance} symbols and the questions "
            f"need at least {least}",
        )
        shortest = min(self.prose.sizes.values())
        require(shortest > self.length, f"data.length={self.length}", f"a split of the prose has {shortest} symbols")

    def examples(self, split: str, count: int, seed: int, part: int = 0) -> Examples:
        draws, width = draws_of(seed, split, part), 1 + self.value
        first = self.prose.vocabulary.size
        names = first + draws.distinct(self.names, self.keys, count).T
        values = first + self.names + draws.below(self.values, count, self.keys, self.value)
        pairs = np.concatenate([names[..., None], values], axis=2)
        asked = np.argsort(draws.shares(count, self.keys), axis=1, kind="stable")
        free = draws.below(self.room - self.keys * width + 1, count, self.keys)
        starts = np.sort(free, axis=1) + np.arange(self.keys) * width
        body = self._body(draws, split, count, pairs, starts)
        questions = np.take_along_axis(pairs, asked[..., None], axis=1).reshape(count, -1)
        symbols = np.concatenate([body, questions], axis=1)
        return self._asked(symbols, np.take_along_axis(starts, asked, axis=1))

    def _body(self, draws: Draws, split: str, count: int, pairs: Integers, starts: Integers) -> Integers:
        """Prose `(count, symbols)` with the pairs `(count, keys, width)` put in where they start `(count, keys)`."""
        width, size = pairs.shape[2], self.length + 1 - pairs[0].size
        text = self.prose.split(split)
        places = (starts[..., None] + np.arange(width)).reshape(count, -1)
        free = np.ones((count, size), bool)
        np.put_along_axis(free, places, False, axis=1)
        prose = size - places.shape[1]
        body = np.empty((count, size), np.int64)
        np.put_along_axis(body, places, pairs.reshape(count, -1), axis=1)
        begins = draws.below(len(text) - prose + 1, count, 1)
        body[free] = np.asarray(text)[begins + np.arange(prose)].astype(np.int64).ravel()
        return body

    def _asked(self, symbols: Integers, starts: Integers) -> Examples:
        """The values at the end are the targets; `starts` `(count, keys)` is where the pairs asked for stand."""
        width = 1 + self.value
        tail = starts.shape[1] * width
        at = np.arange(len(symbols[0]) - tail, len(symbols[0])).reshape(-1, width)[:, :-1]  # of the symbol before each
        targets, gaps = np.full_like(symbols[:, :-1], IGNORED), np.zeros_like(symbols[:, :-1])
        targets[:, at] = symbols[:, at + 1]
        gaps[:, at] = at[:, :1] - (starts[..., None] + 1) + np.zeros_like(at)
        return Examples(symbols[:, :-1], targets, gaps)


class NeedleData(SyntheticData):
    """Examples of `NeedlesInProse`; the arguments are those of `SyntheticData`.

    Args:
        corpus: the prose, or the choice of it, which is prepared here.
        rule: makes the rule from the prose.
    """

    def __init__(self, *, corpus: Corpus | CorpusChoice, rule: Callable[..., Rule], **settings: Any) -> None:
        self.corpus = corpus.prepare() if isinstance(corpus, CorpusChoice) else corpus
        super().__init__(rule=rule(prose=self.corpus), **settings)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"fingerprint": self.corpus.fingerprint}

    @classmethod
    def known_by(cls, fingerprint: str | None, **settings: Any) -> Data:
        choice = settings["corpus"]
        found = choice.find(fingerprint) if isinstance(choice, CorpusChoice) else None
        return cls(**settings | ({"corpus": found} if found else {}))

    @classmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        return super().steps_in_epoch(facts, **settings)

    def require_unchanged(self) -> None:
        self.corpus.require_unchanged()
