"""Corpora that are prepared once: one memory-mapped array of the smallest integer type that fits, and a manifest.

`prepare(source, symbols, directory)` fills `directory/<source name>-<key>/`. The key is a hash of the source's
fingerprint, the symbol system, `FORMAT`, what makes its tokenizer if it has one, and the vocabulary if it is not the
corpus's own.

    symbols.bin     the integers of the whole corpus, one after the other
    manifest.json   name, origin and revision, vocabulary, type, count, split offsets, ends of documents, hashes
"""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from diffmamba.data.files import absolute, file_name, readable
from diffmamba.data.preparation import prepared_beside
from diffmamba.data.sources import SPLITS, Source
from diffmamba.data.symbols import read_vocabulary, symbol_system
from diffmamba.data.systems import Vocabulary
from diffmamba.data.tokens import Tokenizer, TokenVocabulary
from diffmamba.errors import SettingError

FORMAT = 1  # raise it when the same source and symbol system give other integers than before
ALL = "all"
"""All splits as one: train, val and test, one after the other."""
CHUNK = 1 << 24  # symbols that are counted at once
PATIENCE = 1.0  # seconds to wait for another process before saying so


class Corpus:
    """A prepared corpus, opened read-only.

    Args:
        home: the folder that `prepare` filled. Raises `SettingError` if it is damaged.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        try:
            self.manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
            total, dtype = self.manifest["count"], np.dtype(self.manifest["dtype"])
            intact = self.manifest["format"] == FORMAT and sum(self.sizes[name] for name in SPLITS) == total
            intact &= {"name", "sha256", "source"} <= self.manifest.keys()
            intact &= len(self.manifest["vocabulary"]["symbols"]) > 0
            self._opened = (home / "symbols.bin").stat()
            intact &= self._opened.st_size == total * dtype.itemsize
        except (OSError, ValueError, LookupError, TypeError):
            intact = False
        if not intact:
            raise SettingError(
                f"data.directory: manifest.json or symbols.bin in {home} is damaged or of another version; "
                f"run again with its text at hand, and it is prepared anew"
            )
        self._symbols = np.memmap(home / "symbols.bin", dtype, "r")

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return read_vocabulary(self.manifest["vocabulary"])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of what a model sees: the integers and their meaning, wherever they came from."""
        meaning = json.dumps(self.manifest["vocabulary"], sort_keys=True)
        meaning += f" {self.manifest['documents']}" if "documents" in self.manifest else ""
        return hashlib.sha256(f"{self.manifest['sha256']} {meaning}".encode()).hexdigest()[:16]

    @property
    def own_vocabulary(self) -> bool:
        """Whether the vocabulary is that of this text, and not that of another one."""
        return self.manifest.get("own_vocabulary", True)

    @cached_property
    def unknown(self) -> dict[str, int] | None:
        """How many symbols of each split stand for words that the vocabulary lacks; None if it has no such symbol."""
        if self.vocabulary.unknown is None:
            return None
        unknown = self.vocabulary.symbols.index(self.vocabulary.unknown)
        return {name: _count(self.split(name), unknown) for name in self.sizes}

    @property
    def sizes(self) -> dict[str, int]:
        """Symbols in each split."""
        return {name: end - start for name, (start, end) in self.manifest["splits"].items()}

    def is_whole(self) -> bool:
        """Whether the integers are those that were prepared. It reads them all: a second per gigabyte or two."""
        with (self.home / "symbols.bin").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.manifest["sha256"]

    def require_unchanged(self) -> None:
        """Raises OSError where the integers have been changed since they were opened: what was read may be wrong.

        A file that was removed or replaced is still whole for who has it open.
        """
        try:
            now = (self.home / "symbols.bin").stat()
        except OSError:
            return
        same = (now.st_size, now.st_mtime_ns) == (self._opened.st_size, self._opened.st_mtime_ns)
        if now.st_ino == self._opened.st_ino and not same and not self.is_whole():
            raise OSError(errno.ESTALE, "prepared data were changed while they were read", str(self.home))

    def split(self, name: str) -> np.ndarray:
        """The integers of `train`, `val` or `test`: a read-only memory-mapped array `(symbols,)`.

        `all` are the three of them, in memory unless they lie on the disk in this order.
        """
        if name == ALL:
            places = [self.manifest["splits"][part] for part in SPLITS]
            in_order = all(before[1] == after[0] for before, after in pairwise(places))
            return self._symbols if in_order else np.concatenate([self.split(part) for part in SPLITS])
        start, end = self.manifest["splits"][name]
        return self._symbols[start:end]

    def documents(self, name: str) -> list[tuple[int, int]] | None:
        """Start and end of each document of a split, or of `all`, in its integers; None where nothing is known of them.

        A document without a symbol is left out.
        """
        if "documents" not in self.manifest:
            return None
        places = [self.manifest["splits"][part] for part in (SPLITS if name == ALL else [name])]
        first, last = min(start for start, _ in places), max(end for _, end in places)
        known = pairwise([0, *self.manifest["documents"]])
        return [(start - first, end - first) for start, end in known if first <= start < end <= last]


