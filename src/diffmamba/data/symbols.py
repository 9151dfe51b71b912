"""Symbol systems: how bytes become integers, and how the integers are read back.

| name | symbols | order |
|---|---|---|
| `text8` | Text8's 27: the space and a to z, digits spelled out | space, a to z |
| `bytes` | the byte values that occur in the corpus (205 of them in Enwik8) | by value |
| `words` | words between white space, `<eos>` after a line with words, `<unk>` | most frequent first |

A system is used once per preparation. It first streams *provisional* integers, then knows its `Vocabulary` and the
table that turns provisional integers into final ones. To add a system: a `Vocabulary`, a `SymbolSystem`, and a line
in `SYSTEMS`.
"""

import codecs
import string
import unicodedata
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from diffmamba.errors import SettingError

UNKNOWN, END_OF_LINE = "<unk>", "<eos>"
DIGITS = tuple(zip(b"0123456789", b"zero one two three four five six seven eight nine".split(), strict=True))
# Text8's integer for each ASCII byte: the letters 1 to 26 whatever their case, all else the space, 0.
TEXT8_CODES = bytes(string.ascii_lowercase.find(chr(byte).lower()) + 1 if byte < 128 else 0 for byte in range(256))


class Vocabulary(ABC):
    """The meaning of the integers of a prepared corpus: symbol `i` is `symbols[i]`. JSON keeps it in the manifest."""

    system: ClassVar[str]

    def __init__(self, symbols: Sequence[Any]) -> None:
        self.symbols = list(symbols)

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Integers of a prompt. Raises `SettingError` naming `prompt` if a symbol has none."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """What each of the integers below `size` adds to the text, as soon as it is known."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of integers below `size`."""
        return "".join(self.stream(ids))

    def to_json(self) -> dict[str, Any]:
        return {"system": self.system, "size": self.size, "symbols": self.symbols}

    @staticmethod
    def from_json(record: dict[str, Any]) -> "Vocabulary":
        return symbol_system(record["system"]).vocabulary(record["symbols"])


