"""`diffmamba generate`: a run's own voice, in its corpus's alphabet."""

import os
import random
from functools import cache
from pathlib import Path

import pytest
import torch

from diffmamba.data import CorpusChoice
from diffmamba.models import generate as symbols_of
from tests.end_to_end.stopped_calls import Call, Start

LANGUAGES = {
    "text8": "the quick brown fox jumps over a lazy dog",
    "bytes": "größe für 漢字 naïve café 日本 😀 straße",
    "words": "the quick brown fox jumps over a lazy dog",
    "tokens": "the quick brown fox jumps over a lazy dog",
}


@pytest.fixture(scope="module")
def work(new_world):
    """A run for each symbol system, trained when first asked for: as a measurement, with its network and data."""

    @cache
    def look_up(symbols):
        world, choice, words = new_world(symbols), random.Random(0), LANGUAGES[symbols].split()
        world.write_text("\n".join(" ".join(choice.choices(words, k=8)) for _ in range(80)) + "\n")
        tokens = ["data.tokens=280"] * (symbols == "tokens")
        words = [f"data.symbols={symbols}", *tokens, "scale.steps=30", "scale.batch_size=4"]
        run = world.directory(world.train(*words))
        return world.work("weights=run", f"weights.run={run}", root="measure")

    return look_up


@pytest.fixture
def said(work, command):
    def generated(symbols, *words):
        outcome = command("generate", [f"run={work(symbols).weights.run}", *words])
        assert (outcome.status, outcome.err, outcome.out[-1]) == (0, "", "\n")
        return outcome.out[:-1]

    return generated


def test_several_samples_grow_together_and_are_shown_in_turn(said):
    texts = said("text8", "prompt=the fox", "length=40", "samples=3").split("\n")
    assert [len(text) for text in texts] == 3 * [len("the fox") + 40]
    assert all(text.startswith("the fox") for text in texts)
    assert len(set(texts)) == 3
    same = said("text8", "prompt=the fox", "length=40", "samples=2", "temperature=0").split("\n")
    assert same == 2 * [said("text8", "prompt=the fox", "length=40", "temperature=0")]
    assert said("text8", "prompt=the fox", "length=0", "samples=2") == "the fox\nthe fox"


def test_a_model_of_tokens_goes_on_with_any_text_and_needs_no_tokenizer(said):
    text = said("tokens", "prompt=The Größe 😀 of", "length=30")
    assert text.startswith("The Größe 😀 of")
    assert len(text) > len("The Größe 😀 of") + 5


def test_prompt_is_put_into_the_alphabet_and_length_counts_symbols_beyond_it(said):
    for length in (0, 1, 33):
        text = said("text8", "prompt=The Fox, 7 dogs!", f"length={length}", "checkpoint=best")
        assert text.startswith("the fox seven dogs ")
        assert len(text) == len("the fox seven dogs ") + length
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_seed_determines_the_text_unless_temperature_0_leaves_nothing_to_chance(said):
    first, again, other = (said("text8", f"seed={seed}", "length=60") for seed in (1, 1, 2))
    assert first == again != other
    likeliest = said("text8", "temperature=0", "seed=1", "length=60")
    assert {said("text8", sure, "seed=2", "length=60") for sure in ("temperature=0", "top_k=1", "top_p=1e-9")} == {
        likeliest
    }


@pytest.mark.parametrize(("symbols", "prompt"), [("bytes", "für 漢"), ("words", "the lazy"), ("text8", "the l")])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 3.0])
def test_text_is_that_of_all_symbols_together(said, work, symbols, prompt, temperature):
    """It is written symbol by symbol, yet characters of several bytes and blanks between words come out whole."""
    text = said(symbols, f"prompt={prompt}", "length=120", f"temperature={temperature}", "seed=1")
    network, vocabulary = work(symbols).network().eval(), work(symbols).data.corpus.vocabulary
    start, generator = vocabulary.encode(prompt), torch.Generator().manual_seed(1)
    drawn = symbols_of(network, torch.tensor([start]), 120, temperature, None, 1.0, generator)
    whole = vocabulary.decode(start + [int(symbol) for symbol in drawn])
    assert text.rstrip("\ufffd") == whole.rstrip("\ufffd")  # the last character may lack bytes
    assert text.startswith(prompt)
    if symbols == "words":
        assert set(text.split()) <= set(LANGUAGES["words"].split()) | {"<unk>"}
        assert len(text.split()) + text.count("\n") >= 120
    if symbols == "bytes" and temperature == 0.3:
        assert any(ord(character) > 127 for character in text[len(prompt) :].replace("\ufffd", ""))


@pytest.mark.parametrize("symbols", LANGUAGES)
def test_a_run_speaks_without_its_text_and_its_corpus(work, said, symbols):
    """It carries its vocabulary."""
    trained = work(symbols).trained.settings["data"]
    before = said(symbols, "length=30", "prompt=a")
    kept = [Path(trained["path"]), Path(trained["directory"])]
    for path in kept:
        path.rename(path.with_name(f"{path.name}-away"))
    CorpusChoice.forget()
    try:
        assert said(symbols, "length=30", "prompt=a") == before
        assert not any(path.exists() for path in kept)
    finally:
        for path in kept:
            path.with_name(f"{path.name}-away").rename(path)


def test_threads_are_one_unless_asked_for(work, said, command):
    """On a busy machine two threads took ten times as long as one."""
    torch.set_num_threads(2)
    text = said("text8", "length=10")
    assert torch.get_num_threads() == 1
    assert said("text8", "length=10", "threads=2") == text
    assert torch.get_num_threads() == 2
    for word in ("threads=0", "threads=two", "threads=1.5", "seed=-1", f"seed={2**64}"):
        assert word.partition("=")[0] in command("generate", [f"run={work('text8').weights.run}", word]).refusal()


def test_a_reader_that_has_enough_ends_it_well(work, tmp_path):
    """`generate | head`: what is written reaches the reader at once, and nothing is said when it is gone."""
    reading, writing = os.pipe()
    words = [f"run={work('text8').weights.run}", "length=10000000"]
    process = Call(Start(words, "generate", tmp_path, streams={1: writing}, not_held=[reading]), [], tmp_path)
    os.close(writing)
    with os.fdopen(reading, "rb") as reader:
        assert len(reader.read(20)) == 20  # long before it is done
    assert not process.wait()
    assert (process.status, process.said) == (0, "")


def test_byte_that_never_occurs_is_named(work, command):
    assert "'Ž'" in command("generate", [f"run={work('bytes').weights.run}", "prompt=für Žofie"]).refusal()