@dataclass(frozen=True)
class CorpusChoice:
    """Which corpus is meant. Making one touches no file; two with the same settings are equal.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system; None: that of the weights which are measured (see `prepare_in`).
        directory: where prepared corpora are kept; None is the user's cache folder.
        tokenizer: the one that makes the symbols, for `tokens`.
    """

    source: Source
    symbols: str | None
    directory: Path | str | int | None = None
    tokenizer: Tokenizer | None = None

    @cache  # noqa: B019 - shared by equal choices
    def prepare(self) -> Corpus:
        """The corpus, prepared if need be (see `prepare`). A process does this once for equal choices."""
        if self.symbols is None:
            raise SettingError("data.symbols=null is for a text that weights are measured on; name a symbol system")
        return prepare(self.source, self.symbols, self.directory, tokenizer=self.tokenizer)

    def prepare_in(self, vocabulary: Vocabulary) -> Corpus:
        """The corpus in the symbols of another one of the same system (see `prepare`)."""
        return prepare(self.source, vocabulary.system, self.directory, vocabulary)

    def find(self, fingerprint: str | None) -> Corpus | None:
        """The prepared corpus of this name and content, without a look at the source; None if there is none."""
        folders = sorted(home_of(self.directory).glob(f"{file_name(self.source.name)}-*/"))
        corpora = filter(None, map(_opened, folders))
        alike = (corpus for corpus in corpora if corpus.own_vocabulary and corpus.fingerprint == fingerprint)
        return next((corpus for corpus in alike if corpus.is_whole()), None)

    def describe(self) -> dict[str, Any]:
        """Which text in which symbols, as plain data: equal for equal corpora, wherever their files are kept."""
        of_tokens = {"tokenizer": self.tokenizer.describe()} if self.tokenizer and self.symbols == "tokens" else {}
        return {"symbols": self.symbols, **of_tokens, **self.source.describe_choice()}

    @staticmethod
    def forget() -> None:
        """Makes the next `prepare` of every choice look at its source again, for a text that has changed since."""
        CorpusChoice.prepare.cache_clear()


