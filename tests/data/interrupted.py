"""Preparations that are killed, and sources that tell what is read from them."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from diffmamba.data.corpus import prepare
from diffmamba.data.sources import Source

FORK = multiprocessing.get_context("fork")


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def killed(source: Source, symbols: str, directory: Path) -> Path:
    """The folder that a preparation left that was killed by what the test has made of the source or the code."""
    process = FORK.Process(target=prepare, args=(source, symbols, directory))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = [path for path in directory.iterdir() if path.is_dir()]
    assert left.suffix == ".partial"
    return left


def dying_after(source: Source, count: int) -> Source:
    """The source, whose reader is killed when it asks for one piece more than `count`."""
    read, left = source.pieces, iter(range(count))

    def pieces(part: str, start: int = 0) -> Iterator[bytes]:
        for piece in read(part, start):
            if next(left, None) is None:
                die()
            yield piece

    source.pieces = pieces  # type: ignore[method-assign]
    return source


def watched(source: Source) -> tuple[Source, list[bytes]]:
    """The source, and a list of the pieces that are read from it."""
    read, seen = source.pieces, []

    def pieces(part: str, start: int = 0) -> Iterator[bytes]:
        for piece in read(part, start):
            seen.append(piece)
            yield piece

    source.pieces = pieces  # type: ignore[method-assign]
    return source, seen
