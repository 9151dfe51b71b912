"""From a source to the files of a prepared corpus, in bounded memory, going on where an earlier attempt stopped.

First every piece is encoded into provisional integers (`journal`), then one quick pass over these writes the final
ones. The manifest is written last: a folder that has one is complete.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from diffmamba.data.journal import FILES, Journal, Position, replaced
from diffmamba.data.sources import Source
from diffmamba.data.symbols import symbol_system
from diffmamba.data.systems import SymbolSystem
from diffmamba.errors import SettingError

CHUNK = 1 << 20  # symbols held in memory at once
SPLITS = ("train", "val", "test")


def prepare_in(folder: Path, source: Source, symbols: str, head: dict[str, Any], progress: bool) -> None:
    """Fills a folder with `symbols.bin` and `manifest.json`, going on with what an interrupted preparation left there.

    Args:
        folder: exists, and is nobody else's for as long as this takes.
        source: fetched.
        symbols: name of the symbol system.
        head: how the manifest begins; with `symbols`, what must be the same for an encoding to go on.
        progress: show a progress line on standard error if that is a terminal.
    """
    system = symbol_system(symbols)
    splits = _encode(source, system, folder, {**head, "symbols": symbols}, progress)
    facts = _write_symbols(system, folder, splits)
    source.check({name: end - start for name, (start, end) in splits.items()}, facts["vocabulary"]["size"])
    with replaced(folder / "manifest.json") as file:
        file.write(json.dumps({**head, **facts}, indent=1, ensure_ascii=False).encode())


def is_complete(folder: Path) -> bool:
    """Whether a preparation came to its end, its manifest."""
    return (folder / "manifest.json").is_file()


def clear(folder: Path) -> None:
    """Removes from a complete folder what only an interrupted preparation needs."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _encode(
    source: Source, system: SymbolSystem, folder: Path, owner: dict[str, Any], progress: bool
) -> dict[str, tuple[int, int]]:
    """Writes the provisional integers; returns where among them each split starts and ends."""
    writer = Journal(folder, owner, system)
    ends = writer.position.ends
    with _shown(source, writer.position, progress) as show:
        for position in writer.encode(source):
            show(position)
            if len(source.parts) > 1 and ends and not position.piece:
                start, end = [0, *ends][-2:]
                source.check({source.parts[len(ends) - 1]: end - start})
    if not ends[-1]:
        raise SettingError("data.path: the text has no symbols in it; give a file with more in it than white space")
    if len(source.parts) == 1:
        return split_offsets(ends[-1])
    extents = dict(zip(source.parts, pairwise([0, *ends]), strict=True))
    return {name: extents[name] for name in SPLITS}


def _write_symbols(system: SymbolSystem, folder: Path, splits: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Writes `symbols.bin` by way of the provisional integers; returns what the manifest says of it."""
    count = max(end for _, end in splits.values())
    vocabulary, table = system.finish(_stored(folder, system, *splits["train"]))
    dtype = np.min_scalar_type(vocabulary.size - 1)
    table = table.astype(dtype)
    digest = hashlib.sha256()
    with (folder / "symbols.bin").open("wb") as file:
        for chunk in _stored(folder, system, 0, count):
            final = table[chunk].data
            digest.update(final)
            file.write(final)
        file.flush()
        os.fsync(file.fileno())  # before the manifest, which says that it is whole
    return {
        "count": count,
        "splits": splits,
        "dtype": dtype.name,
        "sha256": digest.hexdigest(),
        "vocabulary": vocabulary.to_json(),
    }


def _stored(folder: Path, system: SymbolSystem, start: int, end: int) -> Iterator[np.ndarray]:
    """Provisional integers from `start` to `end`, in chunks; read, since what is mapped would count as memory."""
    dtype = np.dtype(system.provisional_type)
    with (folder / "provisional.bin").open("rb") as file:
        file.seek(start * dtype.itemsize)
        for first in range(start, end, CHUNK):
            yield np.fromfile(file, dtype, min(CHUNK, end - first))


def split_offsets(count: int) -> dict[str, tuple[int, int]]:
    """Start and end of each split of `count` symbols: 90 %, 5 %, 5 % by position, in whole numbers."""
    borders = [0, count * 90 // 100, count * 95 // 100, count]
    return dict(zip(SPLITS, pairwise(borders), strict=True))


@contextmanager
def _shown(source: Source, start: Position, progress: bool) -> Iterator[Callable[[Position], None]]:
    """A progress line: the share of all bytes with rate and time left, or what was read where the total is unknown."""
    sizes = [source.size(part) for part in source.parts]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    columns: list[ProgressColumn] = [TextColumn("preparing {task.description}")]
    if total is None:
        columns += [SpinnerColumn(), TextColumn("{task.completed:,} bytes"), TransferSpeedColumn(), TimeElapsedColumn()]
    else:
        columns += [BarColumn(), TaskProgressColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    disable = not (progress and sys.stderr.isatty())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disable) as bar:
        task = bar.add_task(source.name, total=total, completed=start.read)
        yield lambda position: bar.update(task, completed=position.read)
