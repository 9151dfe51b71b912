"""Prepared corpora: splits, identity, choices, damage, and what cannot be prepared."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from diffmamba.data import LanguageModellingData
from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.preparation import split_offsets
from diffmamba.data.published import PublishedFile, WikiText103
from diffmamba.data.sources import PythonSource, RawText, TextFile
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


SPOILT = {"no manifest": None, "cut": "{", "a list": "[]", "other format": {"format": 0}, "other count": {"count": 99}}
SPOILT |= {"no symbols": {"vocabulary": None}, "two splits": {"splits": {"train": [0, 90], "val": [90, 100]}}}
SPOILT["a gap"] = {"splits": {"train": [0, 90], "val": [90, 94], "test": [95, 100]}}


def spoil(home: Path, how: str) -> None:
    """Damages a prepared corpus: its manifest, its integers or the whole folder."""
    manifest = home / "manifest.json"
    if how == "cut integers":
        os.truncate(home / "symbols.bin", 99)
    elif how == "other integers":
        (home / "symbols.bin").write_bytes(bytes(100))
    elif how in ("a foreign file", "an empty folder"):
        shutil.rmtree(home)
        home.write_text("mine") if how == "a foreign file" else home.mkdir()
    elif SPOILT[how] is None:
        manifest.unlink()
    elif isinstance(changed := SPOILT[how], dict):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changed))
    else:
        manifest.write_text(str(changed))


@pytest.mark.parametrize("how", [*SPOILT, "cut integers", "other integers", "a foreign file", "an empty folder"])
def test_what_is_damaged_is_prepared_anew_and_kept_beside_it(
    how: str, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    for number in (1, 2):
        spoil(corpus.home, how)
        damaged = {path.name for path in corpus.home.iterdir()} if corpus.home.is_dir() else corpus.home.read_bytes()
        if how == "other integers":
            assert not Corpus(corpus.home).is_whole()
        else:
            with pytest.raises(SettingError, match=rf"data\.directory: .*{corpus.home} is damaged"):
                Corpus(corpus.home)
        again = prepare(TextFile(text), "text8", tmp_path / "data")
        assert (again.home, again.fingerprint) == (corpus.home, corpus.fingerprint)
        kept = corpus.home.with_name(f"{corpus.home.name}.damaged-{number}")
        assert damaged == ({path.name for path in kept.iterdir()} if kept.is_dir() else kept.read_bytes())
        (line,) = capfd.readouterr().err.splitlines()
        assert line == f"{corpus.home} is damaged; book is prepared anew, and {kept.name} keeps what is there"
    assert prepare(TextFile(text), "text8", tmp_path / "data").fingerprint == corpus.fingerprint
    assert capfd.readouterr().err == ""


def test_what_is_damaged_stays_where_its_text_is_gone(text: Path, tmp_path: Path) -> None:
    """A published corpus is known without its text: the error names the text, and nothing is moved or lost."""
    published = PublishedFile("book", "http://localhost", {"train": 90, "val": 5, "test": 5, "vocabulary": 27}, text)
    corpus = prepare(published, "text8", tmp_path / "data")
    spoil(corpus.home, "cut")
    text.unlink()
    with pytest.raises(SettingError, match=rf"data\.path: there is no book .* in {text}"):
        prepare(published, "text8", tmp_path / "data")
    assert [path for path in corpus.home.parent.iterdir() if path.is_dir()] == [corpus.home]
    assert (corpus.home / "manifest.json").read_text() == "{"


def test_a_prepared_corpus_opens_where_nothing_can_be_written(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    for lock in corpus.home.parent.glob("*.lock"):
        lock.unlink()

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        patch.setattr(FileLock, "acquire", refused)
        assert prepare(TextFile(text), "text8", tmp_path / "data").fingerprint == corpus.fingerprint
        with pytest.raises(SettingError, match=r"data\.directory: cannot write .*Read-only.* a folder that you can"):
            prepare(TextFile(text), "bytes", tmp_path / "data")


def test_a_disk_without_locks_is_used_without_them(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that prepare at once the first is taken, and neither deletes what the other one writes."""

    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    class Twice(TextFile):
        def open(self) -> RawText:
            if not (inner := list((tmp_path / "data").glob("book-*[0-9a-f]"))):
                inner.append(prepare(TextFile(self.path), "text8", tmp_path / "data").home)
            return super().open()

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    corpus = prepare(Twice(text), "text8", tmp_path / "data")
    assert corpus.vocabulary.decode(corpus.split("test")) == "pqrst"
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == [corpus.home]


