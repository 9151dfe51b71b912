"""Perplexity over sliding windows, against numbers made by hand and a loop over symbols in float64."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffmamba.errors import SettingError
from diffmamba.measures import Perplexity, Row, Subject

SYMBOLS = np.random.default_rng(0).integers(0, 5, 83)
FIGURES = ["ppl", "nats", "bits", "symbols", "windows"]


def nats_by_position(inputs: Tensor, targets: Tensor) -> Tensor:
    """Position p costs p nats."""
    return torch.arange(1.0, targets.shape[1] + 1).where(targets != -100, 0.0)


def nats_by_context(inputs: Tensor, targets: Tensor) -> Tensor:
    """What a target costs depends on all that its window shows before it."""
    seen = (inputs + 1).cumsum(1)
    return (((seen * 31 + targets * 7) % 17 + 1) / 10).where(targets != -100, 0.0)


def rows(
    nats: Callable[..., Tensor], symbols: np.ndarray, window: int, stride: int, batch: int, **more: Any
) -> list[Row]:
    class Network(torch.nn.Module):
        def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
            return nats(inputs, targets)

    data: Any = SimpleNamespace(corpus=SimpleNamespace(split={"test": symbols}.get))
    return list(Perplexity("test", window, stride, batch).rows(Subject(Network(), data, **more)))


def figures(found: list[Row]) -> dict[str, float]:
    assert [row.measure for row in found if not row.coordinates] == FIGURES
    return {row.measure: row.value for row in found if not row.coordinates}


def by_position(found: list[Row], measure: str) -> list[float]:
    ordered = [row for row in found if row.coordinates and row.measure == measure]
    assert [row.coordinates for row in ordered] == [{"position": place + 1} for place in range(len(ordered))]
    return [row.value for row in ordered]


def test_hand_made_numbers() -> None:
    """Of 9 symbols predicted in windows of 4: positions 1 2 3 4, then 3 4, 3 4, and 3."""
    found = rows(nats_by_position, np.zeros(10, np.uint8), 4, 2, 2)
    mean = (1 + 2 + 3 + 4 + 3 + 4 + 3 + 4 + 3) / 9
    expected = {"ppl": math.exp(mean), "nats": mean, "bits": mean / math.log(2), "symbols": 9, "windows": 4}
    assert figures(found) == pytest.approx(expected)
    assert by_position(found, "nats") == pytest.approx([1, 2, 3, 4])
    assert by_position(found, "windows") == [4, 4, 4, 3]


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
    found = rows(nats_by_context, SYMBOLS, window, stride, batch)
    assert figures(found)["nats"] == pytest.approx(nats, rel=1e-6)
    assert by_position(found, "nats") == pytest.approx(positions, rel=1e-6)
    assert figures(found)["symbols"] == len(SYMBOLS) - 1


def test_no_more_than_a_batch_is_asked_for_at_once_and_progress_is_told() -> None:
    shapes, told = [], []

    def nats_of(inputs: Tensor, targets: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        shapes.append(tuple(inputs.shape))
        return nats_by_position(inputs, targets)

    rows(nats_of, SYMBOLS, 10, 5, 4, progress=lambda *done: told.append(done))
    assert shapes == [(4, 10)] * 4
    assert told == [(4, 16), (8, 16), (12, 16), (16, 16)]


def test_what_is_open_is_as_in_training() -> None:
    settings = {"data": {"length": 16, "eval_batch_size": 6}}
    assert Perplexity().completed(settings) == Perplexity("test", 16, 16, 6)
    assert Perplexity(window=8).completed(settings) == Perplexity("test", 8, 8, 12)
    assert Perplexity(window=200, stride=3, limit=0).completed(settings) == Perplexity("test", 200, 3, 1)


@pytest.mark.parametrize(("name", "value"), [("split", "dev"), ("window", -1), ("stride", "long"), ("limit", 2.5)])
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"{name}={value} "):
        Perplexity(**{name: value})


@pytest.mark.parametrize("nats", [1e4, math.inf])
def test_perplexity_beyond_a_float_is_infinite(nats: float) -> None:
    found = rows(lambda inputs, targets: torch.full(inputs.shape, nats), SYMBOLS, 9, 3, 2)
    assert figures(found)["ppl"] == math.inf


def test_what_is_not_a_number_stays_visible() -> None:
    found = rows(lambda inputs, targets: nats_by_position(inputs, targets) * math.nan, SYMBOLS, 9, 3, 2)
    assert math.isnan(figures(found)["nats"])
    assert math.isnan(figures(found)["ppl"])
