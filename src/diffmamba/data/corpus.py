"""Corpora prepared once into a memory-mapped array of the smallest integer type, with a manifest.

`prepare(source, symbols, directory)` fills `directory/<source name>-<key>/`, where the key hashes the source's
fingerprint, the symbol system and `FORMAT`:

    symbols.bin     the integers of the whole corpus, one after the other
    manifest.json   name, origin and revision, vocabulary, type, count, split offsets, hashes

A text without parts of its own is split by position, as Text8 and Enwik8 are: the first 90 % train, the next 5 % val,
the last 5 % test.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from diffmamba.data.preparation import CHUNK, clear, is_complete, prepare_in
from diffmamba.data.sources import Source
from diffmamba.data.symbols import read_vocabulary, symbol_system
from diffmamba.data.systems import Vocabulary
from diffmamba.errors import SettingError

FORMAT = 1  # raise it when the same source and symbol system would give other integers
PATIENCE = 1.0  # seconds to wait for another process before saying so


class Corpus:
    """A prepared corpus, opened read-only.

    Args:
        home: the folder that `prepare` filled.

    Raises `SettingError` naming the folder to delete if it is damaged; `verify` looks at every byte.
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
        """Reads the whole array and raises `SettingError` naming the folder to delete if its hash is not right."""
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


def prepare(source: Source, symbols: str, directory: str | Path | None = None, progress: bool = True) -> Corpus:
    """Opens the corpus, having prepared it first if that has not been done before.

    Several processes may do this at once: one prepares, the others wait. An interrupted preparation leaves nothing
    that looks finished; the next one goes on where it stopped.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system: `text8`, `bytes`, `words` or `wikitext`.
        directory: where prepared corpora live; None is the user's cache folder.
        progress: show a progress line on standard error if that is a terminal.

    Raises `SettingError` for an unknown symbol system, a source that cannot be read or is not what it should be, and
    a directory that cannot be written.
    """
    symbol_system(symbols)  # refuses an unknown one before anything is read
    fingerprint = source.fingerprint()
    key = hashlib.sha256(f"{fingerprint} {symbols} {FORMAT}".encode()).hexdigest()[:12]
    parent = Path(directory).expanduser() if directory is not None else user_cache_path("diffmamba")
    home = parent.absolute() / f"{source.name}-{key}"
    if not home.is_dir():
        with _writable(parent), _locked(home, source.name):
            if not home.is_dir():
                _prepare_atomically(source, symbols, fingerprint, home, progress)
    return Corpus(home)


def _prepare_atomically(source: Source, symbols: str, fingerprint: str, home: Path, progress: bool) -> None:
    """Prepares beside `home` and renames at the end. The caller holds the lock."""
    partial = home.with_name(f"{home.name}.partial")
    if not is_complete(partial):
        source.fetch()
        head = {"format": FORMAT, "name": source.name, "source": source.describe(), "raw_fingerprint": fingerprint}
        partial.mkdir(exist_ok=True)
        try:
            prepare_in(partial, source, symbols, head, progress)
        except SettingError as error:
            if not isinstance(error.__cause__, OSError):  # the text itself is wrong: nothing to go on from
                shutil.rmtree(partial, ignore_errors=True)
            raise
    clear(partial)
    partial.rename(home)


@contextmanager
def _writable(parent: Path) -> Iterator[None]:
    """The folder of prepared corpora, made if need be; says so where it cannot be written, or is full."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SettingError(
            f"data.directory: cannot write in {parent} ({error.strerror}); set it to a folder of yours"
        ) from None


@contextmanager
def _locked(home: Path, name: str) -> Iterator[None]:
    """Keeps other processes from preparing the same corpus; frees itself if this one dies."""
    lock = FileLock(home.with_name(f"{home.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"another process is preparing {name}; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
