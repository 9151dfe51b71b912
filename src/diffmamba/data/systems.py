"""What every symbol system is made of: a vocabulary, an encoder, and UTF-8 in pieces."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from diffmamba.errors import SettingError

Reading = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
"""Provisional integers of a stretch of text, in pieces, to its final ones, in pieces."""


class Vocabulary(ABC):
    """The meaning of the integers of a prepared corpus: `i` stands for `symbols[i]`. The manifest holds it as JSON."""

    system: ClassVar[str]
    unknown: ClassVar[str | None] = None
    """The symbol that stands for all that the vocabulary lacks; None if there is none."""

    def __init__(self, symbols: Sequence[Any]) -> None:
        self.symbols = list(symbols)

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Integers of a prompt. Raises `SettingError` naming `prompt` if the vocabulary lacks one of its symbols."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """For each of the integers below `size`, in order, the text that it adds, as soon as that is known."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of integers below `size`."""
        return "".join(self.stream(ids))

    def to_json(self) -> dict[str, Any]:
        return {"system": self.system, "size": self.size, "symbols": self.symbols}

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Self:
        """The vocabulary that `to_json` wrote."""
        return cls(record["symbols"])


class SymbolSystem(ABC):
    """One way from bytes to integers. It remembers what it has seen of the corpus and is used for one corpus only."""

    vocabulary: ClassVar[type[Vocabulary]]
    provisional_type: ClassVar[type[np.integer]] = np.uint8

    @abstractmethod
    def encode(self, piece: bytes) -> np.ndarray:
        """Provisional integers `(symbols,)` of the next piece. It does not matter where the pieces are cut."""

    def end(self) -> np.ndarray:
        """Provisional integers held back until the end of a text. The next piece, if any, begins another text."""
        return np.empty(0, self.provisional_type)

    @abstractmethod
    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        """The corpus's own vocabulary, once all texts are encoded.

        `training` are the provisional integers of the training split, in pieces.
        """

    def cut(self, provisional: np.ndarray, place: int) -> int:
        """Where to part provisional integers `(symbols,)` near a place, so that each part can be read by itself."""
        return place

    @abstractmethod
    def reading(self, vocabulary: Vocabulary) -> Reading:
        """How provisional integers are read in a vocabulary of this system, once all texts are encoded.

        A stretch of text may be cut into pieces anywhere. What the vocabulary lacks is its `unknown`. Raises
        `SettingError` where it has none.
        """

    def finish(
        self, training: Iterable[np.ndarray], vocabulary: Vocabulary | None = None
    ) -> tuple[Vocabulary, Reading]:
        """The vocabulary, the corpus's own if none is given, and how the provisional integers are read in it."""
        chosen = vocabulary or self.found(training)
        return chosen, self.reading(chosen)


class Tabled(SymbolSystem):
    """A system in which each provisional integer stands for one symbol, whatever is around it."""

    @abstractmethod
    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        """Integers in a vocabulary of this system, indexed by provisional ones, once all texts are encoded.

        What the vocabulary lacks is its `unknown`. Raises `SettingError` where it has none.
        """

    def reading(self, vocabulary: Vocabulary) -> Reading:
        table = self.table(vocabulary).astype(smallest_type(vocabulary))
        return lambda pieces: (table[piece] for piece in pieces)


def smallest_type(vocabulary: Vocabulary) -> np.dtype[Any]:
    """The smallest type of integers that holds all symbols."""
    return np.min_scalar_type(vocabulary.size - 1)


class Utf8:
    """Decodes UTF-8 in pieces, which may cut a character. A byte order mark at the start of a text is dropped."""

    def __init__(self) -> None:
        self._pending, self._offset = b"", 0

    def decode(self, piece: bytes, final: bool = False) -> str:
        """Text of the next piece. After the final piece another text begins. A byte that is not UTF-8 is an error."""
        data = self._pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            place = f"byte {self._offset + error.start} (counted from 0)"
            raise SettingError(f"data.path: {place} is not UTF-8; use data.symbols=bytes") from None
        if not self._offset:
            text = text.removeprefix("\ufeff")
        self._pending, self._offset = (b"", 0) if final else (data[used:], self._offset + used)
        return text
