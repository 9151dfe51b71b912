"""Sliding windows: every symbol counts exactly once, in the first window that holds it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.data.sliding import SlidingWindows
from diffmamba.data.streams import IGNORED, EvalWindows
from diffmamba.errors import SettingError


def counted(count: int) -> np.ndarray:
    """Symbols that are their own position."""
    return np.arange(count, dtype=np.uint16)


def test_windows_overlap_and_count_what_is_new() -> None:
    ((inputs, targets, new),) = SlidingWindows(counted(4), window=100, stride=1, batch=8)  # a short split is one window
    assert (inputs.tolist(), targets.tolist()) == ([[0, 1, 2]], [[1, 2, 3]])
    ((inputs, targets, new),) = SlidingWindows(counted(10), window=4, stride=2, batch=9)
    assert inputs.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 0]]
    assert targets.tolist() == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, IGNORED]]
    assert [row[mask].tolist() for row, mask in zip(targets, new, strict=True)] == [[1, 2, 3, 4], [5, 6], [7, 8], [9]]
    assert (inputs.dtype, targets.dtype, new.dtype) == (torch.int64, torch.int64, torch.bool)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_every_symbol_but_the_first_counts_once_with_the_longest_context(
    count: int, window: int, stride: int, batch: int
) -> None:
    stride = min(stride, window)
    windows = SlidingWindows(counted(count), window, stride, batch)
    assert windows.length == min(window, count - 1)
    batches = list(windows)
    sizes = [len(inputs) for inputs, _, _ in batches]
    assert sum(sizes) == len(windows)
    assert set(sizes[:-1]) <= {batch}
    context: dict[int, int] = {}
    for inputs, targets, new in batches:
        assert inputs.shape == targets.shape == new.shape == (len(inputs), windows.length)
        assert torch.equal(targets[targets != IGNORED], inputs[targets != IGNORED] + 1)
        assert not inputs[targets == IGNORED].any()
        assert not new[targets == IGNORED].any()
        assert new.any(1).all()  # no window for nothing
        for row, mask in zip(targets.tolist(), new.tolist(), strict=True):
            counting = {symbol: position for position, symbol in enumerate(row, 1) if mask[position - 1]}
            assert not counting.keys() & context
            context |= counting
    starts = range(0, count, stride)
    longest = {symbol: max(symbol - start for start in starts if 0 < symbol - start <= window) for symbol in context}
    assert sorted(context) == list(range(1, count))
    assert context == longest


@pytest.mark.parametrize("limit", [None, 1, 3, 7, 99])
@pytest.mark.parametrize("count", [7, 11, 41, 44])
def test_side_by_side_they_are_the_windows_of_a_runs_evaluation(count: int, limit: int | None) -> None:
    found, expected = SlidingWindows(counted(count), 5, 5, 2, limit), EvalWindows(counted(count), 2, 5, limit)
    for (inputs, targets, new), known in zip(list(found), list(expected), strict=True):
        assert torch.equal(inputs, known[0])
        assert torch.equal(targets, known[1])
        assert torch.equal(new, targets != IGNORED)


def test_limited_windows_are_spread_evenly() -> None:
    windows = SlidingWindows(counted(101), window=10, stride=5, batch=4, limit=5)
    batches = list(windows)
    assert len(windows) == 5
    assert [start for inputs, _, _ in batches for start in inputs[:, 0].tolist()] == [0, 15, 35, 55, 75]
    assert [row.sum().item() for _, _, new in batches for row in new] == [10, 5, 5, 5, 5]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 0}, r"^window=0 must be at least 1$"),
        ({"stride": 0}, r"^stride=0 must be at least 1$"),
        ({"batch": -1}, r"^batch=-1 must be at least 1$"),
        ({"limit": 0}, r"^limit=0 must be at least 1$"),
        ({"stride": 5}, r"^stride=5 leaves symbols out.* at most window=4$"),
        ({"symbols": counted(1)}, r"^split: one of 1 symbols has nothing to predict"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        SlidingWindows(**{"symbols": counted(9), "window": 4, "stride": 2, "batch": 2} | settings)
