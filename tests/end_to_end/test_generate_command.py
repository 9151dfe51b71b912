"""`python -m diffmamba.generate`: a run's own voice, in its corpus's alphabet."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmamba import command_line, generate
from diffmamba.models import generate as symbols_of
from diffmamba.trained import TrainedRun

LANGUAGES = {
    "text8": "the quick brown fox jumps over a lazy dog",
    "bytes": "größe für 漢字 naïve café 日本 😀 straße",
    "words": "the quick brown fox jumps over a lazy dog",
}


def story(words: list[str]) -> str:
    choice = random.Random(0)
    return "\n".join(" ".join(choice.choice(words) for _ in range(8)) for _ in range(80)) + "\n"


@pytest.fixture(scope="module")
def runs(new_world: Callable[[str], Any]) -> Callable[[str], str]:
    """The directory of a run for each symbol system, trained when first asked for."""
    known: dict[str, str] = {}

    def look_up(symbols: str) -> str:
        if symbols not in known:
            world = new_world(symbols)
            world.write_text(story(LANGUAGES[symbols].split()))
            record = world.train(f"data.symbols={symbols}", "scale.steps=30", "scale.batch_size=4")
            known[symbols] = str(world.run(record).directory)
        return known[symbols]

    return look_up


@pytest.fixture
def said(runs: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def generated(symbols: str, *words: str) -> str:
        assert generate.main([f"run={runs(symbols)}", *words]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert captured.out.endswith("\n")
        return captured.out[:-1]

    return generated


def test_several_samples_grow_together_and_are_shown_in_turn(said: Callable[..., str]) -> None:
    texts = said("text8", "prompt=the fox", "length=40", "samples=3").split("\n")
    assert [len(text) for text in texts] == 3 * [len("the fox") + 40]
    assert all(text.startswith("the fox") for text in texts)
    assert len(set(texts)) == 3
    same = said("text8", "prompt=the fox", "length=40", "samples=2", "temperature=0").split("\n")
    assert same == 2 * [said("text8", "prompt=the fox", "length=40", "temperature=0")]
    assert said("text8", "prompt=the fox", "length=0", "samples=2") == "the fox\nthe fox"


def test_prompt_is_put_into_the_alphabet_and_continued(said: Callable[..., str]) -> None:
    text = said("text8", "prompt=The Fox, 7 dogs!", "length=50")
    assert text.startswith("the fox seven dogs ")
    assert len(text) == len("the fox seven dogs ") + 50
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz ")


@pytest.mark.parametrize("length", [0, 1, 33])
def test_length_counts_symbols_beyond_the_prompt(said: Callable[..., str], length: int) -> None:
    assert len(said("text8", "prompt=fox", f"length={length}")) == 3 + length


def test_seed_determines_the_text(said: Callable[..., str]) -> None:
    first, again, other = (said("text8", f"seed={seed}", "length=60") for seed in (1, 1, 2))
    assert first == again != other


def test_temperature_0_leaves_nothing_to_chance(said: Callable[..., str]) -> None:
    likeliest = said("text8", "temperature=0", "seed=1", "length=60")
    for other in ("temperature=0", "top_k=1", "top_p=1e-9"):
        assert said("text8", other, "seed=2", "length=60") == likeliest


@pytest.mark.parametrize(("symbols", "prompt"), [("bytes", "für 漢"), ("words", "the lazy"), ("text8", "the l")])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 3.0])
def test_text_is_that_of_all_symbols_together(
    said: Callable[..., str], runs: Callable[[str], str], symbols: str, prompt: str, temperature: float
) -> None:
    """It is written symbol by symbol, yet characters of several bytes and blanks between words come out whole."""
    text = said(symbols, f"prompt={prompt}", "length=120", f"temperature={temperature}", "seed=1")
    trained = TrainedRun(Path(runs(symbols)))
    network, corpus = trained.network(), trained.corpus()
    start = corpus.vocabulary.encode(prompt)
    generator = torch.Generator().manual_seed(1)
    drawn = symbols_of(network, torch.tensor([start]), 120, temperature, None, 1.0, generator)
    whole = corpus.vocabulary.decode(start + [int(symbol) for symbol in drawn])
    assert text.rstrip("\ufffd") == whole.rstrip("\ufffd")  # the last character may lack bytes
    assert text.startswith(prompt)


def test_bytes_come_out_as_characters(said: Callable[..., str]) -> None:
    text = said("bytes", "prompt=für", "length=200", "temperature=0.3")
    assert any(ord(character) > 127 for character in text[3:].replace("\ufffd", ""))


def test_words_come_out_apart(said: Callable[..., str]) -> None:
    text = said("words", "prompt=the", "length=60")
    assert set(text.split()) <= set(LANGUAGES["words"].split()) | {"<unk>"}
    assert len(text.split()) + text.count("\n") >= 60


def test_best_checkpoint_speaks_too(said: Callable[..., str]) -> None:
    assert len(said("text8", "checkpoint=best", "length=9")) == 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["run="]),
        (["run=nowhere"], ["run=nowhere", "result.json"]),
        (["run=TEXT8", "length=-1"], ["length=-1", "at least 0"]),
        (["run=TEXT8", "length=ten"], ["length=ten", "number"]),
        (["run=TEXT8", "temperature=-1"], ["temperature=-1"]),
        (["run=TEXT8", "temperature=nan"], ["temperature=nan"]),
        (["run=TEXT8", "top_p=0"], ["top_p=0"]),
        (["run=TEXT8", "top_k=-3"], ["top_k=-3"]),
        (["run=TEXT8", "checkpoint=first"], ["checkpoint=first", "last", "best"]),
        (["run=TEXT8", "promt=hello"], ["promt", "prompt"]),
        (["run=TEXT8", "hello"], ["hello", "prompt"]),
        (["run=TEXT8", "prompt="], ["prompt"]),
    ],
)
def test_what_cannot_be_is_one_line(
    runs: Callable[[str], str], command: Callable[..., Any], words: list[str], says: list[str]
) -> None:
    words = [word.replace("TEXT8", runs("text8")) for word in words]
    outcome = command(lambda: command_line.run(generate.main, generate.USAGE), words)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert all(word in outcome.err for word in says)


def test_byte_that_never_occurs_is_named(runs: Callable[[str], str], command: Callable[..., Any]) -> None:
    words = [f"run={runs('bytes')}", "prompt=für Žofie"]
    outcome = command(lambda: command_line.run(generate.main, generate.USAGE), words)
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "'Ž'" in outcome.err


def test_run_without_a_checkpoint_is_told_so(world: Any, command: Callable[..., Any]) -> None:
    record = world.train()
    world.run(record).last_checkpoint.unlink()
    words = [f"run={world.run(record).directory}"]
    outcome = command(lambda: command_line.run(generate.main, generate.USAGE), words)
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "last.ckpt" in outcome.err


def test_corpus_that_changed_is_told_so(world: Any, command: Callable[..., Any]) -> None:
    """Symbols of another text would read this run's letters as others."""
    world.write_text(story(LANGUAGES["words"].split()))
    record = world.train("data.symbols=words", "scale.batch_size=4")
    world.write_text(story(["entirely", "other", "words", "of", "which", "there", "are", "eight", "and", "more"]))
    outcome = command(
        lambda: command_line.run(generate.main, generate.USAGE),
        [f"run={world.run(record).directory}", "length=5", "prompt=entirely other"],
    )
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "not the text that" in outcome.err
