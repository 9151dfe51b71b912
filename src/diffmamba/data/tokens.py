"""The symbol system `tokens`: byte-level byte pair encoding, as in GPT-2 and GPT-NeoX, by the library `tokenizers`.

Such a tokenizer first parts a text into words, each with at most one blank before it, and runs of blanks. No token goes
beyond a part. So a text may be cut before any blank or end of line that follows neither, and the pieces have the tokens
of the whole. Tokenizers that part a text in other ways are refused.
The tokenizer has a token for every byte, so that nothing is unknown.

The library is imported only where a text is encoded. A run keeps the whole tokenizer with its vocabulary.
"""

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from diffmamba.data import files
from diffmamba.data.sources import Source
from diffmamba.data.systems import Reading, SymbolSystem, Utf8, Vocabulary, smallest_type
from diffmamba.errors import SettingError
from diffmamba.ranges import Size

BYTES = 256
NEAR = 4096  # bytes
LAST_CUT = re.compile(r".*\S(?=[ \n])", re.DOTALL)
PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
"""The bytes that byte-level encoding writes as the characters of the same number."""
CHARACTERS = {chr(byte): byte for byte in PRINTABLE} | {
    chr(BYTES + number): byte for number, byte in enumerate(sorted({*range(BYTES)} - {*PRINTABLE}))
}
"""The byte that each character of a token stands for (GPT-2's code)."""


@dataclass(frozen=True)
class Tokenizer:
    """Which tokenizer is meant. Making one touches no file.

    Args:
        size: the number of tokens of one that is trained here; 256 of them are the bytes.
        file: a `tokenizer.json` of the library to take instead.
        source: a text to train on, the whole of it; None is the training split of the corpus that is encoded.
    """

    size: Size | None = None
    file: Path | str | int | None = None
    source: Source | None = None

    @property
    def given(self) -> bool:
        """Whether anything is chosen."""
        return (self.size, self._path, self.source) != (None, None, None)

    def determines(self) -> str:
        """What the tokens of a text depend on, besides the text. Raises SettingError where no tokenizer is meant."""
        if self._path:
            return f"file {hashlib.sha256(_content(self._path, 'data.tokenizer').encode()).hexdigest()}"
        if self.size is None:
            raise SettingError("data.symbols=tokens needs a tokenizer; set data.tokens=N or data.tokenizer=FILE")
        if self.size < BYTES:
            raise SettingError(f"data.tokens={self.size} must be at least {BYTES}: every byte is a token")
        return f"{self.size} of {self.source.fingerprint() if self.source else 'its own text'}"

    def describe(self) -> dict[str, Any]:
        """Which one is meant, as plain data and without reading anything."""
        of_source = {"source": self.source.describe_choice()} if self.source else {}
        return {"size": self.size, "file": str(self._path), **of_source}

    def made(self, training: Iterable[np.ndarray]) -> "TokenVocabulary":
        """The vocabulary; `training` is the training split of the corpus as bytes, in pieces."""
        if self._path:
            return TokenVocabulary.of_file(self._path)
        assert self.size is not None
        return trained(_of_source(self.source) if self.source else _texts(training), self.size)

    @property
    def _path(self) -> Path | None:
        return files.absolute(self.file, "data.tokenizer")


