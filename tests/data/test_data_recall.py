"""In-context recall, plain, noisy and fuzzy: the distributions that the rules name."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from diffmamba.data import FuzzyInContextRecall, InContextRecall
from diffmamba.data.streams import IGNORED
from tests.data.rules import assert_uniform, check, fuzzy_pairs, motifs


def whole(rule: Any, split: str, count: int) -> np.ndarray:
    """Inputs, and the last answer."""
    examples = rule.examples(split, count, 0)
    return np.concatenate([examples.inputs, examples.targets[:, -1:]], axis=1)


@pytest.mark.parametrize("vocabulary", [12, 13])
def test_keys_and_the_values_of_their_first_places_are_uniform(vocabulary: int) -> None:
    symbols = whole(InContextRecall(vocabulary, 20), "test", 600)
    assert_uniform(symbols[:, :-2:2], 0, 6)
    assert_uniform(symbols[:, 1], 6, vocabulary)
    by_key = [symbols[symbols[:, 0] == key, 1] for key in range(6)]
    assert all(len(np.unique(values)) == vocabulary - 6 for values in by_key)  # each example has its own dictionary


def test_the_last_key_is_one_of_those_that_have_stood_equally_likely() -> None:
    """Not by how often: in `0 0 0 1` the last key is 1 in half of all cases."""
    symbols = whole(InContextRecall(4, 10), "test", 3000)[:, ::2]
    once = symbols[(symbols[:, :-1].sum(1) == 1)]
    assert_uniform(once[:, -1], 0, 2)
    alone = symbols[symbols[:, :-1].sum(1) == 0]
    assert len(alone) > 50
    assert not alone[:, -1].any()


def test_noise_comes_in_pairs_with_its_probability_but_for_one_pair() -> None:
    rule, count = InContextRecall(13, 12, 0.4, 5), 4000  # 5 pairs before the last
    pairs = whole(rule, "val", count).reshape(count, 6, 2)
    noisy = pairs[..., 0] >= 8
    assert_uniform(pairs[noisy], 8, 13)
    assert_uniform(pairs[:, :-1][~noisy[:, :-1]][:, 0], 0, 4)
    spread = (0.24 / (count * 4)) ** 0.5
    assert abs(noisy[:, :-1].sum() / (count * 4) - 0.4) < 4 * spread  # of the other four
    places = noisy[:, :-1].sum(0)
    assert np.ptp(places) < 6 * (count * 0.24) ** 0.5  # the one that never is noise may be any
    clean = whole(InContextRecall(13, 12, 0.0, 5), "val", 500)
    assert clean.max() < 8


def test_all_are_asked_for_that_have_stood_in_evaluations_and_all_next_symbols_in_training() -> None:
    rule = InContextRecall(6, 12)
    train, test = rule.examples("train", 400, 0), rule.examples("test", 400, 0)
    assert (train.targets[:, :-1] == train.inputs[:, 1:]).all()
    assert (test.targets[:, 1::2] == IGNORED).all()
    assert_uniform(test.targets[test.targets != IGNORED], 3, 6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_sizes_and_symbols_of_motifs_are_uniform(split: str) -> None:
    rule = FuzzyInContextRecall(8, 40, 2)  # 3 symbols for keys, 4 for values
    pairs = [motifs(rule, row) for row in whole(rule, split, 1500).tolist()]
    keys, values = [runs[0] for runs in pairs], [runs[1] for runs in pairs]  # the first of each
    if split == "train":
        assert_uniform(np.array([len(key) for key in keys]), 1, 3)
        assert_uniform(np.array([key[0] for key in keys if len(key) == 1]), 0, 3)
    assert_uniform(np.array([len(value) for value in values]), 1, 3)
    assert_uniform(np.array([value[0] for value in values if len(value) == 1]), 3, 7)
    assert_uniform(ordered([key for key in keys if len(key) == 2]), 0, 6)
    assert_uniform(ordered([value for value in values if len(value) == 2]), 0, 12)
    asked = [runs[-2] for runs in pairs if len(runs[-2]) == 2]
    assert_uniform(ordered(asked), 0, 6)


def ordered(motifs: list[list[int]]) -> np.ndarray:
    """A number for each of the ordered pairs that there are."""
    return np.unique(np.array(motifs) @ [100, 1], return_inverse=True)[1]


def test_fuzzy_examples_are_those_that_the_words_of_the_rule_make() -> None:
    """Made with loops: as many pairs and symbols, and what is asked for stands as often and as far away."""
    rule, count, random = FuzzyInContextRecall(9, 50, 2), 1500, np.random.default_rng(0)  # 12 keys
    literal = [list(sum(fuzzy_pairs(rule, random), ())) for _ in range(count)]
    made = [[tuple(motif) for motif in motifs(rule, row)] for row in whole(rule, "test", count).tolist()]
    facts = [np.array([summary(runs) for runs in examples]) for examples in (literal, made)]
    for one, other in zip(*(fact.T for fact in facts), strict=True):
        values = np.unique(np.concatenate([one, other]))
        counts = np.array([[(numbers == value).sum() for value in values] for numbers in (one, other)])
        often = counts.sum(0) > 30
        counts = np.column_stack([counts[:, often], counts[:, ~often].sum(1)])
        assert stats.chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue > 1e-4


def summary(runs: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Numbers that tell of an example: its pairs, symbols and different keys, and the places of the asked key."""
    keys, sizes = runs[::2], np.cumsum([len(motif) for motif in runs])
    first = keys.index(keys[-1])
    return len(keys), int(sizes[-1]), len(set(keys)), first, keys.count(keys[-1]), int(sizes[-1] - sizes[2 * first + 1])


def test_keys_of_many_symbols_are_told_apart() -> None:
    """The names of their motifs would not fit into 64 bits."""
    rule = FuzzyInContextRecall(65, 300, 20)  # 32 symbols for keys: 33 to the 20th power
    for split in ("train", "test"):
        examples = rule.examples(split, 8, 1)
        for inputs, targets, gaps in zip(examples.inputs, examples.targets, examples.gaps, strict=True):
            check(rule, split, inputs.tolist(), targets.tolist(), gaps.tolist(), 1)