class SymbolSystem(ABC):
    """One way from bytes to integers, holding what it has learnt of the corpus so far."""

    vocabulary: ClassVar[type[Vocabulary]]
    provisional_type: ClassVar[type[np.integer]] = np.uint8

    @abstractmethod
    def encode(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        """Streams provisional integers. Where the pieces are cut makes no difference."""

    @abstractmethod
    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        """To be called when `encode` is exhausted.

        Args:
            training: the provisional integers of the training split, in pieces.

        Returns:
            the vocabulary, and the table of final integers indexed by provisional ones.
        """


def decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 text of the pieces; a character may be cut by a border, a byte order mark at the start is dropped.

    Raises `SettingError` naming `data.path` and the offset of the first byte that is not UTF-8.
    """
    pending, offset = b"", 0
    for piece, final in _marked_last(pieces):
        data = pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            raise SettingError(
                f"data.path: byte {offset + error.start} (counted from 0) is not UTF-8; data.symbols=bytes would do"
            ) from None
        yield text if offset else text.removeprefix("\ufeff")
        pending, offset = data[used:], offset + used


def _marked_last(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for piece in pieces:
        yield piece, False
    yield b"", True


class Text8Vocabulary(Vocabulary):
    system = "text8"

    def encode(self, text: str) -> list[int]:
        return text8_integers(text, after_space=False).tolist()

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (self.symbols[i] for i in ids)


class Text8(SymbolSystem):
    """Text8's preparation for any text: digits spelled out, accents stripped, whatever else is no letter a space."""

    vocabulary = Text8Vocabulary

    def encode(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        after_space = False
        for text in decoded(pieces):
            integers = text8_integers(text, after_space)
            if len(integers):
                after_space = bool(integers[-1] == 0)
            yield integers

    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        vocabulary = Text8Vocabulary(" " + string.ascii_lowercase)
        return vocabulary, np.arange(vocabulary.size)


def text8_integers(text: str, after_space: bool) -> np.ndarray:
    """Text8's symbols of a stretch of text: 0 the space, 1 to 26 the letters, never two spaces in a row.

    Args:
        text: any text.
        after_space: whether the stretch before ended with a space, so that this one must not begin with another.

    Returns:
        uint8 array. Every step but the last works on single characters, so a text may be cut anywhere.
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    ascii_text = text.encode("ascii", "replace")
    for digit, word in DIGITS:
        ascii_text = ascii_text.replace(bytes([digit]), b" %b " % word)
    codes = np.frombuffer(ascii_text.translate(TEXT8_CODES), np.uint8)
    kept = codes != 0
    kept[1:] |= codes[:-1] != 0
    kept[:1] |= not after_space
    return codes[kept]


class ByteVocabulary(Vocabulary):
    system = "bytes"

    def encode(self, text: str) -> list[int]:
        integer = {byte: i for i, byte in enumerate(self.symbols)}
        unseen = next((c for c in text if not integer.keys() >= set(c.encode("utf-8", "replace"))), None)
        if unseen is not None:
            raise SettingError(f"prompt: {unseen!r} has bytes that never occur in the corpus; leave it out")
        return [integer[byte] for byte in text.encode("utf-8", "replace")]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # waits for the rest of a character
        for i in ids:
            yield decoder.decode(bytes([self.symbols[i]]))
        yield decoder.decode(b"", final=True)


class Bytes(SymbolSystem):
    vocabulary = ByteVocabulary

    def __init__(self) -> None:
        self._occurs = np.zeros(256, bool)

    def encode(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        for piece in pieces:
            values = np.frombuffer(piece, np.uint8)
            self._occurs |= np.bincount(values, minlength=256) > 0
            yield values

    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        return ByteVocabulary(np.flatnonzero(self._occurs).tolist()), np.cumsum(self._occurs) - self._occurs


class WordVocabulary(Vocabulary):
    system = "words"

    def encode(self, text: str) -> list[int]:
        integer = {word: i for i, word in enumerate(self.symbols)}
        *lines, rest = [line.split() for line in text.split("\n")]
        words = [word for line in lines if line for word in [*line, END_OF_LINE]] + rest
        return [integer.get(word, integer[UNKNOWN]) for word in words]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        at_start = True  # of a line
        for i in ids:
            word = self.symbols[i]
            ends_line = word == END_OF_LINE
            yield "\n" if ends_line else word if at_start else f" {word}"
            at_start = ends_line


class Words(SymbolSystem):
    vocabulary = WordVocabulary
    provisional_type = np.int32

    def __init__(self) -> None:
        self._integers: defaultdict[str, int] = defaultdict()
        self._integers.default_factory = self._integers.__len__  # a new word gets the next integer

    def encode(self, pieces: Iterable[bytes]) -> Iterator[np.ndarray]:
        pending, line_has_words = "", False
        for text in decoded(pieces):
            text = pending + text
            cut = max(text.rfind(" "), text.rfind("\n")) + 1
            words, line_has_words = self._words(text[:cut], line_has_words)
            yield self._provisional(words)
            pending = text[cut:]
        yield self._provisional(self._words(pending + "\n", line_has_words)[0])

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
        return WordVocabulary([words[i] for i in known]), table

    @staticmethod
    def _words(text: str, line_has_words: bool) -> tuple[list[str], bool]:
        """Words of a stretch cut between words, and whether its last, unfinished line has any."""
        words: list[str] = []
        *lines, rest = text.split("\n")
        for line in lines:
            found = line.split()
            words += found
            if found or line_has_words:
                words.append(END_OF_LINE)
            line_has_words = False
        found = rest.split()
        return words + found, line_has_words or bool(found)

    def _provisional(self, words: list[str]) -> np.ndarray:
        return np.fromiter((self._integers[word] for word in words), np.int32, len(words))


SYSTEMS: dict[str, type[SymbolSystem]] = {"text8": Text8, "bytes": Bytes, "words": Words}


def symbol_system(name: str) -> SymbolSystem:
    """A fresh symbol system. Raises `SettingError` naming `data.symbols` for a name that is none."""
    if name not in SYSTEMS:
        raise SettingError(f"data.symbols: there is no symbol system {name!r}; choose one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]()
