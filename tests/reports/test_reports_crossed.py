"""Intervals over seeds and questions: known widths in simple cases, pairing, reproducible draws, missing answers."""

import math

import numpy as np
import pandas as pd
import pytest

from diffmamba.reports import crossed, statistics
from diffmamba.reports.crossed import Sample, interval, samples, widening


def table(right, cell="c"):
    """Answers of models: `right` maps a model to (seeds, questions) of 0, 1 or NaN for an answer that is missing."""
    rows = [
        {"cell": cell, "model": model, "seed": str(seed), "row": row, "right": value}
        for model, values in right.items()
        for seed, of_seed in enumerate(np.asarray(values, float))
        for row, value in enumerate(of_seed)
        if not math.isnan(value)
    ]
    return pd.DataFrame(rows)


def found(right):
    return {key[1]: one for key, one in samples(table(right), ["cell", "model"], ["right"]).items()}


def score(ours):
    return ours


def difference(theirs, ours):
    return ours - theirs


def half(of, *given, **options):
    (one,) = interval(of, *given, **options)
    assert (one.low + one.high) / 2 == pytest.approx(float(of(*(g.mean for g in given))[0]), abs=1e-6)
    return (one.high - one.low) / 2


@pytest.fixture(scope="module")
def draw():
    return np.random.default_rng(5)


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_it_is_the_interval_of_a_share(draw, seeds):
    right = np.tile(draw.random(400) < 0.3, (seeds, 1))
    share = right.mean()
    assert half(score, found({"m": right})["m"]) == pytest.approx(1.96 * math.sqrt(share * (1 - share) / 400), rel=0.04)


def test_where_only_seeds_differ_it_is_as_wide_as_that_of_students_t():
    """Of very many questions with equal answers by each seed, so that questions play no part."""
    shares = np.array([0.2, 0.31, 0.27, 0.4, 0.35, 0.22, 0.3, 0.41, 0.19, 0.33])
    right = np.arange(100)[None] < 100 * shares[:, None]
    sample = found({"m": right})["m"]
    fixed = Sample(sample.seeds, sample.values, np.broadcast_to(sample.values, sample.drawn.shape))
    expected = statistics.mean_interval(shares)
    assert half(score, fixed) == pytest.approx((expected.high - expected.low) / 2, rel=0.05)
    assert half(score, fixed, of_seeds=False) == pytest.approx(0, abs=1e-6)
    assert half(score, sample) > half(score, sample, of_seeds=False)


@pytest.mark.parametrize(("seeds", "expected"), [(1, 0), (2, 0), (3, math.sqrt(1.5) * 4.3027 / 1.96), (200, 1.0)])
def test_few_seeds_are_widened_and_many_are_not(seeds, expected):
    assert widening(seeds) == pytest.approx(expected, rel=0.01)


def test_models_are_compared_question_by_question_and_seed_by_seed(draw):
    first = draw.random((3, 200)) < draw.random((3, 1))
    second = first.copy()
    second[:, :10] = ~second[:, :10]
    both = found({"a": first, "b": second})
    assert half(difference, both["a"], found({"b": first})["b"]) == pytest.approx(0, abs=1e-6)
    assert half(difference, both["a"], both["b"]) < half(score, both["a"]) / 2
    others = Sample(("7", "8", "9"), both["b"].values, both["b"].drawn)  # of other seeds: nothing is paired
    assert half(difference, both["a"], others) > half(score, both["a"])


def test_the_same_answers_give_the_same_interval_again(draw):
    answers = table({"a": draw.random((3, 50)) < 0.4, "b": draw.random((3, 50)) < 0.5})
    one, other = (samples(rows, ["model"], ["right"]) for rows in (answers, answers))
    assert interval(difference, *one.values()) == interval(difference, *other.values())
    figures = samples(answers.assign(wrong=1 - answers["right"]), ["model"], ["right", "wrong"])
    right, wrong = interval(score, figures[("a",)])
    assert right.low == pytest.approx(1 - wrong.high)


def test_missing_answers_are_left_out_of_the_mean(draw):
    right = (draw.random((3, 300)) < 0.5).astype(float)
    right[1, 100:] = math.nan
    sample = found({"m": right})["m"]
    assert sample.values[:, 0] == pytest.approx(np.nanmean(right, 1))
    spread = sample.drawn.std(0)[:, 0]
    assert spread[1] == pytest.approx(spread[0] * math.sqrt(3), rel=0.15)


def test_the_mean_over_cells_keeps_seeds_and_questions_together(draw):
    right = draw.random((3, 100)) < 0.4
    answers = pd.concat([table({"m": right}, cell) for cell in "ab"])
    cells = list(samples(answers, ["cell", "model"], ["right"]).values())
    mean = Sample.over(cells)
    assert half(score, mean) == pytest.approx(half(score, cells[0]))  # the same questions twice tell nothing more
    shorter = Sample(cells[1].seeds[1:], cells[1].values[1:], cells[1].drawn[:, 1:])
    assert Sample.over([cells[0], shorter]).seeds == ("1", "2")
    assert Sample.over([cells[0], Sample(("x",), cells[1].values[:1], cells[1].drawn[:, :1])]) is None
    assert Sample.over([]) is None


def test_there_is_no_interval_where_it_cannot_be_said():
    sample = found({"m": [[0, 0, 0, 0]]})["m"]
    with np.errstate(divide="ignore"):
        assert interval(lambda ours: np.log(ours), sample) == [None]


@pytest.mark.parametrize(("spread", "least"), [(0.0, 0.92), (0.5, 0.88)])
def test_intervals_hold_the_true_score(spread, least, monkeypatch):
    """A small copy of the trials of the docstring: 3 seeds, 60 questions."""
    monkeypatch.setattr(crossed, "RESAMPLES", 500)
    crossed._weights.cache_clear()
    draw, held, trials = np.random.default_rng(2), 0, 60
    noise = np.random.default_rng(1).normal(0, math.hypot(1, spread), 100_000)
    true = (1 / (1 + np.exp(1.2 - noise))).mean()
    for _ in range(trials):
        odds = -1.2 + draw.normal(0, spread, (3, 1)) + draw.normal(0, 1, 60)
        (one,) = interval(score, found({"m": draw.random((3, 60)) < 1 / (1 + np.exp(-odds))})["m"])
        held += one.low <= true <= one.high
    crossed._weights.cache_clear()
    assert held >= least * trials
