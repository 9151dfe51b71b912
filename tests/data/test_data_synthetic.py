"""The generators of MAD's tasks against their rules: single examples, distributions, and what solves them."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from diffmamba.data import Compression, FuzzyInContextRecall, InContextRecall, Memorization, Rule, SelectiveCopying
from diffmamba.data.draws import Draws
from diffmamba.data.examples import SyntheticData
from diffmamba.data.synthetic import SPLITS
from diffmamba.errors import SettingError
from tests.data.rules import answers_of, assert_uniform, check, recited
from tests.examples import few
from tests.labelled import Alone, Told

BASELINES: dict[str, Rule] = {
    "compression": Compression(16, 32),
    "fuzzy_in_context_recall": FuzzyInContextRecall(16, 128),
    "in_context_recall": InContextRecall(16, 128),
    "memorization": Memorization(256, 32),
    "noisy_in_context_recall": InContextRecall(32, 128, 0.2, 16),
    "selective_copying": SelectiveCopying(16, 256, 16),
}


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule with small factors that fit each other, their least values too."""
    vocabulary, half, more = draw(st.integers(5, 20)), draw(st.integers(2, 20)), draw(st.integers(0, 30))
    noise, noise_vocabulary = draw(st.sampled_from([0.0, 0.3, 0.9])), draw(st.integers(1, 5))
    copy, motif = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return draw(
        st.sampled_from(
            [
                Compression(vocabulary - 2, half),
                Memorization(vocabulary, 2 * half),
                SelectiveCopying(vocabulary - 1, 2 * copy + 1 + more, copy),
                InContextRecall(vocabulary + noise_vocabulary, 2 * half, noise, noise_vocabulary),
                FuzzyInContextRecall(2 * motif + 1 + more % 7, 4 * motif + 1 + more, motif),
            ]
        )
    )


