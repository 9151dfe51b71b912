"""The data files of conf/: which corpus each of them means, and that their settings reach the batches."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from diffmamba import configuration
from diffmamba.errors import SettingError

TEXT = "the quick brown fox jumps over the lazy dog and runs away far into the woods by a long river bank ab"
EXPECTED = {"train": 90, "val": 5, "test": 5, "vocabulary": 27, "md5": hashlib.md5(TEXT.encode()).hexdigest()}


def configured(*settings: str) -> Any:
    """The resolved settings of the data, small enough for a short text."""
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        config = compose("train", overrides=["scale.batch_size=2", "scale.length=8", *settings])
    return configuration.resolved(config)["data"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: prepared corpora are kept in `prepared`, raw texts of every kind are beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFMAMBA_DATA", "prepared")
    texts = {"module.py": f"# {TEXT}", "wiki.train.tokens": f"{TEXT}\n", "wiki.valid.tokens": "the fox of\n"}
    texts |= {"text8": TEXT, "enwik8": TEXT, "mine.txt": TEXT, "wiki.test.tokens": "fox\n"}
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("pydoc8", "+data.source.root=.", {"train": 90, "val": 5, "test": 6, "vocabulary": 27}),
        ("pydoc_words", "+data.source.root=.", {"train": 20, "val": 1, "test": 2, "vocabulary": 20}),
        ("pysrc8", "+data.source.root=.", {"train": 91, "val": 5, "test": 6, "vocabulary": 28}),
        ("text8", "data.path=.", EXPECTED),
        ("enwik8", "data.path=.", EXPECTED),
        ("wikitext103", "data.path=.", {"train": 23, "val": 4, "test": 2, "vocabulary": 22}),
        ("text", "data.path=mine.txt", {"train": 90, "val": 5, "test": 5, "vocabulary": 27}),
    ],
)
def test_every_corpus_is_configured(name: str, place: str, expected: dict[str, int], folder: Path) -> None:
    published = name in ("text8", "enwik8", "wikitext103")
    known = [f"data.expected.{key}={value}" for key, value in expected.items()] if published else []
    settings = configured(f"data={name}", place, *known)
    assert settings["name"] == name
    corpus = instantiate(settings["module"]["corpus"]).prepare()
    assert corpus.name == ("mine" if name == "text" else name)
    assert corpus.home.parent == folder / "prepared"
    assert corpus.sizes | {"vocabulary": corpus.vocabulary.size} == {k: v for k, v in expected.items() if k != "md5"}


def test_settings_reach_the_batches(folder: Path) -> None:
    changes = ["data.eval_batch_size=2", "data.eval_windows=3", "data.length=3", "data.rotation_seed=7"]
    data = instantiate(configured("data=text", "data.path=mine.txt", "data.symbols=bytes", *changes)["module"])()
    assert data.corpus.vocabulary.symbols[0] == ord(" ")
    (inputs, targets), *_ = data.train_dataloader()
    assert inputs.shape == targets.shape == (2, 3)
    for loader in data.val_dataloader():
        assert [len(inputs) for inputs, _ in loader] == [2]
    assert data.rotation_seed == 7
    with pytest.raises(SettingError, match=r"data\.path"):
        configured("data=text")


def test_names_that_yaml_reads_as_numbers_are_paths(folder: Path) -> None:
    """As in a grid or a file of settings, where nothing puts them in quotes."""
    (folder / "mine.txt").rename(folder / "2024")
    settings = configured("data=text", "data.path=2024", "data.directory=7")
    assert (settings["path"], settings["directory"]) == (2024, 7)
    assert instantiate(settings["module"]["corpus"]).prepare().home.parent == folder / "7"
    typed = configured("data=text8", "data.path='null'", "data.directory='null'")["module"]["corpus"]
    assert instantiate(typed).source.place is None  # the command line takes a path as it is written
    with pytest.raises(SettingError, match=r"data\.path=1000\.0 must be text"):
        configured("data=text", "data.path=1e3")


def test_what_the_published_corpora_are_expected_to_be() -> None:
    """Characters and bytes: 90M / 5M / 5M; WikiText-103: words, and an end for each of its lines (arXiv 1609.07843)."""
    for name, vocabulary in (("text8", 27), ("enwik8", 205)):
        found = configured(f"data={name}")["expected"]
        assert len(found.pop("md5")) == 32
        assert found == {"train": 90_000_000, "val": 5_000_000, "test": 5_000_000, "vocabulary": vocabulary}
    words, lines = (101_425_671, 213_886, 241_211), (1_801_350, 3_760, 4_358)
    sizes = {part: word + line for part, word, line in zip(("train", "val", "test"), words, lines, strict=True)}
    assert configured("data=wikitext103")["expected"] == sizes | {"vocabulary": 267_735}
