"""Preparations by several processes: killed at any moment, they leave nothing that looks finished."""

import errno
import multiprocessing
import os
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NoReturn

import pytest

from diffmamba import atomic
from diffmamba.data import corpus as corpora
from diffmamba.data import files, preparation
from diffmamba.data.corpus import Corpus
from diffmamba.data.sources import RawText, TextFile
from diffmamba.data.symbols import SYSTEMS
from diffmamba.data.tokens import Tokenizer
from diffmamba.errors import SettingError

FORK = multiprocessing.get_context("fork")
TEXT = "".join(f"Größe {i % 41} of a word{i}\n" + "\n" * (i % 3) for i in range(50))


def prepare(source: TextFile, symbols: str, directory: Path) -> Corpus:
    """The corpus, with a tokenizer where there must be one."""
    return corpora.prepare(source, symbols, directory, tokenizer=Tokenizer(size=270) if symbols == "tokens" else None)


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass(unsafe_hash=True)
class Stopping(TextFile):
    """A text in pieces of 7 bytes, in one part or in three. Asked for one piece more than `count` it does `stop`."""

    names: tuple[str, ...] = ("text",)
    count: int = 10**9
    stop: Callable[[], object] = die

    def open(self) -> RawText:
        with self.path.with_suffix(".log").open("a") as log:
            log.write("read\n")
        left = iter(range(self.count))
        parts = {name: partial(self.third, i, left) for i, name in enumerate(self.names)}
        return replace(super().open(), parts=parts)

    def third(self, part: int, left: Iterator[int]) -> Iterator[bytes]:
        data = b"".join(self.path.read_bytes().splitlines(keepends=True)[part :: len(self.names)])
        for start, end in pairwise([*range(0, len(data), 7), len(data)]):
            if next(left, None) is None:
                self.stop()
            yield data[start:end]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return path


def started(source: TextFile, symbols: str, directory: Path, told: "Queue[str] | None" = None) -> Any:
    def work() -> None:
        fingerprint = prepare(source, symbols, directory).fingerprint
        if told is not None:
            told.put(fingerprint)

    process = FORK.Process(target=work)
    process.start()
    return process


def folders(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()]


def kill_preparation(source: TextFile, symbols: str, directory: Path) -> None:
    """Prepares in a process that kills itself; checks that what it leaves does not look finished."""
    process = started(source, symbols, directory)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = folders(directory)
    assert ".partial-" in left.name


def check_as_if_nothing_had_happened(source: TextFile, symbols: str, folder: Path) -> None:
    """After kills, the corpus in `folder/data` is the one that is prepared at once, and nothing else is left."""
    corpus, whole = (prepare(source, symbols, folder / name) for name in ("data", "whole"))
    for name in ("symbols.bin", "manifest.json"):
        assert (corpus.home / name).read_bytes() == (whole.home / name).read_bytes()
    assert folders(folder / "data") == [corpus.home]


THREE = ("val", "test", "train")


@pytest.mark.parametrize(("names", "symbols"), [*((("text",), name) for name in SYSTEMS), (THREE, "words")])
def test_killed_while_reading(names: tuple[str, ...], symbols: str, text: Path, tmp_path: Path) -> None:
    for pieces in (0, 60):  # killed twice
        kill_preparation(Stopping(text, names, pieces), symbols, tmp_path / "data")
    check_as_if_nothing_had_happened(Stopping(text, names), symbols, tmp_path)


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
    check_as_if_nothing_had_happened(TextFile(text), "words", tmp_path)


def test_two_processes_at_once_prepare_once(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second says that it waits."""
    monkeypatch.setattr(corpora, "PATIENCE", 0.05)
    told: Queue[str] = FORK.Queue()
    source = Stopping(text, count=60, stop=lambda: time.sleep(0.004))
    processes = [started(source, "words", tmp_path / "data", told) for _ in range(2)]
    fingerprints = {told.get(timeout=20) for _ in processes}
    for process in processes:
        process.join()
    assert len(fingerprints) == 1
    assert capfd.readouterr().err == "another process is preparing book; waiting\n"
    assert prepare(source, "words", tmp_path / "data").fingerprint in fingerprints
    assert capfd.readouterr().err == ""
    assert text.with_suffix(".log").read_text() == "read\n"


def test_a_text_that_cannot_be_read_to_its_end_is_named(text: Path, tmp_path: Path) -> None:
    def fail() -> NoReturn:
        raise OSError(errno.EIO, "Input/output error", "/a/disk")

    with pytest.raises(SettingError, match=r"data\.path, data\.source: cannot read /a/disk \(Input/output error\)"):
        prepare(Stopping(text, count=60, stop=fail), "words", tmp_path / "data")
    assert not folders(tmp_path / "data")


def test_a_waiting_process_takes_over_when_the_first_is_killed(text: Path, tmp_path: Path) -> None:
    first = started(Stopping(text, count=60, stop=lambda: time.sleep(60)), "words", tmp_path / "data")
    while not list(tmp_path.glob("data/*.partial-*")):
        time.sleep(0.01)
    second = started(TextFile(text), "words", tmp_path / "data")
    time.sleep(0.2)
    first.kill()
    second.join()
    assert second.exitcode == 0
    check_as_if_nothing_had_happened(TextFile(text), "words", tmp_path)


@pytest.mark.parametrize("symbols", SYSTEMS)
def test_a_longer_text_takes_no_more_memory(symbols: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE_BYTES", 4096)
    monkeypatch.setattr(preparation, "CHUNK", 4096)

    def peak(size: int) -> int:
        path = tmp_path / f"{size}.txt"
        path.write_text("the quick brown fox " * (size // 20))
        tracemalloc.start()
        prepare(TextFile(path), symbols, tmp_path / "data")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10_000)  # what is imported and kept at the first use
    assert peak(1_000_000) < peak(100_000) + 100_000
