"""The symbol system `ids`: a text that another program has made integers of, which are taken as they are."""

from collections.abc import Iterable, Iterator

import numpy as np

from diffmamba.data.systems import Tabled, Vocabulary
from diffmamba.errors import SettingError

TYPE = np.dtype("<u2")
"""How a source of ids gives them as bytes."""


class IdVocabulary(Vocabulary):
    """The integers from 0 to the largest of the corpus. Nothing says what they stand for."""

    system = "ids"

    def encode(self, text: str) -> list[int]:
        raise SettingError(
            "prompt: the symbols are ids without a meaning; measure this run, it cannot go on with a text"
        )

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (f"{i} " for i in ids)


class Ids(Tabled):
    """Integers as they are, from bytes of type `TYPE`."""

    vocabulary = IdVocabulary
    provisional_type = np.uint16

    def __init__(self) -> None:
        self._half, self._largest = b"", 0

    def encode(self, piece: bytes) -> np.ndarray:
        data = self._half + piece
        whole = len(data) // TYPE.itemsize * TYPE.itemsize
        self._half = data[whole:]
        ids = np.frombuffer(data[:whole], TYPE).astype(np.uint16)
        self._largest = max(self._largest, int(ids.max(initial=0)))
        return ids

    def end(self) -> np.ndarray:
        if self._half:
            raise SettingError(f"data.symbols=ids: the last id has {len(self._half)} byte of {TYPE.itemsize}")
        return super().end()

    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        return IdVocabulary(range(self._largest + 1))

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        if self._largest >= vocabulary.size:
            raise SettingError(
                f"data: the id {self._largest} is none of the {vocabulary.size} that the run was trained on"
            )
        return np.arange(vocabulary.size)
