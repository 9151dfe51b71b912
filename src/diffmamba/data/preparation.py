"""From a source to the files of a prepared corpus, in constant memory.

Every piece of the text becomes provisional integers in a temporary file. A quick second pass replaces these by the
final integers, which are known only after the whole text has been seen.
"""

import hashlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from diffmamba import atomic
from diffmamba.data.files import readable
from diffmamba.data.sources import SPLITS, RawText, Source
from diffmamba.data.systems import SymbolSystem, Vocabulary, smallest_type
from diffmamba.errors import SettingError

FEW, MANY = 20, 1000  # symbols that are left of so many bytes, where a text has hardly a letter of the system
CHUNK = 1 << 20  # symbols held in memory at once
Extents = dict[str, tuple[int, int]]  # where each split starts and ends, in symbols


@contextmanager
def prepared_beside(
    home: Path, source: Source, system: SymbolSystem, head: dict[str, Any], vocabulary: Vocabulary | None, alone: bool
) -> Iterator[Path]:
    """A filled folder beside `home`, to be given its name. It is deleted if it keeps its own.

    `source` and `vocabulary` are those of `corpus.prepare`, `system` is a new one. The manifest begins with `head`.
    `alone`: no other process does the same meanwhile, so that all such folders are left of processes that were killed.
    """
    for stale in home.parent.glob(f"{home.name}.partial*") if alone else ():
        shutil.rmtree(stale, ignore_errors=True)
    partial = home.with_name(f"{home.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        _fill(partial, source, system, head, vocabulary)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    folder: Path, source: Source, system: SymbolSystem, head: dict[str, Any], vocabulary: Vocabulary | None
) -> None:
    with readable(source.name):
        text = source.open()
    with tempfile.TemporaryFile(dir=folder) as file:
        ends = _encode(source, text, system, file)
        file.flush()
        provisional = np.memmap(file, system.provisional_type, "r")
        splits = _splits(text, system, provisional, ends)
        documents = ends if text.documents else []
        facts = _write_symbols(folder / "symbols.bin", system, provisional, splits, documents, vocabulary)
    sizes = {name: end - start for name, (start, end) in facts["splits"].items()}
    source.check(text, sizes | ({} if vocabulary else {"vocabulary": facts["vocabulary"]["size"]}))
    with readable(source.name):
        if source.fingerprint() != head["raw_fingerprint"]:
            raise SettingError(f"data.path: {text.origin} changed while it was prepared; run again when it is whole")
    origin = {"source": {"origin": text.origin, "revision": text.revision}}
    atomic.write_json(folder / "manifest.json", head | origin | facts)


def _encode(source: Source, text: RawText, system: SymbolSystem, provisional: IO[bytes]) -> list[int]:
    """Writes the provisional integers of the whole text; returns where each part, or each document, ends."""
    ends: list[int] = []
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress("preparing {task.description}", *columns, console=Console(stderr=True), transient=True)
    progress.disable = not sys.stderr.isatty()

    def end() -> None:
        provisional.write(system.end().data)
        ends.append(provisional.tell() // np.dtype(system.provisional_type).itemsize)

    with progress:
        line = progress.add_task(source.name, total=text.size)
        for part, read in text.parts.items():
            for piece in _pieces(read, source.name):
                provisional.write(system.encode(piece).data)
                if text.documents:
                    end()
                progress.advance(line, len(piece))
            if not text.documents:
                end()
            if len(text.parts) > 1:
                source.check(
                    text, {part: ends[-1] - (ends[-2] if len(ends) > 1 else 0)}
                )  # a wrong text is refused early
    if not ends or not ends[-1]:
        raise SettingError(f"data.path: {text.origin} is empty or has only white space; give a text with symbols")
    if ends[-1] < FEW and (text.size or 0) >= MANY:
        raise SettingError(
            f"data.symbols: {text.origin} has {text.size:,} bytes, of which {ends[-1]} symbols are left; use "
            "data.symbols=bytes or words"
        )
    return ends


def _splits(text: RawText, system: SymbolSystem, provisional: np.ndarray, ends: Sequence[int]) -> Extents:
    """Where each split lies among the provisional integers. A document is never parted."""
    if len(text.parts) > 1:
        extents = dict(zip(text.parts, pairwise([0, *ends]), strict=True))
        return {name: extents[name] for name in SPLITS}
    found = split_offsets(ends[-1])
    borders = [start for start, _ in found.values()][1:]
    if text.documents:
        borders = [min(ends, key=lambda end: abs(end - border)) for border in borders]
    else:
        borders = [system.cut(provisional, border) for border in borders]
    return dict(zip(SPLITS, pairwise([0, *borders, ends[-1]]), strict=True))


def _pieces(read: Callable[[], Iterator[bytes]], name: str) -> Iterator[bytes]:
    with readable(name):
        yield from read()


def split_offsets(count: int) -> Extents:
    """Start and end of each split of `count` symbols, as in Text8 and Enwik8: 90 %, 5 %, 5 % by position."""
    return dict(zip(SPLITS, pairwise([0, count * 90 // 100, count * 95 // 100, count]), strict=True))


def _write_symbols(
    path: Path,
    system: SymbolSystem,
    provisional: np.ndarray,
    splits: Extents,
    documents: Sequence[int],
    given: Vocabulary | None,
) -> dict[str, Any]:
    """Writes the final integers; returns what the manifest says about them.

    Each split is read by itself, and so is each document: `documents` says where they end, if there are any.
    """
    vocabulary, read = system.finish(_chunks(provisional[slice(*splits["train"])]), given)
    dtype = smallest_type(vocabulary)
    places = {0: 0}  # of borders: among the provisional integers, and among the final ones
    digest = hashlib.sha256()
    with atomic.replacing(path) as file:
        for start, end in pairwise(
            sorted({0, *documents, *(border for extent in splits.values() for border in extent)})
        ):
            places[end] = places[start]
            for final in read(_chunks(provisional[start:end])):
                digest.update(final.data)
                file.write(final.data)
                places[end] += len(final)
    meaning = {"dtype": dtype.name, "sha256": digest.hexdigest(), "vocabulary": vocabulary.to_json()}
    found = {name: (places[start], places[end]) for name, (start, end) in splits.items()}
    of_documents = {"documents": [places[end] for end in documents]} if documents else {}
    return {"count": places[len(provisional)], "splits": found, **of_documents, **meaning}


def _chunks(integers: np.ndarray) -> Iterator[np.ndarray]:
    return (integers[start : start + CHUNK] for start in range(0, len(integers), CHUNK))
