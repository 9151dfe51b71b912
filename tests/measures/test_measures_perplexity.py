"""Perplexity over sliding windows, against numbers made by hand and a loop over symbols in float64."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.data.sliding import SlidingWindows
from diffmamba.errors import SettingError
from diffmamba.measures import Perplexity, Subject

SYMBOLS = np.random.default_rng(0).integers(0, 5, 83)


def nats_by_position(inputs, targets):
    """Position p costs p nats."""
    return torch.arange(1.0, targets.shape[1] + 1).where(targets != -100, 0.0)


def nats_by_context(inputs, targets):
    """What a target costs depends on all that its window shows before it."""
    seen = (inputs + 1).cumsum(1)
    return (((seen * 31 + targets * 7) % 17 + 1) / 10).where(targets != -100, 0.0)


def measured(nats, symbols, *settings, **more):
    """The figures, the mean nats of each position, and in how many windows it is."""
    network = torch.nn.Module()
    network.forward = nats
    data = SimpleNamespace(corpus=SimpleNamespace(split={"test": symbols}.get))
    rows = list(Perplexity("test", *settings).rows(Subject(network, data, **more)))
    positions = {name: [row for row in rows if row.coordinates and row.measure == name] for name in ("nats", "windows")}
    for ordered in positions.values():
        assert [row.coordinates for row in ordered] == [{"position": place + 1} for place in range(len(ordered))]
    figures = {row.measure: row.value for row in rows if not row.coordinates}
    assert list(figures) == list(Perplexity.metrics)
    return figures, *([row.value for row in ordered] for ordered in positions.values())


def test_hand_made_numbers():
    """Of 9 symbols predicted in windows of 4: positions 1 2 3 4, then 3 4, 3 4, and 3."""
    figures, nats, windows = measured(nats_by_position, np.zeros(10, np.uint8), 4, 2, 2)
    mean = (1 + 2 + 3 + 4 + 3 + 4 + 3 + 4 + 3) / 9
    expected = {"ppl": math.exp(mean), "nats": mean, "bits": mean / math.log(2), "symbols": 9, "windows": 4}
    assert figures == pytest.approx(expected)
    assert nats == pytest.approx([1, 2, 3, 4])
    assert windows == [4, 4, 4, 3]


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (8, 8), (8, 1), (8, 3), (9, 4), (82, 5), (81, 1), (40, 39)])
def test_it_is_the_loop_over_windows_and_symbols(window, stride, batch):
    counted, positions, start = {}, [[] for _ in range(window)], 0
    while len(counted) < len(SYMBOLS) - 1:
        for position in range(min(window, len(SYMBOLS) - 1 - start)):
            context, target = SYMBOLS[start : start + position + 1], SYMBOLS[start + position + 1]
            cost = ((int((context + 1).sum()) * 31 + int(target) * 7) % 17 + 1) / 10
            counted.setdefault(start + position + 1, cost)
            positions[position].append(cost)
        start += stride
    figures, nats, windows = measured(nats_by_context, SYMBOLS, window, stride, batch)
    assert figures["nats"] == pytest.approx(sum(counted.values()) / len(counted), rel=1e-6)
    assert nats == pytest.approx([sum(costs) / len(costs) for costs in positions if costs], rel=1e-6)
    assert windows == [len(costs) for costs in positions if costs]
    assert figures["symbols"] == len(SYMBOLS) - 1


def test_no_more_than_a_batch_is_asked_for_at_once_and_progress_is_told():
    shapes, told = [], []

    def nats_of(inputs, targets):
        assert torch.is_inference_mode_enabled()
        shapes.append(tuple(inputs.shape))
        return nats_by_position(inputs, targets)

    measured(nats_of, SYMBOLS, 10, 5, 4, progress=lambda *done: told.append(done))
    assert shapes == [(4, 10)] * 4
    assert told == [(4, 16), (8, 16), (12, 16), (16, 16)]


def test_what_is_open_is_as_in_training():
    settings = {"data": {"length": 16, "eval_batch_size": 6}}
    assert Perplexity().completed(settings) == Perplexity("test", 16, 16, 6)
    assert Perplexity(window=8).completed(settings) == Perplexity("test", 8, 8, 12)
    assert Perplexity(window=200, stride=3, limit=0).completed(settings) == Perplexity("test", 200, 3, 1)


@pytest.mark.parametrize(("name", "value"), [("split", "dev"), ("window", -1), ("stride", "long"), ("limit", 2.5)])
def test_a_wrong_setting_is_named(name, value):
    with pytest.raises(SettingError, match=f"^measure.{name}={value} "):
        composed([f"measure.{name}={value}"], "measure")


@pytest.mark.parametrize("nats", [1e4, math.inf, math.nan])
def test_perplexity_beyond_a_float_is_infinite_and_what_is_not_a_number_stays_visible(nats):
    figures, *_ = measured(lambda inputs, targets: torch.full(inputs.shape, nats), SYMBOLS, 9, 3, 2)
    assert figures["ppl"] == pytest.approx(math.nan if math.isnan(nats) else math.inf, nan_ok=True)
    assert figures["nats"] == pytest.approx(nats, nan_ok=True)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (82, 5), (81, 1), (200, 7)])
def test_a_limit_counts_only_where_it_leaves_windows_out(window, stride):
    facts = {"sizes": {"train": 40, "val": 30, "test": len(SYMBOLS)}}
    for split, symbols in (("test", SYMBOLS), ("all", np.zeros(70 + len(SYMBOLS), np.uint8))):
        windows = len(SlidingWindows(symbols, window, stride, 1))
        for limit, kept in ((windows + 5, None), (windows, None), (windows - 1, windows - 1 or None), (None, None)):
            if limit != 0:
                assert Perplexity(split, window, stride, 1, limit).over(facts).limit == kept
    unseen = {"sizes": {"train": 10**9}}  # what a plan knows of data that no run has read
    assert Perplexity("test", window, stride, 1, 3).over(unseen).limit == 3
