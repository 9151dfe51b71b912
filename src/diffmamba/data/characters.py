"""Symbol systems of single characters or bytes: the 27 of Text8, and the bytes that occur."""

import codecs
import string
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from diffmamba.data.systems import SymbolSystem, Utf8, Vocabulary
from diffmamba.errors import SettingError

DIGITS = tuple(zip(b"0123456789", b"zero one two three four five six seven eight nine".split(), strict=True))
# Text8's integer for each byte of ASCII: 1 to 26 for the letters of either case, 0 (the space) for all others.
TEXT8_CODES = bytes(string.ascii_lowercase.find(chr(byte).lower()) + 1 if byte < 128 else 0 for byte in range(256))


class Text8Vocabulary(Vocabulary):
    system = "text8"

    def encode(self, text: str) -> list[int]:
        return text8_integers(text, after_space=False).tolist()

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (self.symbols[i] for i in ids)


class Text8(SymbolSystem):
    """Text8's preparation for any text: digits are spelled out, accents dropped, all else but letters is a space."""

    vocabulary = Text8Vocabulary

    def __init__(self) -> None:
        self._utf8 = Utf8()
        self._after_space = False

    def encode(self, piece: bytes) -> np.ndarray:
        return self._integers(self._utf8.decode(piece))

    def end(self) -> np.ndarray:
        integers = self._integers(self._utf8.decode(b"", final=True))
        self._after_space = False
        return integers

    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        vocabulary = Text8Vocabulary(" " + string.ascii_lowercase)
        return vocabulary, np.arange(vocabulary.size)

    def _integers(self, text: str) -> np.ndarray:
        integers = text8_integers(text, self._after_space)
        if len(integers):
            self._after_space = bool(integers[-1] == 0)
        return integers


def text8_integers(text: str, after_space: bool) -> np.ndarray:
    """Text8's symbols of a stretch of text: 0 for the space, 1 to 26 for the letters, never two spaces in a row.

    Args:
        text: any text.
        after_space: whether the stretch before ended with a space. Then this one does not begin with another.

    Returns:
        uint8 `(symbols,)`. All steps but the last work on single characters, so a text may be cut anywhere.
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
            raise SettingError(f"prompt: {unseen!r} has bytes that do not occur in the corpus; leave it out")
        return [integer[byte] for byte in text.encode("utf-8", "replace")]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # holds back half a character
        for i in ids:
            yield decoder.decode(bytes([self.symbols[i]]))
        yield decoder.decode(b"", final=True)


class Bytes(SymbolSystem):
    """The byte values that occur in the corpus."""

    vocabulary = ByteVocabulary

    def __init__(self) -> None:
        self._occurs = np.zeros(256, bool)

    def encode(self, piece: bytes) -> np.ndarray:
        values = np.frombuffer(piece, np.uint8)
        self._occurs |= np.bincount(values, minlength=256) > 0
        return values

    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        return ByteVocabulary(np.flatnonzero(self._occurs).tolist()), np.cumsum(self._occurs) - self._occurs