def prepare(
    source: Source,
    symbols: str,
    directory: Path | str | int | None = None,
    vocabulary: Vocabulary | None = None,
    tokenizer: Tokenizer | None = None,
) -> Corpus:
    """Opens the corpus, and prepares it first if that has not been done before. A terminal shows the progress.

    Of several processes one prepares and the others wait. An interrupted preparation starts again at the next call.
    What is damaged is prepared anew, and then kept beside it under another name.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system: `text8`, `bytes`, `words`, `wikitext`, `tokens` or `ids`.
        directory: where prepared corpora are kept; None is the user's cache folder.
        vocabulary: of the same system, to be taken instead of the corpus's own. What it lacks is its `<unk>`.
        tokenizer: the one that makes the corpus's own vocabulary, for `tokens`.

    Raises `SettingError` for an unknown symbol system, a source that cannot be read or is not what it should be, a
    directory that cannot be written, a byte that the vocabulary lacks, and a tokenizer that is missing or no use.
    """
    system = symbol_system(symbols, tokenizer)  # refuses an unknown one before anything is read
    with readable(source.name):
        fingerprint = source.fingerprint()
    determines = " ".join([fingerprint, symbols, str(FORMAT), *_further(symbols, vocabulary, tokenizer)])
    parent = home_of(directory)
    home = parent / f"{file_name(source.name)}-{hashlib.sha256(determines.encode()).hexdigest()[:12]}"
    if corpus := _intact(home):
        return corpus  # nothing is written, not even a lock
    head = {"format": FORMAT, "name": source.name, "raw_fingerprint": fingerprint}
    if vocabulary:
        head["own_vocabulary"] = False
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(home, source.name) as lock:
            if not _intact(home):
                _tell_of_damage(home, source.name)
                with prepared_beside(home, source, system, head, vocabulary, alone=lock is not None) as partial:
                    _put(partial, home)
    except OSError as error:  # no permission, or the disk is full
        reason = f"cannot write in {parent} ({error.strerror})"
        raise SettingError(f"data.directory: {reason}; set it to a folder that you can write") from None
    return Corpus(home)


def _further(symbols: str, vocabulary: Vocabulary | None, tokenizer: Tokenizer | None) -> list[str]:
    """What the integers depend on besides the text and the symbol system: a given vocabulary, or a tokenizer."""
    if symbols != TokenVocabulary.system and tokenizer and tokenizer.given:
        raise SettingError(f"data.tokens, data.tokenizer are for data.symbols=tokens, not for data.symbols={symbols}")
    if vocabulary:
        return [_meaning(vocabulary.to_json())]
    return [(tokenizer or Tokenizer()).determines()] if symbols == TokenVocabulary.system else []


def home_of(directory: Path | str | int | None) -> Path:
    """The folder of prepared corpora; None is the user's cache folder."""
    return absolute(directory, "data.directory") or user_cache_path("diffmamba").absolute()


def _opened(home: Path) -> Corpus | None:
    """The corpus in a folder, at a glance; None if there is none, or a damaged one."""
    try:
        return Corpus(home)
    except SettingError:
        return None


def _intact(home: Path) -> Corpus | None:
    """The corpus in a folder, to its last symbol; None if there is none, or a damaged one."""
    corpus = _opened(home)
    return corpus if corpus and corpus.is_whole() else None


def _tell_of_damage(home: Path, name: str) -> None:
    if os.path.lexists(home):
        print(
            f"{home} is damaged; {name} is prepared anew, and {_aside(home).name} keeps what is there", file=sys.stderr
        )


def _put(partial: Path, home: Path) -> None:
    """Gives a filled folder its name. What has this name and is no corpus is kept beside it."""
    if _intact(home):
        return  # of another process, on a disk without locks
    if os.path.lexists(home):
        home.rename(_aside(home))
    partial.rename(home)


def _aside(home: Path) -> Path:
    """A free name for what is damaged."""
    names = (home.with_name(f"{home.name}.damaged-{number}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _meaning(vocabulary: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode()).hexdigest()


def _count(symbols: np.ndarray, one: int) -> int:
    """How often a symbol occurs, with little memory."""
    return sum(int(np.count_nonzero(symbols[i : i + CHUNK] == one)) for i in range(0, len(symbols), CHUNK))


def _locked(home: Path, name: str) -> AbstractContextManager[object]:
    """Keeps other processes from preparing the same corpus; the lock frees itself if this process dies.

    On a disk without locks it is no lock, but None: several processes may prepare, and the first is taken.
    """
    lock = FileLock(home.with_name(f"{home.name}.lock"))
    try:
        return lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"another process is preparing {name}; waiting", file=sys.stderr)
        return lock.acquire()
    except NotImplementedError:
        return nullcontext()
