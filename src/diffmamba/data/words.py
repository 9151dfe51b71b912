"""Symbol systems whose symbols are words between white space, with `<eos>` at the end of lines.

`words` puts `<eos>` after every line with words, `wikitext` after every line, also a blank one. The latter is how the
published perplexities of WikiText-103 are counted, with 103,227,021 tokens in the training part.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import ClassVar

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
        """Words and ends of lines of a text. Its start is the start of a line."""
        return LINE_END_AND_BLANKS.sub(f" {END_OF_LINE} ", text.lstrip()).split()


class WikiTextVocabulary(WordVocabulary):
    system = "wikitext"

    @staticmethod
    def words(text: str) -> list[str]:
        return text.replace("\n", f" {END_OF_LINE} ").split()


class Words(SymbolSystem):
    """Words, the most frequent in training first. Those that training does not have are `<unk>`.

    Between two pieces it remembers two things: `_pending`, the last word, which may go on in the next piece, and
    `_line`, what the unfinished line has before that word: "" for nothing, a blank or `STANDS_FOR_WORDS`.
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
        """Integers of a stretch of text that ends between two words. A new word gets the next integer."""
        text = self._line + stretch
        words = self.vocabulary.words(text)
        if self._line == self.STANDS_FOR_WORDS:
            del words[0]
        rest = text[text.rfind("\n") + 1 :]
        self._line = self.STANDS_FOR_WORDS if rest.strip() else rest[:1]
        return np.fromiter(map(self._integers.__getitem__, words), np.int32, len(words))


class WikiText(Words):
    """The same with `<eos>` after every line."""

    vocabulary = WikiTextVocabulary
