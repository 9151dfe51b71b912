"""`diffmamba generate`: a run's own voice, in its corpus's alphabet."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffmamba.models import generate as symbols_of
from diffmamba.runs.work import Measurement

LANGUAGES = {
    "text8": "the quick brown fox jumps over a lazy dog",
    "bytes": "größe für 漢字 naïve café 日本 😀 straße",
    "words": "the quick brown fox jumps over a lazy dog",
}


def story_of(words: list[str]) -> str:
    choice = random.Random(0)
    return "\n".join(" ".join(choice.choice(words) for _ in range(8)) for _ in range(80)) + "\n"


@pytest.fixture(scope="module")
def work(new_world: Callable[[str], Any]) -> Callable[[str], Measurement]:
    """A run for each symbol system, trained when first asked for: as a measurement, with its network and data."""
    known: dict[str, Measurement] = {}

    def look_up(symbols: str) -> Measurement:
        if symbols not in known:
            world = new_world(symbols)
            world.write_text(story_of(LANGUAGES[symbols].split()))
            run = world.directory(world.train(f"data.symbols={symbols}", "scale.steps=30", "scale.batch_size=4"))
            known[symbols] = world.work("weights=run", f"weights.run={run}", root="measure")
        return known[symbols]

    return look_up


@pytest.fixture
def said(work: Callable[[str], Measurement], command: Callable[..., Any]) -> Callable[..., str]:
    def generated(symbols: str, *words: str) -> str:
        outcome = command("generate", [f"run={work(symbols).weights.run}", *words])
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.endswith("\n")
        return outcome.out[:-1]

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


def test_seed_determines_the_text_unless_temperature_0_leaves_nothing_to_chance(said: Callable[..., str]) -> None:
    first, again, other = (said("text8", f"seed={seed}", "length=60") for seed in (1, 1, 2))
    assert first == again != other
    likeliest = said("text8", "temperature=0", "seed=1", "length=60")
    for certain in ("temperature=0", "top_k=1", "top_p=1e-9"):
        assert said("text8", certain, "seed=2", "length=60") == likeliest


@pytest.mark.parametrize(("symbols", "prompt"), [("bytes", "für 漢"), ("words", "the lazy"), ("text8", "the l")])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 3.0])
def test_text_is_that_of_all_symbols_together(
    said: Callable[..., str], work: Callable[[str], Measurement], symbols: str, prompt: str, temperature: float
) -> None:
    """It is written symbol by symbol, yet characters of several bytes and blanks between words come out whole."""
    text = said(symbols, f"prompt={prompt}", "length=120", f"temperature={temperature}", "seed=1")
    network, vocabulary = work(symbols).network().eval(), work(symbols).data.corpus.vocabulary
    start = vocabulary.encode(prompt)
    generator = torch.Generator().manual_seed(1)
    drawn = symbols_of(network, torch.tensor([start]), 120, temperature, None, 1.0, generator)
    whole = vocabulary.decode(start + [int(symbol) for symbol in drawn])
    assert text.rstrip("\ufffd") == whole.rstrip("\ufffd")  # the last character may lack bytes
    assert text.startswith(prompt)
    if symbols == "words":
        assert set(text.split()) <= set(LANGUAGES["words"].split()) | {"<unk>"}
        assert len(text.split()) + text.count("\n") >= 120
    if symbols == "bytes" and temperature == 0.3:
        assert any(ord(character) > 127 for character in text[len(prompt) :].replace("\ufffd", ""))


def test_best_checkpoint_speaks_too(said: Callable[..., str]) -> None:
    assert len(said("text8", "checkpoint=best", "length=9")) == 10


def test_byte_that_never_occurs_is_named(work: Callable[[str], Measurement], command: Callable[..., Any]) -> None:
    assert "'Ž'" in command("generate", [f"run={work('bytes').weights.run}", "prompt=für Žofie"]).refusal()
