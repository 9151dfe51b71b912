"""What every symbol system is made of: a vocabulary, an encoder whose state can be saved, and UTF-8 in pieces."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from diffmamba.errors import SettingError


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


class SymbolSystem(ABC):
    """One way from bytes to integers, holding what it has learnt of the corpus so far.

    What it holds can be saved between two pieces and restored in another process, which then goes on where this one
    stopped: `state`, which is small and rewritten each time, and `learnt`, which only grows and is appended to a file.
    """

    vocabulary: ClassVar[type[Vocabulary]]
    provisional_type: ClassVar[type[np.integer]] = np.uint8

    @abstractmethod
    def encode(self, piece: bytes) -> np.ndarray:
        """Provisional integers `(symbols,)` of the next piece. Where the pieces are cut makes no difference."""

    def end(self) -> np.ndarray:
        """Provisional integers that were held back; the next piece, if there is one, begins another text."""
        return np.empty(0, self.provisional_type)

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `encode` remembers, as JSON keeps it."""

    def learnt(self, start: int) -> list[str]:
        """What was met for the first time, in that order, from entry `start` on; no entry has a line feed in it."""
        return []

    @abstractmethod
    def restore(self, state: dict[str, Any], learnt: list[str]) -> None:
        """Takes up where the system stood that gave this `state` and all of `learnt`."""

    @abstractmethod
    def finish(self, training: Iterable[np.ndarray]) -> tuple[Vocabulary, np.ndarray]:
        """To be called when all texts are encoded.

        Args:
            training: the provisional integers of the training split, in pieces.

        Returns:
            the vocabulary, and the table of final integers indexed by provisional ones.
        """


class Utf8:
    """UTF-8 text in pieces: a character may be cut by a border, a byte order mark at the start is dropped."""

    def __init__(self) -> None:
        self._pending, self._offset = b"", 0

    def decode(self, piece: bytes, final: bool = False) -> str:
        """Text of the next piece; after the final one another text begins.

        Raises `SettingError` naming `data.path` and the offset of the first byte that is not UTF-8.
        """
        data = self._pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            place = self._offset + error.start
            raise SettingError(
                f"data.path: byte {place} (counted from 0) is not UTF-8; data.symbols=bytes would do"
            ) from None
        if not self._offset:
            text = text.removeprefix("\ufeff")
        self._pending, self._offset = (b"", 0) if final else (data[used:], self._offset + used)
        return text

    def state(self) -> dict[str, Any]:
        return {"pending": self._pending.hex(), "offset": self._offset}

    def restore(self, state: dict[str, Any]) -> None:
        self._pending, self._offset = bytes.fromhex(state["pending"]), state["offset"]
