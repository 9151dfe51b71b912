"""Ratios are taken round by round, in turns, and patience ends."""

import time

import pytest

from benchmarks.timing import Patience, Spread, compare, rounds


def patience(**changes: float) -> Patience:
    return Patience(**{"seconds": 60, "least": 3, "most": 5, "ceiling": 120, "sample": 0.0, "long": 60, **changes})


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.25, 1.75, 2)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_what_slows_both_sides_of_a_round_leaves_the_ratio_alone() -> None:
    machine = [1.0, 3.0, 1.0, 2.0, 10.0]
    ours, other = [2 * slow for slow in machine], [6 * slow for slow in machine]
    assert Spread.of_ratios(other, ours) == Spread(3.0, 3.0, 3.0, 5)


def test_sides_take_turns_in_alternating_order() -> None:
    called: list[str] = []
    samplers = {name: (lambda name=name: called.append(name) or len(called)) for name in "ab"}
    values = rounds(samplers, patience(most=3))
    assert "".join(called) == "abbaab"
    assert values == {"a": [1, 4, 5], "b": [2, 3, 6]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 5),  # as many as allowed
        ({"seconds": 0}, 3),  # as few as allowed
        ({"seconds": 0, "ceiling": 0.005}, 1),  # even these would take too long
    ],
)
def test_rounds_end(changes: dict[str, float], expected: int) -> None:
    def sampler() -> float:
        time.sleep(0.01)
        return 1.0

    assert len(rounds({"only": sampler}, patience(**changes))["only"]) == expected


def test_short_calls_are_repeated_and_warmed_up() -> None:
    calls = []
    compare({"short": lambda: calls.append(0)}, patience(sample=0.02, most=3, least=1))
    assert len(calls) > 100


def test_a_very_long_call_counts_at_once() -> None:
    calls = []

    def slow() -> None:
        calls.append(0)
        time.sleep(0.02)

    taken = compare({"slow": slow}, patience(ceiling=0.03, long=0.01))
    assert len(calls) == len(taken["slow"]) == 1
    assert taken["slow"][0] > 0.02
