"""LongCrawl64: documents are decoded, unescaped and written in other symbols, or their ids are fed as they are."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from diffmamba.data import long_crawl
from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.datamodule import LanguageModellingData
from diffmamba.data.long_crawl import LongCrawl64, unescaped
from diffmamba.data.tokens import TokenVocabulary, trained
from diffmamba.errors import SettingError

TEXTS = ["Short.", 'She said: "Größe\n\tis 😀"', "a longer document, " * 3 + "\\ with a backslash", "one more"]
GPT2 = trained([json.dumps(text) for text in TEXTS] * 9, 290)
"""Stands for GPT-2's tokenizer."""
WIDTH = 64


def rows() -> np.ndarray:
    """A row of `WIDTH` ids for each text, as often as it fits."""
    found = [GPT2.encode(json.dumps(text)[1:-1] * 40)[:WIDTH] for text in TEXTS]
    return np.array(found, np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """LongCrawl64 of four documents in chunks of 3 by 40, not compressed."""
    home = tmp_path / "crawl" / "heldout.zarr"
    home.mkdir(parents=True)
    layout = {"zarr_format": 2, "shape": [4, WIDTH], "chunks": [3, 40], "dtype": "<u2", "order": "C", "fill_value": 0}
    (home / ".zarray").write_text(json.dumps(layout | {"compressor": None, "filters": None}))
    (home / ".zattrs").write_text('{"encoder": "tiktoken-gpt2"}')
    padded = np.zeros((6, 80), np.uint16)
    padded[:4, :WIDTH] = rows()
    for i in range(2):
        for j in range(2):
            chunk = padded[3 * i : 3 * i + 3, 40 * j : 40 * j + 40]
            (home / f"{i}.{j}").write_bytes(np.ascontiguousarray(chunk, "<u2").tobytes())
    (tmp_path / "gpt2.json").write_text(GPT2.tokenizer)
    return tmp_path


@pytest.fixture
def _no_zarr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The array in memory, so that all but the reading of zarr is tested where it is not installed."""
    monkeypatch.setattr(long_crawl, "_opened", lambda folder: rows())


def texts_of(corpus: Corpus) -> list[str]:
    """The text of each document."""
    documents, integers = corpus.documents("all"), corpus.split("all")
    assert documents is not None
    return [corpus.vocabulary.decode(integers[start:end].tolist()) for start, end in documents]


@pytest.mark.usefixtures("_no_zarr")
@pytest.mark.parametrize("symbols", ["tokens", "bytes"])
def test_documents_are_decoded_unescaped_and_written_anew(folder: Path, symbols: str) -> None:
    source = LongCrawl64(folder / "crawl", folder / "gpt2.json", documents=3)
    own = trained(TEXTS, 270) if symbols == "tokens" else None
    corpus = prepare(source, symbols, folder / "data", own)
    expected = [unescaped(GPT2.decode(row.tolist())) for row in rows()[:3]]
    assert texts_of(corpus) == expected
    assert expected[1].startswith(TEXTS[1])
    assert expected[0] in TEXTS[0] * 40
    assert len({end - start for start, end in corpus.documents("all") or []}) > 1  # of different lengths


@pytest.mark.usefixtures("_no_zarr")
def test_ids_as_they_are(folder: Path) -> None:
    """The published fault: those of GPT-2's tokenizer are fed to a network of other symbols, if it has as many."""
    settings = {"batch_size": 1, "length": 8, "eval_batch_size": 1}
    choice = CorpusChoice(LongCrawl64(folder / "crawl", documents=4), None, folder / "data")
    data = LanguageModellingData(corpus=choice, **settings, reencode=False)
    fed = data.read_as(trained(TEXTS, 300).to_json(), 300, "run")
    assert fed.corpus.split("all").tolist() == rows().flatten().tolist()
    assert fed.corpus.documents("all") == [(at * WIDTH, (at + 1) * WIDTH) for at in range(4)]
    with pytest.raises(SettingError, match=r"measured\.reencode=false feeds"):
        data.read_as(None, 256, "run")
    with pytest.raises(
        SettingError, match=r"the ids of longcrawl64 mean other tokens than those of run; set measured\.decode"
    ):
        LanguageModellingData(corpus=choice, **settings).read_as(trained(TEXTS, 300).to_json(), 300, "run")
    decoded = CorpusChoice(LongCrawl64(folder / "crawl", folder / "gpt2.json", documents=4), None, folder / "data")
    with pytest.raises(SettingError, match=r"measured\.reencode=false feeds a text in symbols of its own; name them"):
        LanguageModellingData(corpus=decoded, **settings, reencode=False).read_as(None, 300, "run")


@pytest.mark.usefixtures("_no_zarr")
def test_documents_are_never_parted_between_splits(folder: Path) -> None:
    corpus = prepare(LongCrawl64(folder / "crawl", documents=4), "ids", folder / "data")
    assert sum(corpus.sizes.values()) == 4 * WIDTH
    assert all(size % WIDTH == 0 for size in corpus.sizes.values())
    assert corpus.documents("train") == [(at * WIDTH, (at + 1) * WIDTH) for at in range(corpus.sizes["train"] // WIDTH)]
    fewer = prepare(LongCrawl64(folder / "crawl", documents=2), "ids", folder / "data")
    assert fewer.fingerprint != corpus.fingerprint


def test_the_same_ids_in_other_documents_are_another_corpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, array in (("a", rows()[:2]), ("b", rows()[:2].reshape(4, -1))):
        monkeypatch.setattr(long_crawl, "_opened", lambda folder, array=array: array)
        source = LongCrawl64(folder / "crawl", documents=len(array))
        found.append(prepare(source, "ids", folder / name))
    assert found[0].split("all").tolist() == found[1].split("all").tolist()
    assert found[0].fingerprint != found[1].fingerprint


def test_zarr_reads_what_is_in_the_folder(folder: Path) -> None:
    pytest.importorskip("zarr")
    corpus = prepare(LongCrawl64(folder / "crawl", documents=4), "ids", folder / "data")
    assert corpus.split("all").tolist() == rows().flatten().tolist()


def test_without_zarr_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(SettingError, match=r"data=longcrawl64 needs zarr; install it: pip install 'diffmamba\[zarr\]'"):
        prepare(LongCrawl64(folder / "crawl", documents=4), "ids", folder / "data")


@pytest.mark.usefixtures("_no_zarr")
def test_a_wrong_folder_is_one_line(folder: Path) -> None:
    def refused(match: str, documents: int = 4) -> None:
        with pytest.raises(SettingError, match=match):
            prepare(LongCrawl64(folder / "crawl", documents=documents), "ids", folder / "data")

    refused(r"data\.documents=5 is more than the 4 of ", 5)
    (folder / "crawl/heldout.zarr/1.1").unlink()  # zarr would read zeros
    refused(r"data\.path: 1 of 4 chunks are missing in .*, 1\.1 first")
    prepare(LongCrawl64(folder / "crawl", documents=3), "ids", folder / "data")  # which reads none of it
    (folder / "crawl/heldout.zarr/.zarray").write_text('{"zarr_format": 3, "shape": [9, 9]}')
    refused(r"is no array of format 2 with rows of uint16")
    (folder / "crawl/heldout.zarr/.zarray").unlink()
    refused(r"data\.path=.*crawl is not LongCrawl64; it needs .*\.zarray: No such file")


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("plain", "plain"),
        (r"a\nb\t\"c\" \\n \/", 'a\nb\t"c" \\n /'),
        (r"\u00f6 \ud83d\ude00", "ö 😀"),
        (r"half \ud83d and", "half \ufffd and"),
        ("cut \\", "cut "),
        (r"cut \u00", "cut "),
        (r"whole \\", "whole \\"),
        (r"whole \\u00", r"whole \u00"),
        (r"no escape \x41", r"no escape \x41"),
    ],
)
def test_unescaped(escaped: str, plain: str) -> None:
    assert unescaped(escaped) == plain


def test_every_text_comes_back_from_its_escapes() -> None:
    for text in (*TEXTS, "".join(map(chr, range(0x250)))):
        for ascii_only in (True, False):
            assert unescaped(json.dumps(text, ensure_ascii=ascii_only)[1:-1]) == text


def test_the_tokenizer_of_the_ids_is_named_where_it_is_none(folder: Path) -> None:
    assert isinstance(GPT2, TokenVocabulary)
    (folder / "gpt2.json").write_text("no")
    with pytest.raises(SettingError, match=r"data\.decode=.*gpt2\.json is no tokenizer\.json"):
        LongCrawl64(folder / "crawl", folder / "gpt2.json")._text()
    (folder / "gpt2.json").write_text(trained(["abc def"], 260).tokenizer)
    with pytest.raises(SettingError, match=r"data\.decode=.*gpt2\.json has 260 tokens, and there is an id 261"):
        LongCrawl64(folder / "crawl", folder / "gpt2.json")._text()(np.array([5, 261, 0]))
