"""Prepared corpora: splits, identity, choices, several processes at once, and damage."""

import json
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest

from diffmamba.data import corpus as corpora
from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.preparation import split_offsets
from diffmamba.data.sources import TextFile
from diffmamba.errors import SettingError

FORK = multiprocessing.get_context("fork")


class Slow(TextFile):
    """Leaves a line beside the file whenever it is read for preparation, then takes its time."""

    def pieces(self, part: str) -> Iterator[bytes]:
        with self.path.with_suffix(".log").open("a") as log:
            log.write("read\n")
        time.sleep(0.3)
        yield from super().pieces(part)


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


def test_changed_array_is_found_by_verify(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    corpus.verify()
    content = bytearray((corpus.home / "symbols.bin").read_bytes())
    content[50] ^= 1
    (corpus.home / "symbols.bin").write_bytes(content)
    with pytest.raises(SettingError, match=f"delete {corpus.home}"):
        Corpus(corpus.home).verify()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, r"manifest\.json is missing"),
        ("{", r"manifest\.json is missing or cut short"),
        ("[]", r"manifest\.json is not of this version"),
        ({"format": 0}, r"manifest\.json is not of this version"),
        ({"splits": {"train": [0, 90], "val": [90, 94], "test": [95, 100]}}, r"the splits in manifest\.json"),
        ({"count": 99}, r"symbols\.bin is missing or has the wrong size"),
    ],
)
def test_damage_is_named(text: Path, tmp_path: Path, manifest: str | dict | None, words: str) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    path = corpus.home / "manifest.json"
    if manifest is None:
        path.unlink()
    else:
        path.write_text(manifest if isinstance(manifest, str) else json.dumps(corpus.manifest | manifest))
    for opening in (lambda: Corpus(corpus.home), lambda: prepare(TextFile(text), "text8", tmp_path / "data")):
        with pytest.raises(SettingError, match=rf"data\.directory: {words}.*delete {corpus.home}"):
            opening()


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


def test_a_choice_touches_no_file_and_is_prepared_once(text: Path, tmp_path: Path) -> None:
    CorpusChoice(TextFile(tmp_path / "none"), "words", tmp_path / "nowhere")
    choice, same = (CorpusChoice(Slow(text), "bytes", str(tmp_path / "data")) for _ in range(2))
    assert choice == same
    assert not (tmp_path / "data").exists()
    corpus = choice.prepare()
    assert same.prepare() is corpus
    text.write_text("something else")
    assert choice.prepare() is corpus
    CorpusChoice.forget()
    assert choice.prepare().fingerprint != corpus.fingerprint


def test_choices_are_told_apart_by_text_and_symbols(text: Path, tmp_path: Path) -> None:
    choices = [CorpusChoice(TextFile(text), symbols, directory) for symbols in ("bytes", "words") for directory in "ab"]
    choices.append(CorpusChoice(TextFile(tmp_path / "other"), "bytes", "a"))
    assert len(set(choices)) == 5
    assert choices[0].describe() == {"symbols": "bytes", "source": "TextFile", "path": str(text)}
    assert len({json.dumps(choice.describe()) for choice in choices}) == 3  # where it is kept makes no difference
