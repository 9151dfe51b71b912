"""The loss by position: equal to one pass, to a loop by hand, and flat in memory."""

import gc
import math
from copy import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.measures import LossByPosition, Subject
from diffmamba.models import LanguageModel
from diffmamba.runs.work import build_network

VOCABULARY = 7
SYMBOLS = np.random.default_rng(0).integers(0, VOCABULARY, 1000).astype(np.uint8)
SMALL = ("model.d_model=16", "model.headdim=8", "model.d_state=4", "model.n_layers=1", "model.backend=torch")


@cache
def network(model: str = "diff_mamba") -> Any:
    torch.manual_seed(0)
    return build_network(composed([f"model={model}", *SMALL]), VOCABULARY).eval().double()


class Uniform(LanguageModel):
    """Gives every symbol the same chance."""

    def predicted(self, hidden: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
        assert targets is not None
        return torch.full(targets.shape, math.log(self.vocabulary_size)).where(targets != -100, 0.0)


def data_of(symbols: np.ndarray, documents: list[tuple[int, int]] | None = None) -> Any:
    corpus = SimpleNamespace(
        split=lambda name: {"test": symbols, "val": symbols[:1]}[name], documents=lambda name: documents, name="mine"
    )
    return SimpleNamespace(corpus=corpus)


def measured(
    model: Any, measure: LossByPosition, symbols: np.ndarray = SYMBOLS, documents: Any = None, **more: Any
) -> tuple[dict[str, float], list[float], list[int]]:
    """The figures, the mean nats of each position, and how many stretches reach it."""
    rows = list(measure.rows(Subject(model, data_of(symbols, documents), **more)))
    figures = {row.measure: row.value for row in rows if not row.coordinates}
    assert list(figures) == list(LossByPosition.metrics)
    nats = {row.coordinates["position"]: row.value for row in rows if row.coordinates and row.measure == "nats"}
    known = {row.coordinates["position"]: row.value for row in rows if row.coordinates and row.measure == "stretches"}
    assert list(nats) == list(range(1, len(nats) + 1))
    counts = [int(known[max(at for at in known if at <= position)]) for position in nats]
    return figures, list(nats.values()), counts


@torch.no_grad()
def by_hand(model: Any, symbols: np.ndarray, stretches: list[tuple[int, int]], shift: int) -> dict[int, list[float]]:
    """-ln p at each position of whole stretches, each read in one pass."""
    found: dict[int, list[float]] = {}
    for start, end in stretches:
        inputs = torch.from_numpy(symbols[start:end].astype(np.int64))[None]
        chances = model(inputs).log_softmax(-1)[0]
        for at in range(end - start):
            found.setdefault(at + 1, []).append(-chances[at, int(symbols[start + at + shift])].item())
    return found


@pytest.mark.parametrize("model", ["mamba", "diff_mamba", "diff_s6"])
@pytest.mark.parametrize("shift", [1, 2])
def test_windows_are_one_pass(model: str, shift: int) -> None:
    """32 windows of a stretch, as 2,048 are in 65,536; the windows of another measure do not divide it."""
    built = network(model)
    expected = by_hand(built, SYMBOLS, [(at, at + 256) for at in range(0, 768, 256)], shift)
    for window, batch in ((8, 3), (100, 2), (256, 1)):
        figures, nats, counts = measured(built, LossByPosition("test", 256, window, batch, shift=shift))
        assert nats == pytest.approx([np.mean(costs) for costs in expected.values()], abs=1e-10)
        assert counts == [3] * 256
        every = [cost for costs in expected.values() for cost in costs]
        late = [cost for position, costs in expected.items() if position > 224 for cost in costs]
        assert (figures["symbols"], figures["stretches"]) == (768, 3)
        assert figures["nats"] == pytest.approx(np.mean(every), abs=1e-10)
        assert figures["late_nats"] == pytest.approx(np.mean(late), abs=1e-10)
        assert figures["ppl"] == pytest.approx(math.exp(np.mean(every)))
        assert figures["bits"] == pytest.approx(np.mean(every) / math.log(2))


def test_documents_begin_anew_and_may_end_early() -> None:
    built, documents = network(), [(0, 90), (90, 91), (91, 131), (131, 400)]
    found = by_hand(built, SYMBOLS, [(0, 89), (91, 130), (131, 231)], 1)  # of a document of one symbol nothing
    for window, batch in ((7, 3), (32, 2), (100, 1)):
        figures, nats, counts = measured(built, LossByPosition("test", 100, window, batch), documents=documents)
        assert nats == pytest.approx([np.mean(costs) for costs in found.values()], abs=1e-10)
        assert counts == [len(costs) for costs in found.values()] == [3] * 39 + [2] * 50 + [1] * 11
        assert (figures["symbols"], figures["stretches"]) == (228, 3)


def test_the_lines_of_no_knowledge() -> None:
    """Equal chances for all, and the entropy of what is to be predicted, whatever the network says."""
    symbols = np.array([0] * 50 + [1] * 25 + [2] * 26, np.uint8)
    built = copy(network())
    built.__class__ = Uniform
    figures, nats, _ = measured(built, LossByPosition("test", 100, 10), symbols)
    shares = np.array([49, 25, 26]) / 100
    assert figures["unigram_nats"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert figures["uniform_nats"] == math.log(VOCABULARY) == pytest.approx(figures["nats"])
    assert nats == pytest.approx([math.log(VOCABULARY)] * 100)


def test_a_limit_is_spread_evenly_and_progress_is_told() -> None:
    built, told = network("mamba"), []
    _, nats, counts = measured(
        built, LossByPosition("test", 100, 50, 2, limit=3), progress=lambda *done: told.append(done)
    )
    expected = by_hand(built, SYMBOLS, [(0, 100), (300, 400), (600, 700)], 1)
    assert nats == pytest.approx([np.mean(costs) for costs in expected.values()], abs=1e-10)
    assert (counts, told) == ([3] * 100, [(2, 3), (3, 3)])


def test_memory_is_flat_in_the_length() -> None:
    """What tensors hold at the last window, without what is measured: two numbers for each position."""
    symbols = np.resize(SYMBOLS, 2000)

    def held(length: int) -> int:
        built, calls, found = copy(network("mamba")), 0, 0
        predicted = built.predicted

        def watched(*given: Any) -> torch.Tensor:
            nonlocal calls, found
            calls += 1
            if calls == length // 20:
                real = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
                storages = [one.untyped_storage() for one in real if one.device.type == "cpu"]
                found = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
            return predicted(*given)

        built.predicted = watched
        gc.collect()
        measured(built, LossByPosition("test", length, 20, 1, limit=1), symbols)
        return found - 16 * length

    assert held(100) > 1000
    assert abs(held(1500) - held(100)) < 1000


def test_what_is_open_is_as_in_training() -> None:
    settings = {"data": {"length": 128}}
    assert LossByPosition().completed(settings).window == 128
    assert LossByPosition(length=100).completed(settings).window == 100
    assert LossByPosition(window=2048, limit=0).completed(settings) == LossByPosition(window=2048)


@pytest.mark.parametrize(
    ("measure", "documents", "says"),
    [
        (
            LossByPosition("test", 1000, 10),
            None,
            r"measure\.length=1000 is more than the 1000 symbols of the test split of mine",
        ),
        (LossByPosition("test", 999, 10, shift=2), None, r"measure\.length=999 is more"),
        (LossByPosition("test", 5, 10), None, r"measure\.window=10 is more than measure\.length=5"),
        (LossByPosition("test", 5, 5), [(0, 1), (1, 2)], r"measure\.length=5 is more"),
    ],
)
def test_what_does_not_fit_is_one_line(measure: LossByPosition, documents: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        measure.check(data_of(SYMBOLS, documents))
    LossByPosition("test", 999, 10).check(data_of(SYMBOLS))


def test_other_data_and_other_networks_are_refused() -> None:
    with pytest.raises(SettingError, match="measure=loss_by_position needs a corpus, and toy is none"):
        LossByPosition().check(SimpleNamespace(facts={"name": "toy"}))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="needs a language model"):
        LossByPosition().check_network(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(("name", "value"), [("shift", "3"), ("length", "0"), ("split", "dev"), ("batch", "0")])
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^measure.{name}={value} "):
        composed([f"measure.{name}={value}", "measure=loss_by_position"], "measure")
