"""Published corpora from files: known answers, and that whatever is not the published corpus is refused by name."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffmamba.data import hub
from diffmamba.data.corpus import prepare
from diffmamba.data.published import PublishedFile, WikiText103
from diffmamba.errors import SettingError

CHARACTERS = "the quick brown fox jumps over the lazy dog and runs away far into the woods by a long river bank ab"
URL = "http://mirror/text8.zip"
SIZES = {"train": 90, "val": 5, "test": 5, "vocabulary": 27}
EXPECTED = SIZES | {"md5": hashlib.md5(CHARACTERS.encode()).hexdigest()}
PARTS = {
    "wiki.train.tokens": " \n = Some Title = \n \n the <unk> is the end \n the end \n",
    "wiki.valid.tokens": " \n the end is unseen \n",
    "wiki.test.tokens": " \n the title \n",
}
TOKENS = {"train": 5 + 11, "val": 2 + 4, "test": 2 + 2, "vocabulary": 8}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(hub, "download", refuse)
    monkeypatch.setattr(hub, "dataset", refuse)


def text8(path: Path, **expected: Any) -> PublishedFile:
    return PublishedFile("text8", URL, EXPECTED | expected, path)


def wikitext(path: Path, **expected: Any) -> WikiText103:
    return WikiText103(TOKENS | expected, path)


def laid_out(folder: Path, contents: dict[str, str]) -> Path:
    """The folder with these files; `NAME.zip/MEMBER` is a member of an archive in it."""
    for name, content in contents.items():
        path, (archive, zipped, member) = folder / name, name.partition(".zip/")
        if zipped:
            path = folder / f"{archive}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        if zipped:
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as opened:
                opened.writestr(member, content)
        else:
            path.write_text(content)
    return folder


def test_text8_is_found_in_its_folder_archive_or_by_itself(tmp_path: Path) -> None:
    plain = laid_out(tmp_path / "plain", {"text8": CHARACTERS, "renamed": CHARACTERS})
    zipped = laid_out(tmp_path / "zipped", {"text8.zip/text8": CHARACTERS}) / "text8.zip"
    places = [plain, plain / "text8", plain / "renamed", zipped.parent, zipped, shutil.copy(zipped, tmp_path / "e6e2")]
    for number, place in enumerate(places):
        corpus = prepare(text8(place), "text8", tmp_path / f"data{number}")
        assert corpus.sizes == {"train": 90, "val": 5, "test": 5}
        assert corpus.split("train").dtype == np.uint8
        assert "".join(corpus.vocabulary.decode(corpus.split(part)) for part in corpus.sizes) == CHARACTERS
        assert EXPECTED["md5"] in corpus.manifest["source"]["revision"]
        assert corpus.manifest["source"]["origin"].startswith(str(place))


NOT = r"data\.path: \S*text8 is not text8: it has "


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CHARACTERS[:-1], r"99 bytes where 100 .*http://mirror/text8\.zip"),
        (CHARACTERS + "a", "101 bytes where 100"),
        (CHARACTERS.upper(), r"another md5 than \w+"),
        ("", "0 bytes where 100"),
    ],
)
def test_a_file_that_is_not_text8_is_refused_before_it_is_encoded(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=NOT + words) as refusal:
        text8(laid_out(tmp_path, {"text8": content})).open()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "symbols", "expected", "words"),
    [
        ("  " + CHARACTERS[2:], "text8", SIZES, NOT + "89 symbols of train where 90"),
        (CHARACTERS, "bytes", SIZES | {"vocabulary": 205}, NOT + "27 different symbols where 205"),
        (CHARACTERS, "words", EXPECTED, r"data\.symbols, data\.expected: .*the published one.*data=text data\.path"),
    ],
)
def test_other_symbols_are_refused(content: str, symbols: str, expected: Any, words: str, tmp_path: Path) -> None:
    source = PublishedFile("text8", URL, expected, laid_out(tmp_path, {"text8": content}))
    with pytest.raises(SettingError, match=words):
        prepare(source, symbols, tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_broken_archives_are_named(tmp_path: Path) -> None:
    path = laid_out(tmp_path, {"text8.zip/text8": CHARACTERS}) / "text8.zip"
    whole = path.read_bytes()
    for content in (whole[:-30], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        path.write_bytes(content)
        with pytest.raises(SettingError, match=rf"data\.path: {path}.* truncated or corrupted .*get it again"):
            prepare(text8(path), "text8", tmp_path / "data")


RAW = {name.replace("tokens", "raw"): content for name, content in PARTS.items()}
RAW_WORDS = r"wiki\.valid\.tokens, .* \(and no wikitext-103-v1\.zip\).*wiki\.\w+\.raw is the raw form, without <unk>"


@pytest.mark.parametrize(
    ("source", "contents", "words"),
    [
        (text8, {}, rf"text8 \(and no text8\.zip\) in \S+; get {URL} .*data\.path=null"),
        (text8, {"text8.zip/enwik8": CHARACTERS}, r"text8 \(and no text8\.zip\)"),
        (wikitext, {}, r"wiki\.valid\.tokens, wiki\.test\.tokens, wiki\.train\.tokens "),
        (wikitext, {"wiki.test.tokens": "a\n"}, r"wiki\.valid\.tokens, wiki\.train\.tokens "),
        (wikitext, {f"wikitext-103-raw/{name}": content for name, content in RAW.items()}, RAW_WORDS),
        (wikitext, {f"wikitext-103-raw-v1.zip/{name}": content for name, content in RAW.items()}, RAW_WORDS),
    ],
)
def test_missing_files_are_named(source: Any, contents: dict[str, str], words: str, tmp_path: Path) -> None:
    """So is what lies there in their place. A path that is not there does not lead to files beside it."""
    with pytest.raises(SettingError, match=rf"data\.path: there is no {words}"):
        prepare(source(laid_out(tmp_path, contents)), "wikitext", tmp_path / "data")
    laid_out(tmp_path, PARTS | {"text8": CHARACTERS})
    with pytest.raises(SettingError, match=rf"data\.path: there is no .* in {tmp_path / 'none'}"):
        prepare(source(tmp_path / "none"), "wikitext", tmp_path / "data")


def test_wikitext_is_found_in_every_customary_place(tmp_path: Path) -> None:
    below = {f"wikitext-103/{name}": content for name, content in PARTS.items()}
    transformer_xl = zip(("train.txt", "valid.txt", "test.txt"), PARTS.values(), strict=True)
    plain, named = laid_out(tmp_path / "a", PARTS), laid_out(tmp_path / "b", below)
    other = laid_out(tmp_path / "c" / "wikitext-103", dict(transformer_xl))
    zipped = laid_out(tmp_path / "zip", {f"wikitext-103-v1.zip/{name}": content for name, content in below.items()})
    places = [plain, plain / "wiki.train.tokens", named, other, other.parent, zipped, zipped / "wikitext-103-v1.zip"]
    for number, place in enumerate(places):
        corpus = prepare(wikitext(place), "wikitext", tmp_path / f"data{number}")
        assert corpus.sizes == {"train": 16, "val": 6, "test": 4}
        assert corpus.vocabulary.decode(corpus.split("val")) == "\nthe end is <unk>\n"
        assert corpus.vocabulary.decode(corpus.split("test")) == "\nthe <unk>\n"
        assert corpus.vocabulary.symbols[:2] == ["<eos>", "the"]


@pytest.mark.parametrize(
    ("expected", "words", "read"),
    [
        ({"val": 7}, r"6 symbols of val where 7", ["val"]),
        ({"test": 3}, r"4 symbols of test where 3", ["val", "test"]),
        ({"train": 18}, r"16 symbols of train where 18", ["val", "test", "train"]),
        ({"vocabulary": 7}, r"8 different symbols where 7", ["val", "test", "train"]),
    ],
)
def test_wikitext_that_is_not_wikitext_is_refused_as_soon_as_it_shows(
    expected: dict[str, int], words: str, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = wikitext(laid_out(tmp_path, PARTS), **expected)
    text, seen = source.open(), []

    def watched(part: str) -> Iterator[bytes]:
        seen.append(part)
        return text.parts[part]()

    parts = {part: lambda part=part: watched(part) for part in text.parts}
    monkeypatch.setattr(source, "open", lambda: replace(text, parts=parts))
    with pytest.raises(SettingError, match=rf"data\.path: {tmp_path} is not wikitext103: .*{words}.*data\.symbols"):
        prepare(source, "wikitext", tmp_path / "data")
    assert seen == read


def test_a_prepared_corpus_opens_without_its_files(tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "raw", PARTS | {"text8": CHARACTERS})
    prepared = [prepare(text8(folder), "text8", tmp_path), prepare(wikitext(folder), "wikitext", tmp_path)]
    shutil.rmtree(folder)
    opened = [
        prepare(PublishedFile("text8", "http://other", EXPECTED), "text8", tmp_path),
        prepare(WikiText103(dict(reversed(TOKENS.items())), repository="other"), "wikitext", tmp_path),
    ]
    assert [corpus.fingerprint for corpus in opened] == [corpus.fingerprint for corpus in prepared]


@pytest.mark.parametrize("key", EXPECTED)
def test_other_expectations_are_another_corpus_and_only_the_md5_may_be_missing(key: str) -> None:
    assert text8(Path("x"), **{key: 1}).fingerprint() != text8(Path("x")).fingerprint()
    if key != "md5":
        with pytest.raises(SettingError, match=rf"data\.expected: {key} must be given"):
            text8(Path("x"), **{key: None}).fingerprint()