def test_a_text_that_changes_while_it_is_prepared_is_refused(text: Path, tmp_path: Path) -> None:
    """Else the integers of one text would stand under the name of another, for good."""

    class Growing(TextFile):
        def open(self) -> RawText:
            self.file.write_text("quite another text")
            return super().open()

    with pytest.raises(SettingError, match=r"data\.path: \S+book\.txt changed while it was prepared"):
        prepare(Growing(text), "text8", tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    assert sum(corpus.sizes.values()) == len("quite another text")


def test_a_full_disk_is_told_and_leaves_nothing(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingError, match=r"data\.directory: cannot write in .*data \(No space left on device\)"):
        prepare(TextFile(text), "text8", tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_a_prepared_corpus_is_found_by_its_content_without_its_text(text: Path, tmp_path: Path) -> None:
    choice = CorpusChoice(TextFile(text), "words", tmp_path / "data")
    corpus = choice.prepare()
    text.unlink()
    found = choice.find(corpus.fingerprint)
    assert found is not None
    assert found.home == corpus.home
    assert choice.find("another") is None
    assert CorpusChoice(TextFile(text), "words", tmp_path / "nowhere").find(corpus.fingerprint) is None
    spoil(corpus.home, "cut")
    assert choice.find(corpus.fingerprint) is None


def test_words_that_another_vocabulary_lacks_are_its_unknown(text: Path, tmp_path: Path) -> None:
    text.write_text("the cat and the dog saw a cat\n" * 5)
    known = prepare(TextFile(text), "words", tmp_path / "data").vocabulary
    (tmp_path / "other.txt").write_text("the cow and the cat\n" * 50)
    other = TextFile(tmp_path / "other.txt")
    own, corpus = prepare(other, "words", tmp_path / "data"), prepare(other, "words", tmp_path / "data", known)
    assert corpus.vocabulary.symbols == known.symbols
    assert own.vocabulary.decode(own.split("val")[:6]) == "the cow and the cat\n"
    assert corpus.vocabulary.decode(corpus.split("val")[:6]) == "the <unk> and the cat\n"
    assert corpus.sizes == own.sizes == {"train": 270, "val": 15, "test": 15}
    assert corpus.unknown == {"train": 45, "val": 3, "test": 2}
    assert own.unknown == {"train": 0, "val": 0, "test": 0}
    assert (own.own_vocabulary, corpus.own_vocabulary) == (True, False)
    assert own.home != corpus.home
    again = prepare(other, "words", tmp_path / "data", own.vocabulary)
    assert again.fingerprint == own.fingerprint  # the content decides, not how it was asked for
    assert CorpusChoice(other, "words", tmp_path / "data").find(corpus.fingerprint) is None  # no run was trained on it


def test_a_byte_that_another_vocabulary_lacks_is_named_and_counted(text: Path, tmp_path: Path) -> None:
    known = prepare(TextFile(text), "bytes", tmp_path / "data").vocabulary
    (tmp_path / "other.txt").write_text("tab " * 20)
    other = TextFile(tmp_path / "other.txt")
    with pytest.raises(SettingError, match=r"the byte 32 \(b' ', 20 times\) is none of the 20 symbols"):
        prepare(other, "bytes", tmp_path / "data", known)
    (tmp_path / "other.txt").write_text("tab" * 20)
    corpus = prepare(other, "bytes", tmp_path / "data", known)
    assert corpus.vocabulary.symbols == known.symbols
    assert corpus.vocabulary.decode(corpus.split("train")[:6]) == "tabtab"
    assert corpus.unknown is None


def test_text8_has_one_vocabulary(text: Path, tmp_path: Path) -> None:
    own = prepare(TextFile(text), "text8", tmp_path / "data")
    assert prepare(TextFile(text), "text8", tmp_path / "data", own.vocabulary).fingerprint == own.fingerprint


def test_all_splits_are_one_sequence_in_this_order(text: Path, tmp_path: Path) -> None:
    corpus = prepare(TextFile(text), "text8", tmp_path / "data")
    assert corpus.vocabulary.decode(corpus.split("all")) == text.read_text()
    for name, words in {"valid": "b b", "test": "c", "train": "a b c"}.items():  # read in this order
        (tmp_path / f"wiki.{name}.tokens").write_text(f"{words}\n")
    expected = {"train": 4, "val": 3, "test": 2, "vocabulary": 5}
    corpus = prepare(WikiText103(expected, tmp_path), "wikitext", tmp_path / "data")
    assert corpus.vocabulary.decode(corpus.split("all")) == "a b c\nb b\nc\n"


@pytest.mark.parametrize(
    "name", ["2024", "a=b.txt", "é (1).txt", "a b", "~nobody-here.txt", "true", "1e3", "null", "{x}", "'q'", "n" * 200]
)
def test_any_name_of_a_file_is_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("some text " * 9)
    source = TextFile(name)
    corpus = prepare(source, "text8", "data")
    assert corpus.home.parent == tmp_path / "data"
    assert corpus.manifest["source"]["origin"] == str(tmp_path / name)
    if name == "2024":  # as YAML reads it, in a file of settings or a grid
        assert TextFile(2024) == source


def test_a_path_that_yaml_reads_as_another_thing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (1e3, True, None, ""):
        with pytest.raises(SettingError, match=r"data\.path=.* is no text for YAML; write data\.path=\./NAME"):
            TextFile(value)  # type: ignore[arg-type]
    Path("text.txt").write_text("some text " * 9)
    with pytest.raises(SettingError, match=r"data\.directory=True is no text"):
        prepare(TextFile("text.txt"), "text8", True)
    assert prepare(TextFile("text.txt"), "text8", 2024).home.parent == tmp_path / "2024"


def test_null_as_it_is_typed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line takes a path as it is written, and a message of ours advises `data.path=null`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("some text " * 9)
    assert WikiText103({}, "null").place is PublishedFile("text8", "", {}, "null").place is None
    assert prepare(TextFile("text.txt"), "text8", "null").home.parent == tmp_path / "cache" / "diffmamba"


@pytest.mark.parametrize("content", [b"", b"a", b"aaaa", b"a\0b\0" * 9, b"\0"])
def test_the_shortest_texts_are_prepared_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    if not content:
        with pytest.raises(SettingError, match=r"data\.path: .* is empty"):
            prepare(TextFile(path), "bytes", tmp_path / "data")
        return
    corpus = prepare(TextFile(path), "bytes", tmp_path / "data")
    assert bytes(corpus.vocabulary.symbols[i] for i in corpus.split("all")) == content
    data = LanguageModellingData(corpus=corpus, batch_size=2, length=4, eval_batch_size=1)
    if len(content) < 20:
        with pytest.raises(SettingError, match="give a longer text"):
            data.check(1)


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


def test_a_pipe_is_refused_at_once(text: Path, tmp_path: Path) -> None:
    """It could be read only once, or would never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SettingError, match=rf"data\.path: {path} is a pipe or a device"):
            prepare(TextFile(path), "text8", tmp_path / "data")


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
