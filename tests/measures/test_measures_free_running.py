"""The closed loop of a model that reads its own prediction: against its explicit Jacobian, and greedy text."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

from diffmamba.errors import SettingError
from diffmamba.measures import FreeRunning, Subject
from diffmamba.measures.free_running import ClosedLoop
from tests.models.conftest import VOCABULARY, build  # noqa: F401 - a fixture

SYMBOLS = np.random.default_rng(0).integers(0, VOCABULARY, 60).astype(np.uint8)
TINY = (
    "model.layer=[mixer]",
    "scale.n_layers=1",
    "model.d_model=4",
    "model.headdim=2",
    "model.d_conv=2",
    "scale.d_state=2",
)
SHORT = {"prompt": 8, "starts": 2, "settle": 40, "steps": 40, "greedy": 6}


def of(symbols):
    return SimpleNamespace(corpus=SimpleNamespace(split=lambda name: symbols), facts={"name": "made"})


def measured(network, **settings):
    return list(FreeRunning(**SHORT | settings).rows(Subject(network.eval(), of(SYMBOLS))))


def figures(rows):
    return {row.measure: row.value for row in rows if not row.coordinates}


def test_near_a_fixed_point_it_is_the_logarithm_of_the_spectral_radius(build):  # noqa: F811
    network = build(*TINY, "model=diff_mamba").double().eval()
    for block in network.backbone.blocks:  # forgets fast, so that the loop comes to its fixed point soon
        torch.nn.init.constant_(block.layer.dt_bias, -1.0)
    loop = ClosedLoop(network, torch.ones(1, dtype=torch.float64))
    with torch.no_grad():
        point = loop.after(torch.from_numpy(SYMBOLS[None, :8].astype(np.int64)))
        for _ in range(100):
            point = loop.step(point)
        assert (loop.step(point) - point).abs().max() < 1e-12
    of_step = jacobian(lambda x: loop.step(x[None])[0], point[0])
    expected = torch.linalg.eigvals(of_step).abs().max().log().item()
    found = figures(measured(network, starts=1, settle=100, steps=400, temperatures=(1.0,), greedy=0))
    assert found["exponent"] == pytest.approx(expected, abs=2e-3)
    assert "diverged" not in found


@torch.no_grad()
def test_a_step_of_the_loop_is_a_step_of_the_model_fed_with_its_mean_prediction(build):  # noqa: F811
    """At a low temperature the mean is the likeliest symbol, so the loop goes where greedy decoding goes."""
    network = build("model=diff_mamba").double().eval()
    network.embedding.weight *= 20  # sure of its predictions
    prompt = torch.from_numpy(SYMBOLS[:9].astype(np.int64))[None]
    loop = ClosedLoop(network, torch.full((1,), 1e-3, dtype=torch.float64))
    vector, symbols = loop.after(prompt), prompt
    for _ in range(5):
        following = network(symbols)[:, -1].argmax(-1)
        symbols = torch.cat([symbols, following[:, None]], dim=1)
        expected = loop.after(symbols)
        torch.testing.assert_close(vector[:, -32:], network.embedding.embed(following[None])[0], rtol=0, atol=1e-9)
        vector = loop.step(vector)
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-9)


def test_what_the_rows_say(build):  # noqa: F811
    network = build("model=mamba")
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    rows = measured(network, temperatures=(0.5, 2.0), starts=3)
    assert set(figures(rows)) == set(FreeRunning.metrics)
    for temperature in (0.5, 2.0):
        of_starts = [
            row.value
            for row in rows
            if row.measure == "exponent" and row.coordinates.keys() == {"temperature", "start"}
            if row.coordinates["temperature"] == temperature
        ]
        mean = [
            row.value for row in rows if row.measure == "exponent" and row.coordinates == {"temperature": temperature}
        ]
        assert mean == pytest.approx([np.mean(of_starts)])
        assert len(of_starts) == 3
        if temperature == 0.5:
            assert mean == [figures(rows)["exponent"]]
    alone = figures(measured(network, temperatures=(0.5,), starts=3))
    assert alone["exponent"] == pytest.approx(figures(rows)["exponent"], abs=0.02)  # other first directions
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@torch.no_grad()
def test_greedy_text_diverges_where_the_last_symbol_counts_alone(build):  # noqa: F811
    network = build("model=mamba")
    for block in network.backbone.blocks:  # without a memory, it repeats the symbol that it reads
        layer = block.layer
        torch.nn.init.zeros_((layer.out_proj if hasattr(layer, "out_proj") else layer[-1]).weight)
    network.embedding.weight.copy_(torch.eye(VOCABULARY, 32))
    short = {"temperatures": (1.0,), "settle": 0, "steps": 2}
    assert figures(measured(network, prompt=1, **short))["diverged"] == 1
    assert figures(measured(network, prompt=2, **short))["diverged"] == 0


def test_what_it_cannot_measure_is_refused(build):  # noqa: F811
    for words, told in (
        (["model=transformer"], "measure=free_running needs state-space layers, and this network has none"),
        (["model=transformer", "model.mixers.0._target_=diffmamba.mixers.Attention"], "measure=free_running needs"),
    ):
        with pytest.raises(SettingError, match=f"^{told}"):
            FreeRunning().check_network(build(*words))
    for settings, symbols, told in (
        ({"temperatures": ()}, SYMBOLS, r"measure\.temperatures=\[\] must have at least one temperature"),
        ({"prompt": 61}, SYMBOLS, r"measure\.prompt=61 is more than the 60 symbols of test"),
    ):
        with pytest.raises(SettingError, match=f"^{told}$"):
            FreeRunning(**settings).check(of(symbols))
