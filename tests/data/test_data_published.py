"""Published corpora from files: known answers, and that whatever is not the published corpus is refused by name."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffmamba.data import hub
from diffmamba.data.corpus import prepare
from diffmamba.data.published import PublishedFile
from diffmamba.data.wikitext import WikiText103
from diffmamba.errors import SettingError

CHARACTERS = b"the quick brown fox jumps over the lazy dog and runs away far into the woods by a long river bank ab"
URL = "http://mirror/text8.zip"
EXPECTED = {"train": 90, "val": 5, "test": 5, "vocabulary": 27, "md5": hashlib.md5(CHARACTERS).hexdigest()}

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


def archive(path: Path, contents: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in contents.items():
            zipped.writestr(name, content)
    return path


def unpacked(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_text8_is_found_in_its_folder_archive_or_by_itself(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "text8").write_bytes(CHARACTERS)
    (tmp_path / "zipped").mkdir()
    zipped = archive(tmp_path / "zipped" / "text8.zip", {"text8": CHARACTERS})
    renamed = shutil.copy(zipped, tmp_path / "e6e2e369")
    places = [tmp_path / "plain", tmp_path / "plain" / "text8", tmp_path / "zipped", zipped, renamed]
    for number, place in enumerate(places):
        corpus = prepare(text8(place), "text8", tmp_path / f"data{number}")
        assert corpus.sizes == {"train": 90, "val": 5, "test": 5}
        assert corpus.split("train").dtype == np.uint8
        assert "".join(corpus.vocabulary.decode(corpus.split(part)) for part in corpus.sizes).encode() == CHARACTERS
        assert corpus.manifest["source"]["revision"] == f"md5 {EXPECTED['md5']}"
        assert corpus.manifest["source"]["url"] == URL
        assert corpus.manifest["source"]["expected"] == EXPECTED


def test_enwik8_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "enwik8").write_bytes(bytes(range(200)))
    expected = {"train": 180, "val": 10, "test": 10, "vocabulary": 200}
    corpus = prepare(PublishedFile("enwik8", URL, expected, tmp_path), "bytes", tmp_path / "data")
    assert corpus.split("test").tolist() == list(range(190, 200))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CHARACTERS[:-1], r"data\.path: \S*text8 is truncated: it has 99 bytes where 100 .*http://mirror/text8\.zip"),
        (CHARACTERS + b"a", r"text8 is another text: it has 101 bytes where 100"),
        (CHARACTERS.upper(), r"text8 is another text or corrupted: it has the md5 \w+ where md5 \w+ is expected"),
        (b"", r"text8 is empty"),
    ],
)
def test_text8_that_is_not_text8(content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is encoded."""
    monkeypatch.setattr(PublishedFile, "pieces", None)
    (tmp_path / "text8").write_bytes(content)
    with pytest.raises(SettingError, match=words) as refusal:
        prepare(text8(tmp_path), "text8", tmp_path / "data")
    assert "\n" not in str(refusal.value)
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_foreign_text_without_a_known_md5_is_refused_by_its_symbols(tmp_path: Path) -> None:
    expected = {key: value for key, value in EXPECTED.items() if key != "md5"}
    (tmp_path / "text8").write_bytes(b"  " + CHARACTERS[2:])
    with pytest.raises(SettingError, match=r"text8 is truncated: it has 89 symbols of train where 90"):
        prepare(PublishedFile("text8", URL, expected, tmp_path), "text8", tmp_path / "data")
    (tmp_path / "text8").write_bytes(CHARACTERS)
    with pytest.raises(SettingError, match=r"text8 is another text: it has 27 different symbols where 205"):
        prepare(PublishedFile("text8", URL, expected | {"vocabulary": 205}, tmp_path), "bytes", tmp_path / "data")


def test_other_symbols_of_the_right_file_name_the_setting(tmp_path: Path) -> None:
    (tmp_path / "text8").write_bytes(CHARACTERS)
    with pytest.raises(SettingError, match=r"data\.symbols, data\.expected: .*data=text data\.path=FILE"):
        prepare(text8(tmp_path), "words", tmp_path / "data")


def test_broken_archives_are_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "text8.zip", {"text8": CHARACTERS})
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[50] ^= 1
    for content in (whole[:-30], bytes(changed)):
        path.write_bytes(content)
        with pytest.raises(SettingError, match=rf"data\.path: {path}.* truncated or corrupted .*get it again"):
            prepare(text8(path), "text8", tmp_path / "data")
    archive(path, {"enwik8": CHARACTERS})
    with pytest.raises(SettingError, match=rf"data\.path: there is no text8 in {path} .*; get {URL}"):
        prepare(text8(path), "text8", tmp_path / "data")


