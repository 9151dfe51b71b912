"""What every symbol system is made of: a vocabulary, an encoder, and UTF-8 in pieces."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from diffmamba.errors import SettingError


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

    @abstractmethod
    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        """Integers in a vocabulary of this system, indexed by provisional ones, once all texts are encoded.

        What the vocabulary lacks is its `unknown`. Raises `SettingError` where it has none.
        """

    def finish(
        self, training: Iterable[np.ndarray], vocabulary: Vocabulary | None = None
    ) -> tuple[Vocabulary, np.ndarray]:
        """The vocabulary, the corpus's own if none is given, and the table of its integers."""
        chosen = vocabulary or self.found(training)
        return chosen, self.table(chosen)


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
