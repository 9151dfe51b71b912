"""Interrupted preparations: killed at any moment, they go on where they stopped, to the same corpus."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from diffmamba.data import corpus as corpora
from diffmamba.data import files, journal, preparation
from diffmamba.data.corpus import Corpus, prepare
from diffmamba.data.sources import Source, TextFile
from diffmamba.data.symbols import SYSTEMS
from tests.data.interrupted import die, dying_after, killed, watched

PIECE, SAVED_EVERY = 7, 70  # bytes
TEXT = "".join(f"Größe {i % 41} of a word{i}\n" + "\n" * (i % 3) for i in range(50))


class ThreeParts(Source):
    """Every third line of a file."""

    name = "thirds"
    parts = ("val", "test", "train")

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprint(self) -> str:
        return TextFile(self.path).fingerprint()

    def describe(self) -> dict[str, Any]:
        return {"origin": "a test"}

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        lines = self.path.read_text().splitlines(keepends=True)
        data = "".join(lines[self.parts.index(part) :: 3]).encode()
        for first in range(start * PIECE, len(data), PIECE):
            yield data[first : first + PIECE]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(journal, "SAVE_EVERY", SAVED_EVERY)
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return path


def content(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus.home.iterdir()}


@pytest.mark.parametrize("symbols", SYSTEMS)
@pytest.mark.parametrize("done", [0, 9, 11, 133])
@pytest.mark.parametrize("kind", [TextFile, ThreeParts])
def test_killed_while_encoding(
    kind: Callable[[Path], Source], done: int, symbols: str, text: Path, tmp_path: Path
) -> None:
    left = killed(dying_after(kind(text), done), symbols, tmp_path / "data")
    for name in ("provisional.bin", "learnt.txt"):  # as if the last write had been torn
        with (left / name).open("ab") as file:
            file.write(b"torn")
    whole, seen = watched(kind(text))
    assert content(prepare(whole, symbols, tmp_path / "whole")) == content(
        prepare((source := watched(kind(text)))[0], symbols, tmp_path / "data")
    )
    saved = done // 10 * 10  # pieces, ten of which make up what is saved at a time
    assert len(seen) > 140
    assert source[1] == seen[len(seen) - len(source[1]) :]
    assert saved <= len(seen) - len(source[1]) <= done
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_dir()] == [left.stem]


def clear_and_die(folder: Path) -> NoReturn:
    preparation.clear(folder)
    die()


@pytest.mark.parametrize(
    ("module", "function", "killing"),
    [(preparation, "_write_symbols", die), (corpora, "clear", die), (corpora, "clear", clear_and_die)],
)
def test_killed_after_encoding(
    module: Any, function: str, killing: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, function, killing)
        killed(TextFile(text), "words", tmp_path / "data")
    source, seen = watched(TextFile(text))
    corpus = prepare(source, "words", tmp_path / "data")
    assert not seen
    corpus.verify()
    assert content(corpus) == content(prepare(TextFile(text), "words", tmp_path / "whole"))


def test_killed_twice(text: Path, tmp_path: Path) -> None:
    for _ in range(2):
        killed(dying_after(TextFile(text), 60), "words", tmp_path / "data")
    source, seen = watched(TextFile(text))
    prepared = content(prepare(source, "words", tmp_path / "data"))
    assert prepared == content(prepare(TextFile(text), "words", tmp_path / "whole"))
    assert len(seen) <= len(text.read_bytes()) // PIECE + 1 - 120


@pytest.mark.parametrize("damage", ["{", "[]", '{"owner": {}, "position": {}, "state": {}}', None])
def test_a_journal_that_is_none_is_not_believed(damage: str | None, text: Path, tmp_path: Path) -> None:
    left = killed(dying_after(TextFile(text), 60), "words", tmp_path / "data")
    path = left / "journal.json"
    path.unlink() if damage is None else path.write_text(damage)
    prepared = content(prepare(TextFile(text), "words", tmp_path / "data"))
    assert prepared == content(prepare(TextFile(text), "words", tmp_path / "whole"))


def test_files_shorter_than_the_journal_says_are_not_believed(text: Path, tmp_path: Path) -> None:
    for name in ("provisional.bin", "learnt.txt"):
        left = killed(dying_after(TextFile(text), 60), "words", tmp_path / name)
        with (left / "provisional.bin").open("ab") as file:
            file.write(b"torn")
        os.truncate(left / name, 10)
        prepared = content(prepare(TextFile(text), "words", tmp_path / name))
        assert prepared == content(prepare(TextFile(text), "words", tmp_path / "whole"))


def test_the_journal_of_another_source_is_not_believed(text: Path, tmp_path: Path) -> None:
    """Two sources with the same fingerprint and another origin, as a published corpus from two folders."""

    class Elsewhere(ThreeParts):
        def describe(self) -> dict[str, Any]:
            return {"origin": "elsewhere"}

    killed(dying_after(ThreeParts(text), 60), "words", tmp_path / "data")
    source, seen = watched(Elsewhere(text))
    prepare(source, "words", tmp_path / "data")
    assert sum(map(len, seen)) == len(text.read_bytes())
