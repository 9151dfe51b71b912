"""Tokens: the pieces have the tokens of the whole, the tokenizer is the library's own, and texts come back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as OfLibrary

from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.datamodule import LanguageModellingData
from diffmamba.data.sources import TextFile
from diffmamba.data.symbols import read_vocabulary
from diffmamba.data.tokens import Tokenizer, Tokens, TokenVocabulary, trained
from diffmamba.errors import SettingError
from diffmamba.runs import vocabulary as kept_vocabulary
from diffmamba.runs.store import RunStore

TEXT = "".join(
    f"The {word} fox's {word}s,  they'll\n\n\tnever  see Größe {i} \n" for i, word in enumerate(["aa", "bb", "ab"] * 40)
)
KNOWN = trained([TEXT], 300)


@pytest.fixture
def text(tmp_path: Path) -> TextFile:
    (tmp_path / "text.txt").write_text(TEXT)
    return TextFile(tmp_path / "text.txt")


def in_pieces(text: str, size: int) -> list[int]:
    """The tokens of a text that is read in pieces of so many bytes."""
    data = np.frombuffer(text.encode(), np.uint8)
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return [int(token) for piece in Tokens().reading(KNOWN)(pieces) for token in piece]


@given(st.text(st.sampled_from("Theab ß'sl,9 \n\t\x1c\u00a0\u2003")), st.integers(1, 40))
def test_pieces_have_the_tokens_of_the_whole(text: str, size: int) -> None:
    assert in_pieces(text, size) == KNOWN.encode(text)


@given(st.text())
def test_every_text_comes_back_a_token_at_a_time(text: str) -> None:
    tokens = KNOWN.encode(text)
    told = list(KNOWN.stream(tokens))
    assert "".join(told) == text == KNOWN.decode(tokens)
    assert len(told) == len(tokens) + 1


def test_a_character_is_told_when_its_last_byte_is_there() -> None:
    byte = {symbol: i for i, symbol in enumerate(KNOWN.symbols)}
    assert list(KNOWN.stream([byte["Ã"], byte["Ł"], byte["a"]])) == ["", "ß", "a", ""]
    assert KNOWN.decode([byte["Ã"], byte["a"]]) == "\ufffda"


def test_the_split_of_a_corpus_holds_the_tokens_of_its_text(text: TextFile, tmp_path: Path) -> None:
    """Trained on the training split alone, twice the same, and reopened from the manifest without the text."""
    corpus = prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(size=300))
    splits = {name: corpus.vocabulary.decode(corpus.split(name).tolist()) for name in corpus.sizes}
    assert "".join(splits.values()) == TEXT
    assert (len(splits["train"]), corpus.vocabulary.size, corpus.manifest["dtype"]) == (
        pytest.approx(len(TEXT) * 0.9, abs=9),
        300,
        "uint16",
    )
    assert all(splits[name][0] in " \n" for name in ("val", "test"))  # no word is parted
    again = prepare(text, "tokens", tmp_path / "again", tokenizer=Tokenizer(size=300))
    assert (again.fingerprint, again.home.name) == (corpus.fingerprint, corpus.home.name)
    expected = trained([splits["train"]], 300)
    assert corpus.vocabulary.to_json() == expected.to_json()
    assert Corpus(corpus.home).split("val").tolist() == expected.encode(splits["val"])
    larger = prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(size=310))
    assert larger.home != corpus.home
    assert sum(larger.sizes.values()) < sum(corpus.sizes.values())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tokenizer.json in the manner of GPT-NeoX: normalised, with a special token."""
    tokenizer = OfLibrary.from_str(KNOWN.tokenizer)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_of_a_file(text: TextFile, file: Path, tmp_path: Path) -> None:
    corpus = prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(file=file))
    assert (corpus.vocabulary.size, corpus.vocabulary.symbols[300]) == (301, "<|endoftext|>")
    assert corpus.vocabulary.encode("o\u0308<|endoftext|>") == [*corpus.vocabulary.encode("ö"), 300]
    assert corpus.vocabulary.decode([300]) == "<|endoftext|>"
    file.write_text(KNOWN.tokenizer)
    assert prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(file=file)).home != corpus.home


