"""Symbol systems whose symbols are words between white space, with `<eos>` at the end of lines.

`words` has `<eos>` after a line with words in it, `wikitext` after every line, blank ones too: that is how the
103,227,021 tokens of WikiText-103's training part and the perplexities published on it are counted.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from diffmamba.data.systems import SymbolSystem, Utf8, Vocabulary

UNKNOWN, END_OF_LINE = "<unk>", "<eos>"
LINE_END_AND_BLANKS = re.compile(r"\n\s*")


class WordVocabulary(Vocabulary):
    system = "words"

    def encode(self, text: str) -> list[int]:
        integer = {word: i for i, word in enumerate(self.symbols)}
        return [integer.get(word, integer[UNKNOWN]) for word in self.words(text)]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        at_start = True  # of a line
        for i in ids:
            word = self.symbols[i]
            ends_line = word == END_OF_LINE
            yield "\n" if ends_line else word if at_start else f" {word}"
            at_start = ends_line

    @staticmethod
    def words(text: str) -> list[str]:
        """Words and ends of lines of a text that begins with a line."""
        return LINE_END_AND_BLANKS.sub(f" {END_OF_LINE} ", text.lstrip()).split()


class WikiTextVocabulary(WordVocabulary):
    system = "wikitext"

    @staticmethod
    def words(text: str) -> list[str]:
        return text.replace("\n", f" {END_OF_LINE} ").split()


class Words(SymbolSystem):
    """Words, most frequent in training first; those that training lacks are `<unk>`.

    Between two pieces it holds `pending`, a word that may go on, and `line`, which stands for what the unfinished line
    has before that: "" nothing, a blank for white space, or `STANDS_FOR_WORDS`.
    """

    vocabulary: ClassVar[type[WordVocabulary]] = WordVocabulary
    provisional_type = np.int32
    STANDS_FOR_WORDS = ". "

    def __init__(self) -> None:
        self._utf8 = Utf8()
        self._pending = self._line = ""
        self._integers: defaultdict[str, int] = defaultdict()
        self._integers.default_factory = self._integers.__len__  # a new word gets the next integer

    def encode(self, piece: bytes) -> np.ndarray:
        text = self._pending + self._utf8.decode(piece)
        cut = max(text.rfind(" "), text.rfind("\n")) + 1
        self._pending = text[cut:]
        return self._provisional(text[:cut])

    def end(self) -> np.ndarray:
        rest = self._pending + self._utf8.decode(b"", final=True)
        integers = self._provisional(rest + "\n" if self._line or rest else "")
        self._pending = self._line = ""
        return integers

    def state(self) -> dict[str, Any]:
        return {"utf8": self._utf8.state(), "pending": self._pending, "line": self._line}

    def learnt(self, start: int) -> list[str]:
        return list(islice(self._integers, start, None))

    def restore(self, state: dict[str, Any], learnt: list[str]) -> None:
        self._utf8.restore(state["utf8"])
        self._pending, self._line = state["pending"], state["line"]
        self._integers.clear()
        self._integers.update((word, i) for i, word in enumerate(learnt))

    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        always = {self._integers[UNKNOWN], self._integers[END_OF_LINE]}
        words = list(self._integers)
        counts = np.zeros(len(words), np.int64)
        for integers in training:
            counts += np.bincount(integers, minlength=len(words))
        known = [i for i in range(len(words)) if counts[i] or i in always]
        known.sort(key=lambda i: (-counts[i], words[i]))
        table = np.full(len(words), known.index(self._integers[UNKNOWN]))
        table[known] = np.arange(len(known))
        return self.vocabulary([words[i] for i in known]), table

    def _provisional(self, stretch: str) -> np.ndarray:
        """Integers of a stretch that ends between words; a word met for the first time gets the next one."""
        text = self._line + stretch
        words = self.vocabulary.words(text)
        if self._line == self.STANDS_FOR_WORDS:
            del words[0]
        rest = text[text.rfind("\n") + 1 :]
        self._line = self.STANDS_FOR_WORDS if rest.strip() else rest[:1]
        return np.fromiter(map(self._integers.__getitem__, words), np.int32, len(words))


class WikiText(Words):
    vocabulary = WikiTextVocabulary
