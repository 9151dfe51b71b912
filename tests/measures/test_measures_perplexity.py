"""Evaluation over sliding windows, against numbers made by hand and a loop over symbols."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffmamba.data.sliding import SlidingWindows
from diffmamba.tasks.evaluation import Evaluation, evaluate, perplexity

SYMBOLS = np.random.default_rng(0).integers(0, 5, 83)


def nats_by_position(inputs: Tensor, targets: Tensor) -> Tensor:
    """Position p costs p nats."""
    return torch.arange(1.0, targets.shape[1] + 1).where(targets != -100, 0.0)


def nats_by_context(inputs: Tensor, targets: Tensor) -> Tensor:
    """What a target costs depends on all that its window shows before it."""
    seen = (inputs + 1).cumsum(1)
    return (((seen * 31 + targets * 7) % 17 + 1) / 10).where(targets != -100, 0.0)


def test_hand_made_numbers() -> None:
    """Of 9 symbols predicted in windows of 4: positions 1 2 3 4, then 3 4, 3 4, and 3."""
    found = evaluate(nats_by_position, SlidingWindows(np.zeros(10, np.uint8), 4, 2, 2))
    assert found.predicted == 9
    assert found.windows == 4
    assert found.nats == pytest.approx((1 + 2 + 3 + 4 + 3 + 4 + 3 + 4 + 3) / 9)
    assert found.position_nats == pytest.approx([1, 2, 3, 4])
    assert found.position_counts == [4, 4, 4, 3]
    assert found.ppl == pytest.approx(math.exp(3))
    assert found.bits == pytest.approx(3 / math.log(2))


def loop(symbols: np.ndarray, window: int, stride: int) -> tuple[float, list[float]]:
    """One window and one symbol after the other."""
    counted: dict[int, float] = {}
    positions: list[list[float]] = [[] for _ in range(window)]
    start = 0
    while len(counted) < len(symbols) - 1:
        for position in range(min(window, len(symbols) - 1 - start)):
            context, target = symbols[start : start + position + 1], symbols[start + position + 1]
            cost = ((int((context + 1).sum()) * 31 + int(target) * 7) % 17 + 1) / 10
            counted.setdefault(start + position + 1, cost)
            positions[position].append(cost)
        start += stride
    return sum(counted.values()) / len(counted), [sum(costs) / len(costs) for costs in positions if costs]


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (8, 8), (8, 1), (8, 3), (9, 4), (82, 5), (81, 1), (40, 39)])
def test_it_is_the_loop_over_windows_and_symbols(window: int, stride: int, batch: int) -> None:
    nats, positions = loop(SYMBOLS, window, stride)
    found = evaluate(nats_by_context, SlidingWindows(SYMBOLS, window, stride, batch))
    assert found.nats == pytest.approx(nats, rel=1e-6)
    assert found.position_nats == pytest.approx(positions, rel=1e-6)
    assert found.predicted == len(SYMBOLS) - 1


def test_no_more_than_a_batch_is_asked_for_at_once_and_progress_is_told() -> None:
    shapes, told = [], []

    def nats_of(inputs: Tensor, targets: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        shapes.append(tuple(inputs.shape))
        return nats_by_position(inputs, targets)

    evaluate(nats_of, SlidingWindows(SYMBOLS, 10, 5, 4), told.append)
    assert shapes == [(4, 10)] * 4
    assert told == [4, 4, 4, 4]


@pytest.mark.parametrize("length", [1, 2, 3, 100, 512, 2048, 2049, 65_536])
def test_buckets_hold_every_position_once_and_grow(length: int) -> None:
    counts = [1 + p % 3 for p in range(length)]
    buckets = Evaluation(1.0, 1, 1, [float(p) for p in range(length)], counts).buckets()
    assert len(buckets) <= 12
    assert [p for first, last, _ in buckets for p in range(first, last + 1)] == list(range(1, length + 1))
    sizes = [last - first + 1 for first, last, _ in buckets]
    assert sizes[:-1] == sorted(sizes[:-1])
    for first, last, nats in buckets:
        weights = counts[first - 1 : last]
        expected = sum(p * weight for p, weight in zip(range(first - 1, last), weights, strict=True)) / sum(weights)
        assert nats == pytest.approx(expected)


def test_a_window_of_512_has_ten_buckets() -> None:
    buckets = Evaluation(1.0, 1, 1, [0.0] * 512, [1] * 512).buckets()
    assert [first for first, _, _ in buckets] == [1, 2, 3, 5, 9, 17, 33, 65, 129, 257]


@pytest.mark.parametrize("nats", [1e4, math.inf])
def test_perplexity_beyond_a_float_is_infinite(nats: float) -> None:
    assert perplexity(nats) == math.inf


def test_what_is_not_a_number_stays_visible() -> None:
    windows = SlidingWindows(SYMBOLS, 9, 3, 2)
    found = evaluate(lambda inputs, targets: nats_by_position(inputs, targets) * math.nan, windows)
    assert math.isnan(found.nats)
    assert math.isnan(found.ppl)
