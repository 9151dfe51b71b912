"""Needles in prose: where they stand, what is asked for, and what does not fit."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from diffmamba.data import NeedleData, NeedlesInProse
from diffmamba.errors import SettingError
from diffmamba.measures import Lens, LossByPosition, Perplexity, sequences

SIZE = 27
TEXTS = {"train": np.arange(500) % 5, "val": 5 + np.arange(400) % 5, "test": 10 + np.arange(300) % 7}
PROSE = SimpleNamespace(
    vocabulary=SimpleNamespace(size=SIZE),
    sizes={name: len(text) for name, text in TEXTS.items()},
    split=TEXTS.__getitem__,
    fingerprint="of the prose",
    require_unchanged=lambda: None,
)
RULE = NeedlesInProse(PROSE, length=48, keys=3, names=5, values=4, value=2, distance=10, shown=2)
SPLITS = pytest.mark.parametrize("split", ["train", "val", "test"])


@SPLITS
@pytest.mark.parametrize(
    "rule", [RULE, replace(RULE, value=1, distance=0), replace(RULE, keys=1)], ids=["long", "short", "one key"]
)
def test_a_target_is_the_symbol_that_stands_as_far_back_as_its_gap_says(rule, split):
    found = rule.examples(split, 50, seed=3)
    rows, at = np.nonzero(found.targets != -100)
    back = found.gaps[rows, at]
    assert (back > 0).all()
    assert (found.inputs[rows, at - back] == found.targets[rows, at]).all()
    assert (found.gaps[found.targets == -100] == 0).all()
    first = (found.inputs[rows, at] >= SIZE) & (found.inputs[rows, at] < SIZE + rule.names)  # at the key itself
    assert (found.inputs[rows, at - back - 1][first] == found.inputs[rows, at][first]).all()
    shown = rule.shown if split == "train" else 1
    assert len(rows) == 50 * rule.keys * rule.value * shown


@SPLITS
def test_the_prose_is_a_stretch_of_its_split(split):
    found = RULE.examples(split, 20, seed=1)
    text = "".join(map(chr, TEXTS[split]))
    for symbols in found.inputs:
        assert "".join(map(chr, symbols[symbols < SIZE])) in text


def test_questions_stand_at_the_end_and_needles_at_least_so_far_from_them():
    found = RULE.examples("test", 200, seed=0)
    tail = RULE.keys * RULE.width
    pairs = found.inputs >= SIZE
    assert pairs[:, -tail + 1 :].all()
    assert not pairs[:, -tail + 1 - RULE.distance : -tail + 1].any()
    assert pairs[:, : -tail + 1 - RULE.distance].sum(1).tolist() == [tail] * 200
    places = pairs[:, : -tail + 1 - RULE.distance].any(0)
    assert places.all()  # no place is left out


def test_every_key_is_asked_for_once_and_has_one_value():
    found = RULE.examples("test", 40, seed=0)
    for symbols in found.inputs:
        keys = symbols[(symbols >= SIZE) & (symbols < SIZE + RULE.names)]
        assert len(keys) == 2 * RULE.keys
        assert sorted(keys[: RULE.keys]) == sorted(keys[RULE.keys :])
        assert len(set(keys)) == RULE.keys
    assert found.inputs.max() == RULE.vocabulary - 1
    assert set(np.unique(found.targets)) == {-100, *range(SIZE + RULE.names, RULE.vocabulary)}


def test_other_seeds_splits_and_parts_have_other_examples():
    one = RULE.examples("test", 8, seed=0)
    assert np.array_equal(one.inputs, RULE.examples("test", 8, seed=0).inputs)
    for other in (RULE.examples("test", 8, 1), RULE.examples("test", 8, 0, part=1)):
        assert (one.inputs != other.inputs).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": 6}, r"data\.keys=6: there are data\.names=5 different ones"),
        ({"length": 36}, r"data\.length=36: .* need at least 37"),
        ({"length": 300}, r"data\.length=300: a split of the prose has 300 symbols"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        replace(RULE, **changes).check()


def test_the_smallest_length_that_is_allowed_has_room():
    smallest = replace(RULE, length=37)
    smallest.check()
    assert smallest.examples("train", 10, 0).inputs.shape == (10, 37)


def test_the_data_are_known_by_their_prose():
    rule = partial(NeedlesInProse, length=48, keys=3, names=5, values=4)
    data = NeedleData(corpus=PROSE, rule=rule, examples=64, evaluated=16, batch_size=16, eval_batch_size=16, seed=0)
    data.check(1)
    assert data.facts["fingerprint"] == "of the prose"
    assert data.facts["vocabulary"] == data.rule.vocabulary == SIZE + 9
    assert data.facts["chance"] == 1 / 4
    assert "keys 3" in data.described()
    assert "prose" not in data.described()


def test_measures_of_a_corpus_refuse_them_and_the_lens_takes_the_examples():
    """Else the prose would be measured, without a needle in it."""
    rule = partial(NeedlesInProse, length=48, keys=3, names=5, values=4)
    data = NeedleData(corpus=PROSE, rule=rule, examples=64, evaluated=16, batch_size=16, eval_batch_size=16, seed=0)
    for measure in (LossByPosition(length=16, window=8), Perplexity(window=8, stride=8, batch=1)):
        with pytest.raises(SettingError, match="needs a corpus, and needle is none"):
            measure.check(data)
    inputs, targets = sequences.of_data(data, "test", 9, "measure=lens").at(np.arange(2))
    assert (inputs.numpy() == data.splits["test"].inputs[:2]).all()
    assert (targets.numpy() == data.splits["test"].targets[:2]).all()
    assert Lens(length=9).over(data.facts) == Lens(length=10).over(data.facts)