def test_folders_without_the_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=rf"data\.path: there is no text8 in {tmp_path} \(and no text8\.zip\); get {URL}"
    ):
        prepare(text8(tmp_path), "text8", tmp_path / "data")
    with pytest.raises(SettingError, match=r"data\.path: .*none of WikiText-103's files; wiki\.train\.tokens, "):
        prepare(wikitext(tmp_path), "wikitext", tmp_path / "data")
    unpacked(tmp_path, {"wiki.test.tokens": "a\n"})
    with pytest.raises(SettingError, match=r"data\.path: .* has only wiki\.test\.tokens; "):
        prepare(wikitext(tmp_path), "wikitext", tmp_path / "data")
    for source in (text8(tmp_path / "none"), wikitext(tmp_path / "none")):
        with pytest.raises(SettingError, match=rf"data\.path: there is no folder or file {tmp_path / 'none'}"):
            prepare(source, "wikitext", tmp_path / "data")


def wikitext_places(folder: Path) -> list[Path]:
    """Every customary place of the three files."""
    below = {f"wikitext-103/{name}": content for name, content in PARTS.items()}
    names = dict(zip(PARTS, ("train.txt", "valid.txt", "test.txt"), strict=True))
    transformer_xl = {f"wikitext-103/{names[name]}": content for name, content in PARTS.items()}
    zipped = archive(unpacked(folder / "zip", {"readme": ""}) / "wikitext-103-v1.zip", below)
    files_themselves = unpacked(folder / "a", PARTS)
    return [
        files_themselves,
        files_themselves / "wiki.train.tokens",
        unpacked(folder / "b", below),
        unpacked(folder / "c", transformer_xl),
        folder / "c" / "wikitext-103",
        zipped,
        zipped.parent,
    ]


def test_wikitext_is_found_in_every_customary_place(tmp_path: Path) -> None:
    for number, place in enumerate(wikitext_places(tmp_path)):
        corpus = prepare(wikitext(place), "wikitext", tmp_path / f"data{number}")
        assert corpus.sizes == {"train": 16, "val": 6, "test": 4}
        assert corpus.vocabulary.decode(corpus.split("val")) == "\nthe end is <unk>\n"
        assert corpus.vocabulary.decode(corpus.split("test")) == "\nthe <unk>\n"
        words = ["<eos>", "the", "=", "end", "<unk>", "Some", "Title", "is"]
        assert sorted(corpus.vocabulary.symbols) == sorted(words)
        assert corpus.vocabulary.symbols[:2] == ["<eos>", "the"]
        corpus.verify()


@pytest.mark.parametrize("zipped", [False, True])
def test_the_raw_form_is_named(zipped: bool, tmp_path: Path) -> None:
    raw = {name.replace("tokens", "raw"): content for name, content in PARTS.items()}
    if zipped:
        archive(tmp_path / "wikitext-103-raw-v1.zip", {f"wikitext-103-raw/{name}": text for name, text in raw.items()})
    else:
        unpacked(tmp_path / "wikitext-103-raw", raw)
    words = r"data\.path: .*wiki\.train\.raw.* is WikiText-103's raw form.*wiki\.train\.tokens.*wikitext-103-v1\.zip"
    with pytest.raises(SettingError, match=words):
        prepare(wikitext(tmp_path), "wikitext", tmp_path / "data")


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"vocabulary": 7}, r"is another text or the raw form, which has no <unk>: it has 8 different symbols where 7"),
        ({"val": 7}, r"is truncated: it has 6 symbols of val where 7"),
        ({"test": 3}, r"is another text or the raw form.*: it has 4 symbols of test where 3"),
        ({"train": 18}, r"is truncated: it has 16 symbols of train where 18"),
    ],
)
def test_wikitext_that_is_not_wikitext(expected: dict[str, int], words: str, tmp_path: Path) -> None:
    read: list[str] = []

    class Watched(WikiText103):
        def pieces(self, part: str) -> Iterator[bytes]:
            read.append(part)
            return super().pieces(part)

    source = Watched(TOKENS | expected, unpacked(tmp_path, PARTS))
    with pytest.raises(SettingError, match=rf"data\.path: {tmp_path} {words}.*data\.symbols=wikitext"):
        prepare(source, "wikitext", tmp_path / "data")
    assert ("train" in read) == ("train" in expected or "vocabulary" in expected)  # small parts are refused before


def test_a_prepared_corpus_opens_without_its_files(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "raw", PARTS)
    (folder / "text8").write_bytes(CHARACTERS)
    prepared = [prepare(text8(folder), "text8", tmp_path), prepare(wikitext(folder), "wikitext", tmp_path)]
    shutil.rmtree(folder)
    opened = [
        prepare(PublishedFile("text8", "http://other", EXPECTED), "text8", tmp_path),
        prepare(WikiText103(dict(reversed(TOKENS.items())), repository="other"), "wikitext", tmp_path),
    ]
    assert [corpus.fingerprint for corpus in opened] == [corpus.fingerprint for corpus in prepared]


@pytest.mark.parametrize("other", [*({key: 1} for key in EXPECTED), {"md5": "00"}])
def test_other_expectations_are_another_corpus(other: dict[str, Any]) -> None:
    assert text8(Path("x"), **other).fingerprint() != text8(Path("x")).fingerprint()


@pytest.mark.parametrize("missing", ["train", "val", "test", "vocabulary"])
def test_expectations_are_complete(missing: str) -> None:
    with pytest.raises(SettingError, match=rf"data\.expected: {missing} must be given"):
        text8(Path("x"), **{missing: None}).fingerprint()
