"""Corpora prepared once into a memory-mapped array of the smallest integer type, with a manifest.

`prepare(source, symbols, directory)` fills `directory/<source name>-<key>/`, where the key hashes the raw content, the
symbol system and `FORMAT`:

    symbols.bin     the integers of the whole corpus, one after the other
    manifest.json   name, origin and revision, vocabulary, type, count, split offsets, hashes

The splits go by position, as those of Text8 and Enwik8 do: the first 90 % train, the next 5 % val, the last 5 % test.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from diffmamba.data.sources import Source
from diffmamba.data.symbols import SymbolSystem, Vocabulary, symbol_system
from diffmamba.errors import SettingError

FORMAT = 1  # raise it when the same source and symbol system would give other integers
CHUNK = 1 << 20  # symbols held in memory at once
SPLITS = ("train", "val", "test")


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
        self._symbols = np.memmap(array, dtype, "r")

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_json(self.manifest["vocabulary"])

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
        for chunk in chunks(self._symbols):
            digest.update(chunk.tobytes())
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
    that looks finished; the next one clears it away.

    Args:
        source: where the raw text comes from.
        symbols: name of the symbol system: `text8`, `bytes` or `words`.
        directory: where prepared corpora live; None is the user's cache folder.
        progress: show a progress line on standard error if that is a terminal.

    Raises `SettingError` for an unknown symbol system, a source that cannot be read and a directory that cannot be
    written.
    """
    system = symbol_system(symbols)
    fingerprint = source.fingerprint()
    key = hashlib.sha256(f"{fingerprint} {symbols} {FORMAT}".encode()).hexdigest()[:12]
    parent = Path(directory).expanduser() if directory is not None else user_cache_path("diffmamba")
    home = parent.absolute() / f"{source.name}-{key}"
    if not home.is_dir():
        with _locked(home):
            if not home.is_dir():
                _prepare_atomically(source, system, fingerprint, home, progress)
    return Corpus(home)


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive stretches of an array, each small enough for memory."""
    for start in range(0, len(array), CHUNK):
        yield array[start : start + CHUNK]


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Keeps other processes from preparing the same corpus; frees itself if this one dies."""
    lock = FileLock(home.with_name(f"{home.name}.lock"))
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise SettingError(
            f"data.directory: cannot write in {home.parent} ({error.strerror}); set it to a folder of yours"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _prepare_atomically(source: Source, system: SymbolSystem, fingerprint: str, home: Path, progress: bool) -> None:
    """Prepares beside `home` and renames at the end. The caller holds the lock."""
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what an interrupted preparation has left
    partial.mkdir()
    try:
        facts = _write_symbols(source, system, partial, progress)
        manifest = {
            "format": FORMAT,
            "name": source.name,
            "source": source.describe(),
            "raw_fingerprint": fingerprint,
            **facts,
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_symbols(source: Source, system: SymbolSystem, folder: Path, progress: bool) -> dict[str, Any]:
    """Writes `symbols.bin` by way of the provisional integers; returns what the manifest says of it."""
    provisional = folder / "provisional.bin"
    with provisional.open("wb") as file:
        for integers in _shown(system.encode(source.pieces()), f"preparing {source.name}", progress):
            file.write(integers.tobytes())
    if not provisional.stat().st_size:
        raise SettingError("data.path: the text has no symbols in it; give a file with more in it than white space")
    raw = np.memmap(provisional, system.provisional_type, "r")
    splits = split_offsets(len(raw))
    start, end = splits["train"]
    vocabulary, table = system.finish(chunks(raw[start:end]))
    dtype = np.min_scalar_type(vocabulary.size - 1)
    table = table.astype(dtype)
    digest = hashlib.sha256()
    with (folder / "symbols.bin").open("wb") as file:
        for chunk in chunks(raw):
            content = table[chunk].tobytes()
            digest.update(content)
            file.write(content)
    del raw
    provisional.unlink()
    return {
        "count": splits["test"][1],
        "splits": splits,
        "dtype": dtype.name,
        "sha256": digest.hexdigest(),
        "vocabulary": vocabulary.to_json(),
    }


def split_offsets(count: int) -> dict[str, tuple[int, int]]:
    """Start and end of each split of `count` symbols: 90 %, 5 %, 5 % by position, in whole numbers."""
    borders = [0, count * 90 // 100, count * 95 // 100, count]
    return dict(zip(SPLITS, pairwise(borders), strict=True))


def _shown(arrays: Iterable[np.ndarray], description: str, progress: bool) -> Iterator[np.ndarray]:
    """Passes the arrays on, counting their symbols on standard error."""
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,} symbols"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (progress and sys.stderr.isatty())) as bar:
        task = bar.add_task(description, total=None)
        for array in arrays:
            yield array
            bar.advance(task, len(array))
