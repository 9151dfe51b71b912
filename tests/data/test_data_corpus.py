"""Prepared corpora: splits, identity, choices, damage, and what cannot be prepared."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.preparation import split_offsets
from diffmamba.data.sources import PythonSource, TextFile
from diffmamba.errors import SettingError


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("abcdefghijklmnopqrst" * 5)
    return path


def test_splits_go_by_position(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    assert corpus.name == "book"
    assert corpus.sizes == {"train": 90, "val": 5, "test": 5}
    assert corpus.vocabulary.decode(corpus.split("val")) == "klmno"
    assert corpus.vocabulary.decode(corpus.split("test")) == "pqrst"
    assert not corpus.split("train").flags.writeable
    assert corpus.manifest["source"] == {"origin": str(text), "revision": "100 bytes"}
    assert sorted(path.name for path in corpus.home.iterdir()) == ["manifest.json", "symbols.bin"]


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


def test_prepared_corpora_of_users_stay_valid(text: Path, tmp_path: Path) -> None:
    """The folder's name and the content are those of the first version."""
    corpus = prepare(TextFile(text), "words", tmp_path)
    assert (corpus.home.name, corpus.fingerprint) == ("book-ba2a78753ff8", "441f9ac4c6ba4e73")


def test_told_apart_by_content_and_symbols(text: Path, tmp_path: Path) -> None:
    corpora = [prepare(TextFile(text), symbols, tmp_path / "data") for symbols in ("text8", "bytes")]
    text.write_text("something else")
    corpora.append(prepare(TextFile(text), "text8", tmp_path / "data"))
    assert len({corpus.home for corpus in corpora}) == len({corpus.fingerprint for corpus in corpora}) == 3


@pytest.mark.parametrize(
    "manifest",
    [None, "{", "[]", {"format": 0}, {"splits": {"train": [0, 90], "val": [90, 94], "test": [95, 100]}}, {"count": 99}],
)
def test_damage_names_the_folder_to_delete(text: Path, tmp_path: Path, manifest: str | dict | None) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    path = corpus.home / "manifest.json"
    if manifest is None:
        path.unlink()
    else:
        path.write_text(manifest if isinstance(manifest, str) else json.dumps(corpus.manifest | manifest))
    for opening in (lambda: Corpus(corpus.home), lambda: prepare(TextFile(text), "text8", tmp_path / "data")):
        with pytest.raises(SettingError, match=rf"data\.directory: .* damaged .*delete {corpus.home}"):
            opening()


@pytest.mark.parametrize(
    ("content", "symbols", "words"),
    [
        (None, "text8", r"data\.path, .* there is no file \S+book\.txt"),
        (b"", "bytes", r"data\.path: \S+book\.txt is empty"),
        (b" \n \n", "words", r"data\.path: \S+book\.txt is empty or has only white space"),
        (b"fine \xff", "text8", r"data\.path: byte 5"),
        (
            None,
            "letters",
            r"data\.symbols.*'letters'.*text8, bytes, words, wikitext",
        ),  # refused before anything is read
    ],
)
def test_a_text_that_cannot_be_prepared_leaves_nothing(
    content: bytes | None, symbols: str, words: str, text: Path, tmp_path: Path
) -> None:
    text.unlink()
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(SettingError, match=words):
        prepare(TextFile(text), symbols, tmp_path / "data")
    assert not [path for path in tmp_path.glob("data/*") if path.is_dir()]


def test_what_cannot_be_read_or_written_is_named(text: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.directory: cannot write"):
        prepare(TextFile(text), "text8", text / "below a file")
    with pytest.raises(SettingError, match=rf"cannot read {tmp_path} \(Is a directory\)"):
        prepare(TextFile(tmp_path), "words", tmp_path / "data")
    (tmp_path / "lost.py").symlink_to(tmp_path / "none")
    with pytest.raises(SettingError, match=rf"data\.source: there is no file {tmp_path / 'lost.py'}"):
        prepare(PythonSource(tmp_path), "bytes", tmp_path / "data")


def test_a_choice_touches_no_file_and_is_prepared_once(text: Path, tmp_path: Path) -> None:
    CorpusChoice(TextFile(tmp_path / "none"), "words", tmp_path / "nowhere")
    choice, same = (CorpusChoice(TextFile(text), "bytes", str(tmp_path / "data")) for _ in range(2))
    assert choice == same
    assert not (tmp_path / "data").exists()
    corpus = choice.prepare()
    text.write_text("something else")
    assert choice.prepare() is same.prepare() is corpus
    CorpusChoice.forget()
    assert choice.prepare().fingerprint != corpus.fingerprint


def test_choices_are_told_apart_by_text_and_symbols(text: Path, tmp_path: Path) -> None:
    choices = [CorpusChoice(TextFile(text), symbols, directory) for symbols in ("bytes", "words") for directory in "ab"]
    choices.append(CorpusChoice(TextFile(tmp_path / "other"), "bytes", "a"))
    assert len(set(choices)) == 5
    assert choices[0].describe() == {"symbols": "bytes", "source": "TextFile", "path": str(text)}
    assert len({json.dumps(choice.describe()) for choice in choices}) == 3  # where it is kept makes no difference