@few(80)
@given(rules(), st.sampled_from(SPLITS), st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_every_example_keeps_the_rules(rule: Rule, split: str, seed: int, part: int) -> None:
    rule.check()
    examples = rule.examples(split, 5, seed, part)
    arrays = (examples.inputs, examples.targets, examples.gaps)
    for inputs, targets, gaps in zip(*arrays, strict=True):
        check(rule, split, inputs.tolist(), targets.tolist(), gaps.tolist(), seed)


@pytest.mark.parametrize("rule", BASELINES.values(), ids=BASELINES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_baselines_keep_the_rules(rule: Rule, split: str) -> None:
    examples = rule.examples(split, 30, 7)
    for inputs, targets, gaps in zip(examples.inputs, examples.targets, examples.gaps, strict=True):
        check(rule, split, inputs.tolist(), targets.tolist(), gaps.tolist(), 7)


DIGESTS = {
    "compression": "291baaa88d80e061",
    "fuzzy_in_context_recall": "7c18bd823420722b",
    "in_context_recall": "ff8fc2b7a8c0416f",
    "memorization": "d048f57352e34585",
    "noisy_in_context_recall": "15a89da7b111630c",
    "selective_copying": "44976a979aeac7c1",
}
"""Of 300 examples of training and of test, by seed 0. They must not change: runs of the same name have these data."""


@pytest.mark.parametrize("task", BASELINES)
def test_the_same_seed_gives_the_same_examples_on_every_machine(task: str) -> None:
    rule, digest = BASELINES[task], hashlib.sha256()
    for split in ("train", "test"):
        examples = rule.examples(split, 300, 0)
        for array in (examples.inputs, examples.targets, examples.gaps):
            digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[task]
    others = [rule.examples("train", 300, 0, part=1), rule.examples("train", 300, 1), rule.examples("val", 300, 0)]
    for other in others:
        assert (other.inputs != rule.examples("train", 300, 0).inputs).any()


def loaders_of(rule: Rule, seed: int = 3) -> list[Any]:
    sizes = {"examples": 64, "evaluated": 200, "batch_size": 64, "eval_batch_size": 70, "seed": seed}
    return list(SyntheticData(rule=rule, **sizes).val_dataloader())  # type: ignore[arg-type]


def scores(rule: Rule, answers: Any, loaders: list[Any]) -> dict[str, float]:
    """What the task itself makes of the answers of a function of one example."""

    def told(symbols: Tensor) -> Tensor:
        return torch.tensor([answers(row) for row in symbols.tolist()])

    return Alone(Told(rule.vocabulary, told)).evaluate(*loaders)


@pytest.mark.parametrize("rule", BASELINES.values(), ids=BASELINES)
def test_what_knows_the_rules_is_always_right_and_a_constant_answer_right_by_chance(rule: Rule) -> None:
    loaders = loaders_of(rule)
    solved = scores(rule, answers_of(rule, 3), loaders)
    assert solved["val/accuracy"] == solved["test/accuracy"] == 1.0
    targets = torch.cat([batch[1] for batch in loaders[1]])
    constant = int(targets[targets >= 0].mode().values)
    by_chance = scores(rule, lambda inputs: [constant] * len(inputs), loaders)["test/accuracy"]
    assert by_chance == pytest.approx(1 / rule.answers, rel=1e-6)


@pytest.mark.parametrize("vocabulary", [256, 512])
def test_what_training_shows_of_a_dictionary_is_the_ceiling(vocabulary: int) -> None:
    """One that has read all examples of training, and nothing else, is right as often as is said beforehand."""
    rule, examples = Memorization(vocabulary, 32), 40
    data = SyntheticData(rule=rule, examples=examples, evaluated=300, batch_size=8, eval_batch_size=300, seed=5)
    shown = {}
    for inputs, targets in data.train_dataloader():
        shown |= dict(zip(inputs[:, ::2].ravel().tolist(), targets[:, 1::2].ravel().tolist(), strict=True))
    reached = scores(rule, recited(shown), list(data.val_dataloader()))["test/accuracy"]
    ceiling = data.facts["ceiling"]
    assert ceiling == rule.ceiling(examples) < 1
    spread = (ceiling * (1 - ceiling) / rule.answers) ** 0.5
    assert abs(reached - ceiling) < 3 * spread
    assert abs(len(shown) / rule.answers - ceiling) < 3 * spread


def test_a_dictionary_follows_from_the_seed_alone_and_any_value_may_belong_to_a_key() -> None:
    rule = Memorization(12, 8)  # 5 keys, 6 values
    assert (rule.values(1) == Memorization(12, 40).values(1)).all()
    mappings = np.array([rule.values(seed) for seed in range(600)])
    for key in range(5):
        assert_uniform(mappings[:, key], 5, 11)
    for split in SPLITS:
        examples = rule.examples(split, 50, 1)
        assert (examples.targets[:, 1::2] == rule.values(1)[examples.inputs[:, ::2]]).all()


def test_symbols_are_uniform() -> None:
    assert_uniform(Compression(9, 21).examples("train", 100, 0).inputs[:, :-1], 0, 8)
    assert_uniform(Memorization(20, 20).examples("val", 100, 0).inputs[:, ::2], 0, 9)
    assert_uniform(Memorization(21, 20).examples("val", 100, 0).inputs[:, ::2], 0, 10)
    assert_uniform(SelectiveCopying(9, 30, 5).examples("test", 200, 0).targets[:, -5:], 0, 7)


def test_each_blank_stands_before_a_uniform_symbol() -> None:
    """So the blanks before one of `copy` symbols are binomial, with mean and variance of that."""
    copy, blanks, count = 4, 12, 3000
    inputs = SelectiveCopying(7, 2 * copy + 1 + blanks, copy).examples("train", count, 0).inputs
    places = np.nonzero(inputs[:, : copy + blanks] < 5)[1].reshape(count, copy)
    before = np.diff(places, axis=1, prepend=-1) - 1
    assert_uniform(np.repeat(np.tile(np.arange(copy), count), before.ravel()), 0, copy)
    for symbol in range(copy):
        found = np.bincount(before[:, symbol], minlength=blanks + 1)
        expected = count * stats.binom.pmf(np.arange(blanks + 1), blanks, 1 / copy)
        few = [np.append(counts[:7], counts[7:].sum()) for counts in (found, expected)]
        assert stats.chisquare(*few).pvalue > 1e-4


def test_choices_of_different_numbers_are_all_equally_likely() -> None:
    first, second, third = Draws(1, 2).distinct(4, 3, 50, 60).reshape(3, -1)
    assert (first != second).all()
    assert (first != third).all()
    assert (second != third).all()
    names = np.unique(first * 16 + second * 4 + third, return_inverse=True)[1]
    assert_uniform(names, 0, 24)
    assert sorted(Draws(3).order(9)) == list(range(9))
    assert_uniform(np.array([Draws(seed).order(3) for seed in range(300)])[:, 0], 0, 3)
    shares = Draws(4).shares(1000)
    assert stats.kstest(shares, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Compression(2, 32), "data.vocabulary=2: compression needs at least 3"),
        (Compression(3, 1), "data.length=1: compression needs at least 2"),
        (Memorization(4, 32), "data.vocabulary=4: memorization needs at least 5"),
        (Memorization(5, 31), "data.length=31: memorization reads pairs of a key and a marker, so it must be even"),
        (SelectiveCopying(3, 256, 16), "data.vocabulary=3: selective copying needs at least 4"),
        (
            SelectiveCopying(16, 256, 128),
            "data.copy=128: at most 127 symbols, a marker and as many blanks fit into data.",
        ),
        (SelectiveCopying(16, 32, 16), "data.copy=16: at most 15 symbols"),
        (
            InContextRecall(16, 127),
            "data.length=127: in-context recall reads pairs of a key and a value, so it must be",
        ),
        (InContextRecall(16, 2), "data.length=2: in-context recall reads pairs"),
        (InContextRecall(3, 128), "data.vocabulary=3: in-context recall needs two keys and two values"),
        (InContextRecall(19, 128, 0.2, 16), "data.vocabulary=19: .* at least 4 . data.noise_vocabulary = 20"),
        (
            InContextRecall(16, 128, 0.2, 0),
            "data.noise=0.2: there is no symbol for noise; set data.noise_vocabulary=16",
        ),
        (FuzzyInContextRecall(6, 128), "data.vocabulary=6: keys and values of data.motif=3 .* need at least 7"),
        (FuzzyInContextRecall(16, 12), "data.length=12: fuzzy in-context recall needs at least 13"),
    ],
)
def test_factors_that_do_not_fit_are_named_with_their_bound(rule: Rule, said: str) -> None:
    with pytest.raises(SettingError, match=said.replace("(", r"\(")):
        rule.check()
