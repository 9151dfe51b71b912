"""Corpora that are prepared once: one memory-mapped array of the smallest integer type that fits, and a manifest.

`prepare(source, symbols, directory)` fills `directory/<source name>-<key>/`. The key is a hash of the source's
fingerprint, the symbol system and `FORMAT`.

    symbols.bin     the integers of the whole corpus, one after the other
    manifest.json   name, origin and revision, vocabulary, type, count, split offsets, hashes
"""

import hashlib
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from diffmamba.data.files import readable
from diffmamba.data.preparation import prepare_at
from diffmamba.data.sources import Source
from diffmamba.data.symbols import read_vocabulary, symbol_system
from diffmamba.data.systems import Vocabulary
from diffmamba.errors import SettingError

FORMAT = 1  # raise it when the same source and symbol system give other integers than before
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
            count, dtype = self.manifest["count"], np.dtype(self.manifest["dtype"])
            intact = self.manifest["format"] == FORMAT and sum(self.sizes.values()) == count
            intact &= (home / "symbols.bin").stat().st_size == count * dtype.itemsize
        except (OSError, ValueError, LookupError, TypeError):
            intact = False
        if not intact:
            raise SettingError(
                f"data.directory: manifest.json or symbols.bin in {home} is damaged or of another version; "
                f"delete {home} and run again to prepare the corpus anew"
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
        return hashlib.sha256(f"{self.manifest['sha256']} {meaning}".encode()).hexdigest()[:16]

    @property
    def sizes(self) -> dict[str, int]:
        """Symbols in each split."""
        return {name: end - start for name, (start, end) in self.manifest["splits"].items()}

    def split(self, name: str) -> np.ndarray:
        """The integers of `train`, `val` or `test`: a read-only memory-mapped array `(symbols,)`."""
        start, end = self.manifest["splits"][name]
        return self._symbols[start:end]


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

    @cache  # noqa: B019 - shared by equal choices
    def prepare(self) -> Corpus:
        """The corpus, prepared if need be (see `prepare`). A process does this once for equal choices."""
        return prepare(self.source, self.symbols, self.directory)

    def describe(self) -> dict[str, Any]:
        """Which text in which symbols, as plain data: equal for equal corpora, wherever their files are kept."""
        return {"symbols": self.symbols, **self.source.describe_choice()}

    @staticmethod
    def forget() -> None:
        """Makes the next `prepare` of every choice look at its source again, for a text that has changed since."""
        CorpusChoice.prepare.cache_clear()


def prepare(source: Source, symbols: str, directory: str | Path | None = None) -> Corpus:
    """Opens the corpus, and prepares it first if that has not been done before. A terminal shows the progress.

    Of several processes one prepares and the others wait. An interrupted preparation starts again at the next call.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system: `text8`, `bytes`, `words` or `wikitext`.
        directory: where prepared corpora are kept; None is the user's cache folder.

    Raises `SettingError` for an unknown symbol system, a source that cannot be read or is not what it should be, and
    a directory that cannot be written.
    """
    symbol_system(symbols)  # refuses an unknown one before anything is read
    with readable(source.name):
        fingerprint = source.fingerprint()
    key = hashlib.sha256(f"{fingerprint} {symbols} {FORMAT}".encode()).hexdigest()[:12]
    parent = (Path(directory).expanduser() if directory is not None else user_cache_path("diffmamba")).absolute()
    home = parent / f"{source.name}-{key}"
    if not home.is_dir():
        head = {"format": FORMAT, "name": source.name, "raw_fingerprint": fingerprint}
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _locked(home, source.name):
                if not home.is_dir():
                    prepare_at(home, source, symbols, head)
        except OSError as error:  # no permission, or the disk is full
            reason = f"cannot write in {parent} ({error.strerror})"
            raise SettingError(f"data.directory: {reason}; set it to a folder that you can write") from None
    return Corpus(home)


def _locked(home: Path, name: str) -> AbstractContextManager[object]:
    """Keeps other processes from preparing the same corpus; the lock frees itself if this process dies."""
    lock = FileLock(home.with_name(f"{home.name}.lock"))
    try:
        return lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"another process is preparing {name}; waiting", file=sys.stderr)
        return lock.acquire()