def _content(path: Path, setting: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingError(f"{setting}={path} cannot be read: {reason}") from None


def trained(texts: Iterable[str], size: int) -> "TokenVocabulary":
    """A byte-level BPE of so many tokens. The same texts give the same one, however they are cut (see `Tokens`)."""
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return TokenVocabulary.of_library(tokenizer)


class TokenVocabulary(Vocabulary):
    """The tokens of a tokenizer. `symbols` are they, in the byte-level writing of `CHARACTERS`.

    Args:
        symbols: the tokens in the order of their integers.
        tokenizer: the content of the tokenizer's JSON file.
    """

    system = "tokens"

    def __init__(self, symbols: Iterable[str], tokenizer: str) -> None:
        super().__init__(list(symbols))
        self.tokenizer = tokenizer

    @classmethod
    def of_file(cls, path: Path, setting: str = "data.tokenizer") -> Self:
        """The vocabulary of a `tokenizer.json`.

        Raises SettingError where it is none, not byte-level, or parts a text in other ways than GPT-2's: then a token
        could go on where the text is cut.
        """
        text = _content(path, setting)
        try:
            tokenizer, parts = _library().Tokenizer.from_str(text), json.loads(text)
        except Exception as error:  # the library raises Exception itself
            raise SettingError(f"{setting}={path} is no tokenizer.json that can be read ({error})") from None
        if '"ByteLevel"' not in json.dumps([parts.get("pre_tokenizer"), parts.get("decoder")]):
            raise SettingError(f"{setting}={path} is not byte-level, as those of GPT-2 and GPT-NeoX are")
        parting = parts.get("pre_tokenizer") or {}
        if parting.get("type") != "ByteLevel" or not parting.get("use_regex", True) or parting.get("add_prefix_space"):
            raise SettingError(f"{setting}={path} parts a text in other ways than those of GPT-2 and GPT-NeoX")
        return cls.of_library(tokenizer)

    @classmethod
    def of_library(cls, tokenizer: Any) -> Self:
        """The vocabulary of a tokenizer of the library."""
        tokens = map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))
        return cls((token or "" for token in tokens), tokenizer.to_str())

    def encode(self, text: str) -> list[int]:
        return self._encoder.encode(text, add_special_tokens=False).ids

    def encoded(self, text: str) -> np.ndarray:
        """The integers of a text as an array of the smallest type; it takes half the time of `encode`."""
        [found] = self._encoder.encode_batch_fast([text], add_special_tokens=False)
        return np.array(found.ids, smallest_type(self))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # holds back half a character
        for i in ids:
            yield decoder.decode(_bytes_of(self.symbols[i]))
        yield decoder.decode(b"", final=True)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"tokenizer": self.tokenizer}

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Self:
        return cls(record["symbols"], record["tokenizer"])

    @cached_property
    def _encoder(self) -> Any:
        return _library().Tokenizer.from_str(self.tokenizer)


class Tokens(SymbolSystem):
    """Text as UTF-8 bytes first, which become tokens in the second pass, when the tokenizer is known."""

    vocabulary = TokenVocabulary

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer or Tokenizer()
        self._utf8 = Utf8()

    def encode(self, piece: bytes) -> np.ndarray:
        return np.frombuffer(self._utf8.decode(piece).encode(), np.uint8)

    def end(self) -> np.ndarray:
        return np.frombuffer(self._utf8.decode(b"", final=True).encode(), np.uint8)

    def cut(self, provisional: np.ndarray, place: int) -> int:
        """Before the next blank or end of a line, if there is one near: the bytes of a character stay together."""
        near = provisional[place : place + NEAR]
        blanks = np.flatnonzero((near == ord(" ")) | (near == ord("\n")))
        if len(blanks):
            return place + int(blanks[0])
        while place < len(provisional) and provisional[place] & 0xC0 == 0x80:  # within a character of UTF-8
            place += 1
        return place

    def found(self, training: Iterable[np.ndarray]) -> Vocabulary:
        return self._tokenizer.made(training)

    def reading(self, vocabulary: Vocabulary) -> Reading:
        assert isinstance(vocabulary, TokenVocabulary)
        return lambda pieces: (vocabulary.encoded(text) for text in _texts(pieces))


def _texts(pieces: Iterable[np.ndarray]) -> Iterator[str]:
    """The text of UTF-8 bytes in pieces, cut only before a blank that follows no blank."""
    utf8, held = codecs.getincrementaldecoder("utf-8")(), ""
    for piece in pieces:
        held += utf8.decode(piece.tobytes())
        if found := LAST_CUT.match(held):
            yield held[: found.end()]
            held = held[found.end() :]
    if held:
        yield held


def _of_source(source: Source) -> Iterator[str]:
    """The text of a source. What is not UTF-8 in it is replaced: nothing is written with it, only learned from it."""
    for read in source.open().parts.values():
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        yield from _texts(np.frombuffer(decoder.decode(piece).encode(), np.uint8) for piece in read())


def _bytes_of(token: str) -> bytes:
    """The bytes of a token. Special tokens are not in byte-level writing; they stand for themselves."""
    found = [CHARACTERS.get(character) for character in token]
    return token.encode() if None in found else bytes(found)  # type: ignore[arg-type]


def _library() -> Any:
    """The library. It warns of processes that are started after it has used threads, so it uses none."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers
    import tokenizers.decoders
    import tokenizers.models
    import tokenizers.pre_tokenizers
    import tokenizers.trainers

    return tokenizers
