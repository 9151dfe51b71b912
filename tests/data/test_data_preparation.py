"""Interrupted preparations: killed or failed at any moment, they leave nothing that looks finished."""

import errno
import multiprocessing
import os
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from diffmamba import atomic
from diffmamba.data import preparation, raw_file
from diffmamba.data.corpus import Corpus, prepare
from diffmamba.data.sources import PythonSource, Source, TextFile
from diffmamba.data.symbols import SYSTEMS
from diffmamba.errors import SettingError

FORK = multiprocessing.get_context("fork")
TEXT = "".join(f"Größe {i % 41} of a word{i}\n" + "\n" * (i % 3) for i in range(50))


class ThreeParts(TextFile):
    """Every third line of a file."""

    parts = ("val", "test", "train")

    def pieces(self, part: str) -> Iterator[bytes]:
        yield from self.path.read_bytes().splitlines(keepends=True)[self.parts.index(part) :: 3]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(raw_file, "PIECE_BYTES", 7)
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return path


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def stopping_after(source: Source, count: int, stop: Callable[[], object]) -> Source:
    """The source, whose reader is stopped when it asks for one piece more than `count`."""
    read, left = source.pieces, iter(range(count))

    def pieces(part: str) -> Iterator[bytes]:
        for piece in read(part):
            if next(left, None) is None:
                stop()
            yield piece

    source.pieces = pieces  # type: ignore[method-assign]
    return source


def kill_preparation(source: Source, symbols: str, directory: Path) -> None:
    """Prepares in a process that kills itself; checks that what it leaves does not look finished."""
    process = FORK.Process(target=prepare, args=(source, symbols, directory))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = folders(directory)
    assert ".partial-" in left.name


def folders(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()]


def content(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus.home.iterdir()}


@pytest.mark.parametrize(("kind", "symbols"), [*((TextFile, name) for name in SYSTEMS), (ThreeParts, "words")])
def test_killed_while_reading(kind: Callable[[Path], Source], symbols: str, text: Path, tmp_path: Path) -> None:
    for pieces in (0, 60):  # killed twice
        kill_preparation(stopping_after(kind(text), pieces, die), symbols, tmp_path / "data")
    corpus = prepare(kind(text), symbols, tmp_path / "data")
    assert content(corpus) == content(prepare(kind(text), symbols, tmp_path / "whole"))
    assert folders(tmp_path / "data") == [corpus.home]


@pytest.mark.parametrize(
    ("module", "function"),
    [(preparation, "_write_symbols"), (os, "fsync"), (atomic, "write_json"), (Path, "rename")],
)
def test_killed_while_writing(
    module: Any, function: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, function, die)
        kill_preparation(TextFile(text), "words", tmp_path / "data")
    corpus = prepare(TextFile(text), "words", tmp_path / "data")
    corpus.verify()
    assert content(corpus) == content(prepare(TextFile(text), "words", tmp_path / "whole"))
    assert folders(tmp_path / "data") == [corpus.home]


def test_a_waiting_process_takes_over_when_the_first_is_killed(text: Path, tmp_path: Path) -> None:
    sleeping = stopping_after(TextFile(text), 60, lambda: time.sleep(60))
    process = FORK.Process(target=prepare, args=(sleeping, "words", tmp_path / "data"))
    process.start()
    while not list((tmp_path).glob("data/*.partial-*")):
        time.sleep(0.01)
    killer = FORK.Process(target=lambda: (time.sleep(0.2), os.kill(process.pid, signal.SIGKILL)))
    killer.start()
    corpus = prepare(TextFile(text), "words", tmp_path / "data")
    assert folders(tmp_path / "data") == [corpus.home]
    process.join()
    killer.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_text_that_cannot_be_read_to_its_end_is_named(text: Path, tmp_path: Path) -> None:
    def fail() -> NoReturn:
        raise OSError(errno.EIO, "Input/output error", "/a/disk")

    with pytest.raises(SettingError, match=r"data\.source: cannot read /a/disk \(Input/output error\)"):
        prepare(stopping_after(TextFile(text), 60, fail), "words", tmp_path / "data")
    assert not folders(tmp_path / "data")
    prepare(TextFile(text), "words", tmp_path / "data")


def test_a_library_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "lost.py").symlink_to(tmp_path / "none")
    with pytest.raises(SettingError, match=rf"data\.source: cannot read {tmp_path / 'lost.py'} \(No such file"):
        prepare(PythonSource(tmp_path), "bytes", tmp_path / "data")


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"fine \xff")
    with pytest.raises(SettingError, match=r"data\.path: byte 5"):
        prepare(TextFile(path), "text8", tmp_path / "data")
    assert not folders(tmp_path / "data")


@pytest.mark.parametrize("symbols", SYSTEMS)
def test_a_longer_text_takes_no_more_memory(symbols: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_file, "PIECE_BYTES", 4096)
    monkeypatch.setattr(preparation, "CHUNK", 4096)

    def peak(size: int) -> int:
        path = tmp_path / f"{size}.txt"
        path.write_text("the quick brown fox " * (size // 20))
        tracemalloc.start()
        prepare(TextFile(path), symbols, tmp_path / "data")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100_000)  # what is imported and kept at the first use
    assert peak(2_000_000) < peak(200_000) + 200_000
