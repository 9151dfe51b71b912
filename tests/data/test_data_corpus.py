"""Prepared corpora: splits, identity, and what survives races and damage."""

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest

from diffmamba.data import corpus as corpora
from diffmamba.data.corpus import Corpus, prepare
from diffmamba.data.preparation import split_offsets
from diffmamba.data.sources import TextFile
from diffmamba.errors import SettingError

FORK = multiprocessing.get_context("fork")


class Slow(TextFile):
    """Leaves a line beside the file whenever it is read for preparation, then takes its time."""

    def pieces(self, part: str, start: int = 0) -> Iterator[bytes]:
        with self.file.path.with_suffix(".log").open("a") as log:
            log.write("read\n")
        time.sleep(0.3)
        yield from super().pieces(part, start)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("abcdefghijklmnopqrst" * 5)
    return path


def prepare_and_tell(source: TextFile, directory: Path, told: "Queue[str]") -> None:
    told.put(prepare(source, "text8", directory).fingerprint)


def test_splits_go_by_position(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    assert corpus.name == "book"
    assert corpus.sizes == {"train": 90, "val": 5, "test": 5}
    assert corpus.vocabulary.decode(corpus.split("val")) == "klmno"
    assert corpus.vocabulary.decode(corpus.split("test")) == "pqrst"
    assert not corpus.split("train").flags.writeable


@pytest.mark.parametrize(("count", "sizes"), [(100_000_000, (90_000_000, 5_000_000, 5_000_000)), (227, (204, 11, 12))])
def test_split_sizes(count: int, sizes: tuple[int, ...]) -> None:
    assert tuple(end - start for start, end in split_offsets(count).values()) == sizes


def test_smallest_integer_type(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(" ".join(f"w{i}" for i in range(400)))
    corpus = prepare(TextFile(path), "words", tmp_path / "data")
    assert corpus.split("train").dtype == np.uint16
    assert corpus.vocabulary.size == 360 + 2
    assert corpus.vocabulary.decode(corpus.split("val")[:1]) == "<unk>"


def test_prepared_once_and_told_apart_by_content_and_symbols(text: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    source = Slow(text)
    first = prepare(source, "text8", directory)
    assert prepare(source, "text8", directory).fingerprint == first.fingerprint
    assert text.with_suffix(".log").read_text() == "read\n"
    as_bytes = prepare(source, "bytes", directory)
    text.write_text("something else")
    changed = prepare(source, "text8", directory)
    assert len({first.home, as_bytes.home, changed.home}) == 3
    assert len({first.fingerprint, as_bytes.fingerprint, changed.fingerprint}) == 3


def test_manifest_tells_the_origin(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "bytes", tmp_path / "data")
    assert corpus.manifest["source"] == {"origin": str(text), "revision": "100 bytes"}
    assert corpus.manifest["raw_fingerprint"] == TextFile(text).fingerprint()
    assert sorted(path.name for path in corpus.home.iterdir()) == ["manifest.json", "symbols.bin"]


def test_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"fine \xff")
    with pytest.raises(SettingError, match=r"data\.path: byte 5"):
        prepare(TextFile(path), "text8", tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_two_processes_at_once_prepare_once(text: Path, tmp_path: Path) -> None:
    told: Queue[str] = FORK.Queue()
    processes = [FORK.Process(target=prepare_and_tell, args=(Slow(text), tmp_path / "data", told)) for _ in range(2)]
    for process in processes:
        process.start()
    fingerprints = {told.get(timeout=20) for _ in processes}
    for process in processes:
        process.join()
    assert len(fingerprints) == 1
    assert text.with_suffix(".log").read_text() == "read\n"


def test_waiting_for_another_process_is_said(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpora, "PATIENCE", 0.05)
    directory = tmp_path / "data"
    process = FORK.Process(target=prepare_and_tell, args=(Slow(text), directory, FORK.Queue()))
    process.start()
    while not text.with_suffix(".log").exists():
        time.sleep(0.01)
    prepare(TextFile(text), "text8", directory)
    process.join()
    assert capsys.readouterr().err == "another process is preparing book; waiting\n"
    prepare(TextFile(text), "text8", directory)
    assert capsys.readouterr().err == ""


def test_truncated_array_is_named(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    os.truncate(corpus.home / "symbols.bin", 99)
    with pytest.raises(SettingError, match=rf"symbols\.bin.*delete {corpus.home}"):
        prepare(TextFile(text), "text8", tmp_path / "data")


def test_changed_array_is_found_by_verify(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    corpus.verify()
    content = bytearray((corpus.home / "symbols.bin").read_bytes())
    content[50] ^= 1
    (corpus.home / "symbols.bin").write_bytes(content)
    with pytest.raises(SettingError, match=f"delete {corpus.home}"):
        Corpus(corpus.home).verify()


def test_splits_that_do_not_add_up_are_named(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    splits = corpus.manifest["splits"] | {"val": [90, 94]}
    (corpus.home / "manifest.json").write_text(json.dumps(corpus.manifest | {"splits": splits}))
    with pytest.raises(SettingError, match=rf"splits in manifest\.json.*delete {corpus.home}"):
        Corpus(corpus.home)


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"format": 0})])
def test_damaged_manifest_is_named(text: Path, tmp_path: Path, content: str | None) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    manifest = corpus.home / "manifest.json"
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(SettingError, match=rf"manifest\.json.*delete {corpus.home}"):
        Corpus(corpus.home)


def test_directory_that_cannot_be_written(text: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.directory: cannot write"):
        prepare(TextFile(text), "text8", text / "below a file")


def test_text_without_symbols(tmp_path: Path) -> None:
    path = tmp_path / "blank.txt"
    path.write_text(" \n \n")
    with pytest.raises(SettingError, match=r"data\.path.*no symbols"):
        prepare(TextFile(path), "words", tmp_path / "data")


def test_unknown_symbols_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.symbols"):
        prepare(TextFile(tmp_path / "none"), "letters", tmp_path / "data")