def test_a_tokenizer_of_another_text_and_its_integers_as_they_are(text: TextFile, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("if x == 0:\n    return None\n" * 30)
    own = CorpusChoice(text, "tokens", tmp_path / "data", Tokenizer(size=280))
    foreign = CorpusChoice(
        text, "tokens", tmp_path / "data", Tokenizer(size=280, source=TextFile(tmp_path / "other.txt"))
    )
    settings = {"batch_size": 1, "length": 8, "eval_batch_size": 1}
    known = LanguageModellingData(corpus=own, **settings)
    corrected = LanguageModellingData(corpus=foreign, **settings).read_as(known.symbols, 280, "run")
    assert corrected.corpus.split("all").tolist() == known.corpus.split("all").tolist()
    fed = LanguageModellingData(corpus=foreign, **settings, reencode=False).read_as(known.symbols, 280, "run")
    assert fed.corpus.vocabulary.decode(fed.corpus.split("all").tolist()) == TEXT  # the same text
    assert fed.corpus.split("all").tolist() != known.corpus.split("all").tolist()
    size = fed.vocabulary_size
    with pytest.raises(
        SettingError, match=rf"measured\.reencode=false feeds {size} different integers to run, which has 9"
    ):
        fed.read_as(known.symbols, 9, "run")


def test_symbols_of_the_weights(text: TextFile, tmp_path: Path) -> None:
    """symbols=null: nothing is prepared before it is known in which symbols."""
    settings = {"batch_size": 1, "length": 8, "eval_batch_size": 1}
    data = LanguageModellingData(corpus=CorpusChoice(text, None, tmp_path / "data"), **settings)
    assert not (tmp_path / "data").exists()
    read = data.read_as(json.loads(json.dumps(KNOWN.to_json())), 300, "run")
    assert read.corpus.split("all").tolist()[:20] == KNOWN.encode(TEXT)[:20]
    with pytest.raises(SettingError, match=r"data\.symbols=null is for a text that weights are measured on"):
        CorpusChoice(text, None, tmp_path / "data").prepare()


def test_a_run_keeps_its_tokenizer(tmp_path: Path, text: TextFile) -> None:
    run = RunStore(tmp_path).run("t1")
    run.directory.mkdir()
    corpus = prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(size=300))
    kept_vocabulary.keep(run, LanguageModellingData(corpus=corpus, batch_size=1, length=8, eval_batch_size=1))
    found = kept_vocabulary.kept(run, 300)
    assert found is not None
    assert read_vocabulary(found).encode(TEXT) == corpus.vocabulary.encode(TEXT)
    changed = json.loads((run.directory / kept_vocabulary.NAME).read_text())
    changed["tokenizer"] = changed["tokenizer"].replace("ByteLevel", "Whitespace")
    (run.directory / kept_vocabulary.NAME).write_text(json.dumps(changed))
    assert kept_vocabulary.kept(run, 300) is None


def test_other_merges_of_the_same_tokens_are_other_symbols(text: TextFile, tmp_path: Path) -> None:
    corpus = prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(size=300))
    data = LanguageModellingData(corpus=corpus, batch_size=1, length=8, eval_batch_size=1)
    other = {
        **data.symbols,
        "tokenizer": data.symbols["tokenizer"].replace('"add_prefix_space":false', '"add_prefix_space":true'),
    }
    data.require_symbols(data.symbols, 300, "run")
    with pytest.raises(SettingError, match="their tokenizers part a text in other ways"):
        data.require_symbols(other, 300, "run")


@pytest.mark.parametrize(
    ("symbols", "tokenizer", "says"),
    [
        ("tokens", None, r"data\.symbols=tokens needs a tokenizer; set data\.tokens=N or data\.tokenizer=FILE"),
        ("tokens", Tokenizer(size=255), r"data\.tokens=255 must be at least 256"),
        ("tokens", Tokenizer(file="none.json"), r"data\.tokenizer=.*none\.json cannot be read: No such file"),
        ("words", Tokenizer(size=300), r"data\.tokens, data\.tokenizer are for data\.symbols=tokens"),
    ],
)
def test_a_wrong_tokenizer_is_one_line(
    symbols: str, tokenizer: Tokenizer | None, says: str, text: TextFile, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=says):
        prepare(text, symbols, tmp_path / "data", tokenizer=tokenizer)
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_byte_level_tokenizer_is_refused(text: TextFile, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(SettingError, match=r"data\.tokenizer=.*json is no tokenizer\.json that can be read"):
        prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(file=file))
    words = OfLibrary(models.WordLevel({"a": 0}, unk_token="a"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    words.save(str(file))
    with pytest.raises(SettingError, match="is not byte-level"):
        prepare(text, "tokens", tmp_path / "data", tokenizer=Tokenizer(file=file))


def test_a_tokenizer_that_parts_a_text_in_other_ways_is_refused(tmp_path: Path) -> None:
    """Tokens of Llama 3 go on over the end of a line, where a text may be cut here."""
    byte_level, split = pre_tokenizers.ByteLevel, pre_tokenizers.Split(Regex(r"[^a-z\s]+[\r\n]*|\w+|\s+"), "isolated")
    others = (
        pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)]),
        byte_level(add_prefix_space=False, use_regex=False),
        byte_level(add_prefix_space=True),
    )
    for parting in others:
        tokenizer = OfLibrary.from_str(KNOWN.tokenizer)
        tokenizer.pre_tokenizer = parting
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(SettingError, match=r"^data\.tokenizer=.* parts a text in other ways"):
            TokenVocabulary.of_file(tmp_path / "tokenizer.json")


def test_the_bytes_of_a_token_are_those_of_the_library() -> None:
    assert isinstance(KNOWN, TokenVocabulary)
    library = OfLibrary.from_str(KNOWN.tokenizer)
    for i in range(KNOWN.size):
        assert KNOWN.decode([i]) == library.decode([i])
