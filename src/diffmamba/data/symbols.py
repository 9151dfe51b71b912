"""Symbol systems: how bytes become integers, and how the integers are read back.

| name | symbols | order |
|---|---|---|
| `text8` | the 27 of Text8: the space and a to z; digits are spelled out | space, a to z |
| `bytes` | the byte values that occur in the corpus (205 of them in Enwik8) | by value |
| `words` | words between white space, `<eos>` after a line with words, `<unk>` | most frequent first |
| `wikitext` | the same with `<eos>` after every line, as WikiText-103 is counted | most frequent first |
| `tokens` | those of a tokenizer (`data.tokens`) | that of the tokenizer |
| `ids` | integers that another program has made of a text | by value |

To add a system, write a `Vocabulary` and a `SymbolSystem`, and add a line to `SYSTEMS`.
"""

import codecs
import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from diffmamba.data.ids import Ids
from diffmamba.data.systems import SymbolSystem, Tabled, Utf8, Vocabulary
from diffmamba.data.tokens import Tokenizer, Tokens
from diffmamba.errors import SettingError

DIGITS = tuple(zip(b"0123456789", b"zero one two three four five six seven eight nine".split(), strict=True))
# Text8's integer for each byte of ASCII: 1 to 26 for the letters of either case, 0 (the space) for all others.
TEXT8_CODES = bytes(string.ascii_lowercase.find(chr(byte).lower()) + 1 if byte < 128 else 0 for byte in range(256))
UNKNOWN, END_OF_LINE = "<unk>", "<eos>"
LINE_END_AND_BLANKS = re.compile(r"\n\s*")


class Text8Vocabulary(Vocabulary):
    system = "text8"

    def encode(self, text: str) -> list[int]:
        return text8_integers(text).tolist()

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (self.symbols[i] for i in ids)


class Text8(Tabled):
    """Text8's preparation for any text: digits are spelled out, accents dropped, all else but letters is a space."""

    vocabulary = Text8Vocabulary

    def __init__(self) -> None:
        self._utf8 = Utf8()
        self._last = 1  # any letter: a text may begin with a space

    def encode(self, piece: bytes) -> np.ndarray:
        integers = text8_integers(self._utf8.decode(piece), self._last)
        self._last = int(integers[-1]) if len(integers) else self._last
        return integers

    def end(self) -> np.ndarray:
        self._last, last = 1, self._last
        return text8_integers(self._utf8.decode(b"", final=True), last)

    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        return Text8Vocabulary(" " + string.ascii_lowercase)

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        return np.arange(vocabulary.size)


def text8_integers(text: str, last: int = 1) -> np.ndarray:
    """Text8's symbols of a stretch of text, uint8 `(symbols,)`: 0 for the space, 1 to 26 for the letters.

    There are never two spaces in a row, also not after the symbol `last` of the stretch before.
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    ascii_text = text.encode("ascii", "replace")
    for digit, word in DIGITS:
        ascii_text = ascii_text.replace(bytes([digit]), b" %b " % word)
    codes = np.frombuffer(bytes([last]) + ascii_text.translate(TEXT8_CODES), np.uint8)
    return codes[1:][(codes[1:] != 0) | (codes[:-1] != 0)]


class ByteVocabulary(Vocabulary):
    system = "bytes"

    def encode(self, text: str) -> list[int]:
        integer = {byte: i for i, byte in enumerate(self.symbols)}
        for character in text:
            if not integer.keys() >= set(character.encode("utf-8", "replace")):
                raise SettingError(f"prompt: {character!r} has bytes that do not occur in the corpus; leave it out")
        return [integer[byte] for byte in text.encode("utf-8", "replace")]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # holds back half a character
        for i in ids:
            yield decoder.decode(bytes([self.symbols[i]]))
        yield decoder.decode(b"", final=True)


class Bytes(Tabled):
    """The byte values that occur in the corpus."""

    vocabulary = ByteVocabulary

    def __init__(self) -> None:
        self._counts = np.zeros(256, np.int64)

    def encode(self, piece: bytes) -> np.ndarray:
        values = np.frombuffer(piece, np.uint8)
        self._counts += np.bincount(values, minlength=256)
        return values

    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        return ByteVocabulary(np.flatnonzero(self._counts).tolist())

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        counts = self._counts.copy()
        counts[vocabulary.symbols] = 0
        if lacking := np.flatnonzero(counts).tolist():
            first = lacking[0]
            others = f", and {len(lacking) - 1} other values" if len(lacking) > 1 else ""
            raise SettingError(
                f"data: the byte {first} ({bytes([first])!r}, {counts[first]:,} times{others}) is none of the "
                f"{vocabulary.size} symbols that the run was trained on; take it out of the text"
            )
        table = np.zeros(256, np.int64)
        table[vocabulary.symbols] = np.arange(vocabulary.size)
        return table


class WordVocabulary(Vocabulary):
    system = "words"
    unknown = UNKNOWN

    def encode(self, text: str) -> list[int]:
        integer = {word: i for i, word in enumerate(self.symbols)}
        return [integer.get(word, integer[UNKNOWN]) for word in self.words(text)]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        at_start = True  # of a line
        for i in ids:
            word, was_start = self.symbols[i], at_start
            at_start = word == END_OF_LINE
            yield "\n" if at_start else word if was_start else f" {word}"

    @staticmethod
    def words(text: str) -> list[str]:
        """Words and ends of lines of a text. Its start is the start of a line."""
        return LINE_END_AND_BLANKS.sub(f" {END_OF_LINE} ", text.lstrip()).split()


class WikiTextVocabulary(WordVocabulary):
    system = "wikitext"

    @staticmethod
    def words(text: str) -> list[str]:
        return text.replace("\n", f" {END_OF_LINE} ").split()


class Words(Tabled):
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

    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        always = {self._integers[UNKNOWN], self._integers[END_OF_LINE]}
        words = list(self._integers)
        counts = np.zeros(len(words), np.int64)
        for integers in training:
            counts += np.bincount(integers, minlength=len(words))
        known = [i for i in range(len(words)) if counts[i] or i in always]
        known.sort(key=lambda i: (-counts[i], words[i]))
        return self.vocabulary([words[i] for i in known])

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        integer = {word: i for i, word in enumerate(vocabulary.symbols)}
        unknown = integer[UNKNOWN]
        return np.fromiter((integer.get(word, unknown) for word in self._integers), np.int64, len(self._integers))

    def _provisional(self, stretch: str) -> np.ndarray:
        """Integers of a stretch of text that ends between two words."""
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


SYSTEMS: dict[str, type[SymbolSystem]] = {
    "text8": Text8,
    "bytes": Bytes,
    "words": Words,
    "wikitext": WikiText,
    "tokens": Tokens,
    "ids": Ids,
}


def symbol_system(name: str, tokenizer: Tokenizer | None = None) -> SymbolSystem:
    """A new symbol system. Raises `SettingError` naming `data.symbols` for an unknown name.

    `tokenizer` is for `tokens`: the one that makes the corpus's own vocabulary.
    """
    if name not in SYSTEMS:
        raise SettingError(f"data.symbols: there is no symbol system {name!r}; choose one of {', '.join(SYSTEMS)}")
    return Tokens(tokenizer) if name == Tokens.vocabulary.system else SYSTEMS[name]()


def read_vocabulary(record: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that `to_json` wrote."""
    return SYSTEMS[record["system"]].vocabulary.of_json(record)
