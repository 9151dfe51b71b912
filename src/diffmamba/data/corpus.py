"""Corpora that are prepared once: one memory-mapped array of the smallest integer type that fits, and a manifest.

`prepare(source, symbols, directory)` fills `directory/<source name>-<key>/`. The key is a hash of the source's
fingerprint, the symbol system and `FORMAT`.

    symbols.bin     the integers of the whole corpus, one after the other
    manifest.json   name, origin and revision, vocabulary, type, count, split offsets, hashes

A text that does not come in parts is split by position, like Text8 and Enwik8: the first 90 % are train, the next 5 %
val, the last 5 % test.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from diffmamba.data.preparation import CHUNK, fill, readable
from diffmamba.data.sources import Source
from diffmamba.data.symbols import read_vocabulary, symbol_system
from diffmamba.data.systems import Vocabulary
from diffmamba.errors import SettingError

FORMAT = 1  # raise it when the same source and symbol system give other integers than before
PATIENCE = 1.0  # seconds to wait for another process before saying so


class Corpus:
    """A prepared corpus, opened read-only.

    Args:
        home: the folder that `prepare` filled.

    Raises `SettingError` naming the folder to delete if it is damaged. Only `verify` reads every byte.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.manifest = self._read_manifest()
        array = home / "symbols.bin"
        dtype = np.dtype(self.manifest["dtype"])
        if not array.is_file() or array.stat().st_size != self.manifest["count"] * dtype.itemsize:
            raise self._damaged("symbols.bin is missing or has the wrong size")
        if sum(self.sizes.values()) != self.manifest["count"]:
            raise self._damaged("the splits in manifest.json do not add up to symbols.bin")
        self._symbols = np.memmap(array, dtype, "r")

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
        return hashlib.sha256(f"{self.manifest['sha256']} {meaning}".encode()).hexdigest()[:16]

    @property
    def sizes(self) -> dict[str, int]:
        """Symbols in each split."""
        return {name: end - start for name, (start, end) in self.manifest["splits"].items()}

    def split(self, name: str) -> np.ndarray:
        """The integers of `train`, `val` or `test`: a read-only memory-mapped array `(symbols,)`."""
        start, end = self.manifest["splits"][name]
        return self._symbols[start:end]

    def verify(self) -> None:
        """Reads the whole array; raises `SettingError` naming the folder to delete if its hash is wrong."""
        digest = hashlib.sha256()
        for start in range(0, len(self._symbols), CHUNK):
            digest.update(self._symbols[start : start + CHUNK].data)
        if digest.hexdigest() != self.manifest["sha256"]:
            raise self._damaged("the hash of symbols.bin is not the one in manifest.json")

    def _read_manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.home / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self._damaged("manifest.json is missing or cut short") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise self._damaged("manifest.json is not of this version")
        return manifest

    def _damaged(self, reason: str) -> SettingError:
        return SettingError(f"data.directory: {reason}; delete {self.home} and run again to prepare the corpus anew")


@dataclass(frozen=True)
class CorpusChoice:
    """Which corpus is meant. Making one touches no file; two with the same settings are equal.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system.
        directory: where prepared corpora are kept; None is the user's cache folder.
    """

    source: Source
    symbols: str
    directory: str | Path | None = None

    def prepare(self) -> Corpus:
        """The corpus, prepared if need be (see `prepare`). A process does this once for equal choices."""
        return _prepared(self)

    def describe(self) -> dict[str, Any]:
        """Which text in which symbols, as plain data: equal for equal corpora, wherever their files are kept."""
        return {"symbols": self.symbols, **self.source.describe_choice()}

    @staticmethod
    def forget() -> None:
        """Makes the next `prepare` of every choice look at its source again, for a text that has changed since."""
        _prepared.cache_clear()


@cache
def _prepared(choice: CorpusChoice) -> Corpus:
    return prepare(choice.source, choice.symbols, choice.directory)


def prepare(source: Source, symbols: str, directory: str | Path | None = None, progress: bool = True) -> Corpus:
    """Opens the corpus, and prepares it first if that has not been done before.

    Several processes may call this at once: one prepares, the others wait. An interrupted preparation leaves nothing
    that looks finished, and the next call starts it again.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system: `text8`, `bytes`, `words` or `wikitext`.
        directory: where prepared corpora are kept; None is the user's cache folder.
        progress: show a progress line on standard error if that is a terminal.

    Raises `SettingError` for an unknown symbol system, a source that cannot be read or is not what it should be, and
    a directory that cannot be written.
    """
    symbol_system(symbols)  # refuses an unknown one before anything is read
    with readable(source):
        fingerprint = source.fingerprint()
    key = hashlib.sha256(f"{fingerprint} {symbols} {FORMAT}".encode()).hexdigest()[:12]
    parent = Path(directory).expanduser() if directory is not None else user_cache_path("diffmamba")
    home = parent.absolute() / f"{source.name}-{key}"
    if not home.is_dir():
        head = {"format": FORMAT, "name": source.name, "raw_fingerprint": fingerprint}
        with _writable(parent), _locked(home, source.name):
            if not home.is_dir():
                _prepare_at(home, source, symbols, head, progress)
    return Corpus(home)


def _prepare_at(home: Path, source: Source, symbols: str, head: dict[str, Any], progress: bool) -> None:
    """Fills a folder beside `home` and gives it its name at the end. The caller holds the lock."""
    for stale in home.parent.glob(f"{home.name}.partial*"):
        shutil.rmtree(stale, ignore_errors=True)  # its process was killed
    partial = home.with_name(f"{home.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        fill(partial, source, symbols, head, progress)
        partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _writable(parent: Path) -> Iterator[None]:
    """The folder of prepared corpora, made if need be; raises `SettingError` if it cannot be written or is full."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SettingError(
            f"data.directory: cannot write in {parent} ({error.strerror}); set it to a folder that you can write"
        ) from None


def _locked(home: Path, name: str) -> AbstractContextManager[object]:
    """Keeps other processes from preparing the same corpus; the lock frees itself if this process dies."""
    lock = FileLock(home.with_name(f"{home.name}.lock"))
    try:
        return lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"another process is preparing {name}; waiting", file=sys.stderr)
        return lock.acquire()
