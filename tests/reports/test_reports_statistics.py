"""What is said of a few seeds: it agrees with definitions written out, and keeps its promises on simulated data."""

from itertools import product

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.reports import statistics
from diffmamba.reports.statistics import BOOTSTRAP_FROM, ERROR, POWER, compared, half_width, holm, sign_flip
from tests.examples import few

NUMBERS = st.lists(st.tuples(*[st.floats(-9, 9).map(lambda x: round(x, 3))] * 2), min_size=2, max_size=6)
DRAWS = {
    "normal": lambda random, shape: random.normal(size=shape),
    "gamma": lambda random, shape: random.gamma(4, size=shape) - 4,  # a skewness of 1
    "exponential": lambda random, shape: random.exponential(size=shape) - 1,  # a skewness of 2
}


def drawn(seeds, rows=1, form="normal", seed=0):
    """Values of `rows` rows and of one baseline, as `compared` takes them."""
    values = DRAWS[form](np.random.default_rng(seed), (rows + 1, seeds))
    return [(row, values[0]) for row in values[1:]]


def within(share, promised, count):
    """Whether a share of so many draws is what was promised, up to three standard errors."""
    return share - promised <= 3 * np.sqrt(promised * (1 - promised) / count)


@pytest.fixture
def quick(monkeypatch):
    """Fewer resamples, for simulations."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


@pytest.mark.parametrize("seeds", range(2, BOOTSTRAP_FROM))
@pytest.mark.parametrize("rows", [1, 9])
def test_few_seeds_have_students_interval_and_more_rows_make_it_wider_by_bonferroni(seeds, rows):
    pairs = drawn(seeds, rows, seed=seeds)
    for (ours, baseline), found in zip(pairs, compared(pairs), strict=True):
        expected = scipy.stats.ttest_rel(ours, baseline).confidence_interval(1 - ERROR / rows)
        assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected))
        assert (found.seeds, found.rows, found.reason) == (seeds, rows, "")
        assert found.difference == pytest.approx(np.mean(ours - baseline))
        assert found.spread == pytest.approx(np.std(ours - baseline, ddof=1))
        alone = scipy.stats.ttest_1samp(ours, 0).confidence_interval()
        assert vars(statistics.mean_interval(ours)) == pytest.approx(dict(zip(("low", "high"), alone, strict=True)))


def test_more_seeds_have_the_wider_interval_of_student_and_of_a_bootstrap_of_t():
    random, wider = np.random.default_rng(0), []
    for values in random.exponential(size=(6, 10)):
        sample = random.choice(values, (200_000, 10))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (sample.mean(1) - values.mean()) / (sample.std(1, ddof=1) / np.sqrt(10))
        error, at = values.std(ddof=1) / np.sqrt(10), 1 - ERROR / 2
        student, resampled = scipy.stats.t.ppf(at, 9), np.quantile(np.abs(t), 1 - ERROR)
        assert half_width(values) == pytest.approx(max(student, resampled) * error, rel=0.03)
        wider.append(resampled > 1.05 * student)
    assert any(wider)


def test_intervals_of_many_samples_at_once_are_those_of_each():
    samples = np.random.default_rng(0).normal(size=(2, 3, 9))
    samples[0, 0] = 1.0
    found = half_width(samples, 4)
    assert np.isnan(found[0, 0])
    assert found.ravel()[1:] == pytest.approx([float(half_width(row, 4)) for row in samples.reshape(-1, 9)[1:]])


@pytest.mark.parametrize("seeds", [2, 3, 5, 11])
def test_the_sign_flip_test_is_the_share_of_all_flips_with_a_mean_as_far_from_0(seeds):
    for values in np.random.default_rng(seeds).normal(0.5, 1, (5, seeds)).round(1):
        flips = np.array(list(product((-1, 1), repeat=seeds)))
        expected = np.mean(np.abs(flips @ values) >= abs(values.sum()) - 1e-9)
        assert sign_flip(values) == pytest.approx(expected)
        assert sign_flip(np.abs(values) + 1) == statistics.lowest_p(seeds) == 2 / 2**seeds


def test_flips_of_many_seeds_are_drawn_and_always_the_same():
    values = np.random.default_rng(0).normal(0.3, 1, 16)
    flips = np.array(list(product((-1, 1), repeat=16)), np.int8)
    exact = np.mean(np.abs(flips @ values) >= abs(values.sum()))
    assert sign_flip(values) == pytest.approx(exact, abs=4 * np.sqrt(exact / statistics.FLIPS))
    assert sign_flip(values) == sign_flip(values) != exact


def test_p_is_corrected_by_holm_and_a_row_without_p_counts():
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.04, 0.09, 0.09, None])
    assert holm([0.5, 0.02, 0.9]) == pytest.approx([1.0, 0.06, 1.0])
    assert holm([]) == []
    p = list(np.random.default_rng(0).uniform(0, 0.1, 6))
    for level in np.linspace(0.001, 0.3, 40):
        left, rejected = sorted(p), 0  # step by step, as Holm wrote it
        while left and left[0] <= level / len(left):
            left.pop(0)
            rejected += 1
        assert sum(corrected <= level for corrected in holm(p)) == rejected


@pytest.mark.parametrize(
    ("ours", "baseline", "reason"),
    [
        ([], [], "no seed is shared with the baseline"),
        ([1.0], [2.0], "one seed is shared with the baseline"),
        ([1.1, 2.1, 5.1], [1.0, 2.0, 5.0], "the difference is the same for all seeds"),
        ([0.1 + 0.2, 3.0], [0.3, 3.0], "the difference is the same for all seeds"),
        ([1.0] * 8 + [2.0], [1.0] * 9, "the difference is the same for nearly all seeds"),
        ([1.1] * 8 + [2.0], [1.0] * 9, "the difference is the same for nearly all seeds"),
        ([1.0, np.nan, 3.0], [2.0, 2.0, 2.0], "a value is not a finite number"),
        ([1.0, 2.0, 3.0], [2.0, 2.0, -np.inf], "a value is not a finite number"),
        ([1e200, 2e200, 9e200], [1.0, 2.0, 3.0], "a value is too large"),
    ],
)
def test_where_there_is_no_interval_it_is_said_why_and_nothing_else_is_claimed(ours, baseline, reason):
    found, other = compared([(ours, baseline), ([1.0, 2.0, 4.0], [1.1, 1.9, 3.5])])
    assert (found.interval, found.p, found.p_corrected, found.smallest, found.reason) == (
        None,
        None,
        None,
        None,
        reason,
    )
    assert found.seeds_needed(1.0) is None
    assert found.difference is None or np.isfinite(found.difference)
    assert (other.rows, other.reason) == (2, "")
    assert other.p_corrected == min(1.0, 2 * other.p)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [1.0, np.nan], [1.0, np.inf], [1e200, -1e200]])
def test_a_mean_of_one_value_of_equal_ones_or_of_no_usable_numbers_has_no_interval(values):
    assert statistics.mean_interval(values) is None


@given(NUMBERS, st.floats(-5, 5))
@few(25)
def test_to_swap_both_sides_mirrors_the_interval_and_to_shift_both_changes_nothing(pairs, shift):
    ours, baseline = map(np.array, zip(*pairs, strict=True))
    found, mirrored = compared([(ours, baseline)])[0], compared([(baseline, ours)])[0]
    shifted = compared([(ours + shift, baseline + shift)])[0]
    assert (found.interval is None) == (mirrored.interval is None) == (shifted.interval is None)
    if found.interval:
        assert (mirrored.interval.low, mirrored.interval.high) == (-found.interval.high, -found.interval.low)
        assert mirrored.p == found.p
        assert vars(shifted.interval) == pytest.approx(vars(found.interval), abs=1e-6)


@pytest.mark.parametrize("form", ["normal", "exponential"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_where_no_row_differs_a_table_of_nine_rows_seldom_has_a_winner(seeds, form):
    """All rows share their baseline, as in table 2; their values may be skewed."""
    tables = 4000
    values = DRAWS[form](np.random.default_rng(1), (tables, 10, seeds))
    differences = values[:, 1:] - values[:, :1]
    wins = (np.abs(differences.mean(-1)) > half_width(differences, 9)).any(1)
    assert within(wins.mean(), ERROR, tables)
    s = differences.std(-1, ddof=1)
    assert (np.abs(differences.mean(-1)) > s).any(1).mean() > 6 * ERROR  # the rule |Δ| > s does not promise that


@pytest.mark.parametrize("form", ["normal", "exponential"])
def test_with_a_bootstrap_too(quick, form):
    tables = 600
    values = DRAWS[form](np.random.default_rng(2), (tables, 10, BOOTSTRAP_FROM))
    differences = values[:, 1:] - values[:, :1]
    half = np.concatenate([half_width(some, 9) for some in np.split(differences, 12)])
    assert within((np.abs(differences.mean(-1)) > half).any(1).mean(), ERROR, tables)


@pytest.mark.parametrize(
    ("form", "seeds"), [("normal", 3), ("normal", 5), *product(("normal", "gamma"), (BOOTSTRAP_FROM, 12))]
)
def test_intervals_hold_the_true_mean_as_often_as_promised(quick, form, seeds):
    count = 2000
    values = DRAWS[form](np.random.default_rng(3), (count, seeds))
    half = np.concatenate([half_width(some) for some in np.split(values, 10)])
    assert within((np.abs(values.mean(-1)) > half).mean(), ERROR, count)


def test_students_interval_alone_would_not_hold_skewed_differences():
    values = DRAWS["gamma"](np.random.default_rng(3), (20_000, BOOTSTRAP_FROM))
    half = scipy.stats.t.ppf(1 - ERROR / 2, BOOTSTRAP_FROM - 1) * scipy.stats.sem(values, axis=-1)
    assert not within((np.abs(values.mean(-1)) > half).mean(), ERROR, len(values))


@pytest.mark.parametrize(("effect", "rows"), [(1.0, 1), (2.0, 9), (0.8, 9)])
def test_so_many_seeds_see_the_difference_with_the_promised_chance_and_one_less_does_not(effect, rows):
    needed, count, random = statistics.seeds_needed(-3 * effect, 3.0, rows), 20_000, np.random.default_rng(4)
    seen = []
    for seeds in (needed - 1, needed):
        values = random.normal(effect, 1, (count, seeds))
        half = scipy.stats.t.ppf(1 - ERROR / rows / 2, seeds - 1) * scipy.stats.sem(values, axis=-1)
        seen.append((np.abs(values.mean(-1)) > half).mean())
    error = 3 * np.sqrt(POWER * (1 - POWER) / count)
    assert seen[0] < POWER + error
    assert seen[1] > POWER - error
    assert seen[1] - seen[0] > error
    assert [statistics.power(effect, n, rows) for n in (needed - 1, needed)] == pytest.approx(seen, abs=error)


@pytest.mark.parametrize(("seeds", "rows"), [(2, 1), (2, 9), (3, 9), (5, 9), (5, 300), (40, 9)])
def test_the_smallest_difference_that_seeds_see_is_the_one_that_needs_so_many(seeds, rows):
    smallest = statistics.smallest_seen(0.04, seeds, rows)
    assert statistics.power(smallest / 0.04, seeds, rows) == pytest.approx(POWER)
    assert statistics.seeds_needed(1.0001 * smallest, 0.04, rows) == seeds
    assert statistics.seeds_needed(0.9999 * smallest, 0.04, rows) == seeds + 1


def test_a_difference_far_below_the_spread_needs_as_many_seeds_as_the_normal_distribution_says():
    ratio = scipy.stats.norm.ppf(1 - ERROR / 2) + scipy.stats.norm.ppf(POWER)
    assert statistics.seeds_needed(1e-4, 1.0) == pytest.approx((ratio / 1e-4) ** 2, rel=1e-6)
    assert statistics.seeds_needed(1e-200, 1e100) == 10**12
    assert statistics.seeds_needed(1e-320, 1e10) == statistics.seeds_needed(0.0, 1.0) == 10**12
    assert statistics.seeds_needed(1.0, 0.0) == 2
    (tiny,) = statistics.compared([([1e-320, 3e-320], [0.0, 0.0])])
    assert (tiny.interval, tiny.seeds_needed(1e-320)) == (None, None)
    assert statistics.sign_flip([1.0]) == 1.0


def test_the_true_spread_lies_in_its_range_as_often_as_promised():
    spreads = np.random.default_rng(5).normal(size=(4000, 3)).std(1, ddof=1)
    low, high = statistics.spread_range(3)
    outside = (spreads * low > 1) | (spreads * high < 1)
    assert outside.mean() == pytest.approx(ERROR, abs=3 * np.sqrt(ERROR / 4000))
