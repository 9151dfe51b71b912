"""From a source to the files of a prepared corpus, in constant memory.

The text is read once. Every piece becomes provisional integers in a temporary file. A quick second pass replaces these
by the final integers, which are known only after the whole text has been seen.
"""

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from diffmamba import atomic
from diffmamba.data.sources import SPLITS, Source
from diffmamba.data.symbols import symbol_system
from diffmamba.data.systems import SymbolSystem
from diffmamba.errors import SettingError

CHUNK = 1 << 20  # symbols held in memory at once
Extents = dict[str, tuple[int, int]]  # where each split starts and ends, in symbols


def fill(folder: Path, source: Source, symbols: str, head: dict[str, Any], progress: bool) -> None:
    """Writes `symbols.bin` and then `manifest.json` into a folder.

    Args:
        folder: exists and is empty.
        source, symbols, progress: see `corpus.prepare`.
        head: how the manifest begins.
    """
    system = symbol_system(symbols)
    with readable(source):
        source.fetch()
        head = head | {"source": source.describe()}
    with tempfile.TemporaryFile(dir=folder) as provisional:
        splits = _encode(source, system, provisional, progress)
        facts = _write_symbols(folder / "symbols.bin", system, provisional, splits)
    source.check({name: end - start for name, (start, end) in splits.items()}, facts["vocabulary"]["size"])
    atomic.write_json(folder / "manifest.json", head | facts)


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Raises `SettingError` in place of an OSError, which comes from reading the source in this block."""
    try:
        yield
    except OSError as error:
        raise SettingError(
            f"data.source: cannot read {error.filename or source.name} ({error.strerror or error})"
        ) from error


def _encode(source: Source, system: SymbolSystem, provisional: IO[bytes], progress: bool) -> Extents:
    """Writes the provisional integers of the whole text; returns where each split lies among them."""
    ends = [0]
    with _progress_line(source, progress) as show:
        for part in source.parts:
            for piece in _pieces(source, part):
                provisional.write(system.encode(piece).data)
                show(len(piece))
            provisional.write(system.end().data)
            ends.append(provisional.tell() // np.dtype(system.provisional_type).itemsize)
            if len(source.parts) > 1:
                source.check({part: ends[-1] - ends[-2]})  # a wrong text is refused as soon as it shows
    if not ends[-1]:
        raise SettingError("data.path: the text has no symbols; give a file that is not only white space")
    if len(source.parts) == 1:
        return split_offsets(ends[-1])
    extents = dict(zip(source.parts, pairwise(ends), strict=True))
    return {name: extents[name] for name in SPLITS}


def _pieces(source: Source, part: str) -> Iterator[bytes]:
    with readable(source):
        yield from source.pieces(part)


def _write_symbols(path: Path, system: SymbolSystem, provisional: IO[bytes], splits: Extents) -> dict[str, Any]:
    """Writes the final integers; returns what the manifest says about them."""
    count = max(end for _, end in splits.values())
    vocabulary, table = system.finish(_stored(provisional, system, *splits["train"]))
    dtype = np.min_scalar_type(vocabulary.size - 1)
    table = table.astype(dtype)
    digest = hashlib.sha256()
    with atomic.replacing(path) as file:
        for chunk in _stored(provisional, system, 0, count):
            final = table[chunk].data
            digest.update(final)
            file.write(final)
    return {
        "count": count,
        "splits": splits,
        "dtype": dtype.name,
        "sha256": digest.hexdigest(),
        "vocabulary": vocabulary.to_json(),
    }


def _stored(provisional: IO[bytes], system: SymbolSystem, start: int, end: int) -> Iterator[np.ndarray]:
    """The provisional integers from `start` to `end`, in chunks."""
    dtype = np.dtype(system.provisional_type)
    provisional.seek(start * dtype.itemsize)
    for first in range(start, end, CHUNK):
        yield np.frombuffer(provisional.read(min(CHUNK, end - first) * dtype.itemsize), dtype)


def split_offsets(count: int) -> Extents:
    """Start and end of each split of `count` symbols: 90 %, 5 %, 5 % by position, in whole numbers."""
    borders = [0, count * 90 // 100, count * 95 // 100, count]
    return dict(zip(SPLITS, pairwise(borders), strict=True))


@contextmanager
def _progress_line(source: Source, progress: bool) -> Iterator[Callable[[int], None]]:
    """A line with the bytes read, their rate and the time left; yields what to call with the size of every piece."""
    sizes = [source.size(part) for part in source.parts]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    disable = not (progress and sys.stderr.isatty())
    with Progress(
        "preparing {task.description}", *columns, console=Console(stderr=True), transient=True, disable=disable
    ) as line:
        task = line.add_task(source.name, total=total)
        yield lambda read: line.update(task, advance=read)
