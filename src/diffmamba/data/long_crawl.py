"""LongCrawl64 (https://manifestai.com/articles/longcrawl64): documents of 65,536 tokens, in a folder of zarr arrays.

`heldout.zarr` (52,131 documents) and `train.zarr` (6,609,334) are one array each, in zarr's format 2: a document is a
row of uint16, the ids that GPT-2's tokenizer made of the text. The text was escaped as in a JSON string. Chunks hold
2,048 documents by 2,048 ids, compressed. zarr takes a chunk that is missing for zeros; here it is an error.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffmamba.data import files
from diffmamba.data.ids import TYPE
from diffmamba.data.sources import RawText, Source
from diffmamba.data.tokens import TokenVocabulary
from diffmamba.errors import SettingError
from diffmamba.ranges import Size

ESCAPES = re.compile(r'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))+')
CUT_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)$")
"""An escape that the end of a document has cut off."""
BLOCK = 64  # documents in memory at once


@dataclass(unsafe_hash=True)
class LongCrawl64(Source):
    """The first documents of a part of LongCrawl64, each a document of the corpus.

    Args:
        path: the folder that holds `heldout.zarr` and `train.zarr`, or one of them.
        decode: GPT-2's `tokenizer.json`, which makes a text of the ids. None takes the ids as they are, for the symbol
            system `ids`.
        documents: how many.
        part: which array.
    """

    path: Path | str | int
    decode: Path | str | int | None = None
    documents: Size = 64
    part: Literal["heldout", "train"] = "heldout"

    name = "longcrawl64"

    def __post_init__(self) -> None:
        self.path = files.given(self.path)
        self.decode = files.absolute(self.decode, "data.decode")

    @property
    def symbols(self) -> str | None:
        return None if self.decode else "ids"

    def fingerprint(self) -> str:
        """Of the files of the chunks that are read, so that zarr is not needed to open a corpus again."""
        read = (f"{file.name} {files.digest(file, 'sha256')}" for file in [self._folder / ".zarray", *self._chunks()])
        decoded = files.digest(files.given(self.decode), "sha256") if self.decode else "ids"
        told = json.dumps([self.documents, decoded, *read])
        return hashlib.sha256(told.encode()).hexdigest()

    def open(self) -> RawText:
        array, text = _opened(self._folder), self._text()
        size = self.documents * self._layout["shape"][1] * TYPE.itemsize

        def documents() -> Iterator[bytes]:
            for start in range(0, self.documents, BLOCK):
                for ids in np.asarray(array[start : min(start + BLOCK, self.documents)]):
                    yield text(ids)

        revision = f"{self.documents} documents of {self.part}"
        return RawText({"text": documents}, str(self._folder), revision, size, documents=True)

    def _text(self) -> Callable[[np.ndarray], bytes]:
        """What makes the bytes of a document of its ids."""
        if self.decode is None:
            return lambda ids: ids.astype(TYPE).tobytes()
        vocabulary = TokenVocabulary.of_file(files.given(self.decode), "data.decode")

        def decoded(ids: np.ndarray) -> bytes:
            if (highest := int(ids.max(initial=0))) >= vocabulary.size:
                raise SettingError(
                    f"data.decode={self.decode} has {vocabulary.size} tokens, and there is an id {highest}; set it to "
                    "the tokenizer that made the ids, that of GPT-2"
                )
            return unescaped(vocabulary.decode(ids.tolist())).encode()

        return decoded

    @property
    def _folder(self) -> Path:
        return files.given(self.path) / f"{self.part}.zarr"

    @property
    def _layout(self) -> dict[str, Any]:
        """Of the array: its shape and its chunks. Raises SettingError where it is no LongCrawl64."""
        try:
            found = json.loads((self._folder / ".zarray").read_text())
            rows, _ = found["shape"]
            right = found["zarr_format"] == 2 and np.dtype(found["dtype"]) == TYPE and len(found["chunks"]) == 2
        except OSError as error:
            where = f"{self._folder / '.zarray'}: {error.strerror}"
            raise SettingError(f"data.path={self.path} is not LongCrawl64; it needs {where}") from None
        except (ValueError, LookupError, TypeError):
            right, rows = False, 0
        if not right:
            raise SettingError(
                f"data.path: {self._folder} is no array of format 2 with rows of uint16, as LongCrawl64 is"
            )
        if rows < self.documents:
            raise SettingError(f"data.documents={self.documents} is more than the {rows} of {self._folder}")
        return found

    def _chunks(self) -> list[Path]:
        """The files that hold the documents. Raises SettingError where one is missing, as in an unfinished download."""
        layout = self._layout
        separator = layout.get("dimension_separator", ".")
        down, across = (
            -(-size // chunk)
            for size, chunk in zip((self.documents, layout["shape"][1]), layout["chunks"], strict=True)
        )
        found = [self._folder / f"{row}{separator}{column}" for row in range(down) for column in range(across)]
        if missing := [file for file in found if not file.is_file()]:
            raise SettingError(
                f"data.path: {len(missing)} of {len(found)} chunks are missing in {self._folder}, {missing[0].name} "
                "first; download them, or set data.documents to fewer"
            )
        return found


def unescaped(text: str) -> str:
    """A text that was escaped as in a JSON string. What is cut off at its end is left out."""
    if cut := CUT_ESCAPE.search(text):
        text = text[: cut.start(1)]
    plain = ESCAPES.sub(lambda found: json.loads(f'"{found[0]}"'), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character is no character


def _opened(folder: Path) -> Any:
    """The array in a folder. Raises SettingError where zarr is not installed or cannot read it."""
    try:
        import zarr
    except ImportError:
        raise SettingError("data=longcrawl64 needs zarr; install it: pip install 'diffmamba[zarr]'") from None
    try:
        return zarr.open_array(str(folder), mode="r")
    except Exception as error:
        raise SettingError(f"data.path: zarr cannot read {folder} ({error})") from None
