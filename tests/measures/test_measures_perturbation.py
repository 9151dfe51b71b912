"""A small change of state and input, and how fast it is forgotten: against two passes, and curves made by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.measures import Perturbation, Subject
from diffmamba.measures.perturbation import _gain, fit
from diffmamba.mixers import Difference, Mamba2, Single
from diffmamba.runs.execution import work_of
from diffmamba.validation import validate
from tests.models.conftest import build  # noqa: F401 - a fixture


def measured(network, **settings):
    rows = list(Perturbation(**settings).rows(Subject(network.eval(), None)))
    return {row.measure: row.value for row in rows if not row.coordinates}, rows


@pytest.mark.parametrize("rate", [-0.5, -0.01, 0.02])
def test_the_rate_of_an_exponential_is_found(rate):
    at = np.arange(400)
    slope, straight = fit(3 * np.exp(rate * at) + (at < 100), 0.0)  # something else at first
    assert (slope, straight) == pytest.approx((rate, 1.0))


@pytest.mark.parametrize("name", ["perturbation", "free_running"])
def test_the_record_says_float64_and_operators_that_lack_it_are_refused(name):
    settings = composed(["weights=fresh", f"measure={name}", "model=mamba", "data=pydoc8", "trainer=cpu"], "measure")
    found = work_of(settings).execution
    assert (found.precision, found.arithmetic) == ("32-true", "64-true")
    assert found.operators(torch.device("cpu"))["backend"].startswith("torch (")
    for backend in ("cpu", "cuda"):
        with pytest.raises(SettingError, match=f"^model.backend={backend} has no float64"):
            replace(found, backend=backend).check(here=True)


def test_a_deviation_below_rounding_does_not_count():
    at = np.arange(400)
    slope, _ = fit(np.maximum(np.exp(-0.5 * at), 1e-14), 1e-13)
    assert slope == pytest.approx(-0.5)
    gone, _ = fit(np.array([1.0, 0.0, 0.0]), 1e-13)
    assert gone == pytest.approx(np.log(1e-13))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_curve_that_is_too_short_has_no_rate(steps):
    assert np.isnan(fit(np.exp(-0.5 * np.arange(steps)), 1e-13)).all()


@pytest.mark.parametrize(
    ("measure", "setting"),
    [
        *(("Perturbation", setting) for setting in ({"size": 1e-30}, {"size": 100.0}, {"steps": 2})),
        *(("FreeRunning", setting) for setting in ({"size": 1e-15}, {"size": 1.0}, {"steps": 2})),
    ],
)
def test_settings_that_would_give_a_false_rate_are_refused(measure, setting):
    ((name, value),) = setting.items()
    plain = {"measure": {"_target_": f"diffmamba.measures.{measure}", name: value}}
    with pytest.raises(SettingError, match=rf"^measure\.{name}={value} must be a .*number of at least"):
        validate(plain, None, OmegaConf.create(plain))


@torch.no_grad()
def test_it_is_the_difference_of_two_passes_and_shrinks_as_the_exponent_says(build):  # noqa: F811
    """With one head and one number per channel the state has a single exponent."""
    network = build("model=mamba", "model.layer=[mixer]", "scale.headdim=64", "scale.d_state=1")
    figures, rows = measured(network, steps=300, settle=20)
    assert figures["blocks"] == 1
    assert figures["exponent"] == figures["rate"] == pytest.approx(figures["bound"], rel=0.2)
    assert figures["exponent"] < 0
    assert (figures["gain"], figures["gain_bound"]) == (1, 1)
    curve = [row.value for row in rows if row.measure == "deviation"]
    assert len(curve) == 300
    assert max(curve) == pytest.approx(figures["peak"])
    smaller = [row.value for row in measured(network, steps=300, settle=20, size=1e-6)[1] if row.measure == "deviation"]
    assert smaller == pytest.approx(curve, rel=0.05, abs=1e-8)  # it is the linear response, in units of ε


@pytest.mark.parametrize("words", [["model=diff_mamba"], ["model=diff_s6", "model.ssm=mamba1"]], ids=" ".join)
def test_a_difference_of_branches_has_at_most_the_gain_1_plus_lambda(build, words):  # noqa: F811
    network = build(*words)
    weights = [weight.clone() for weight in network.parameters()]
    figures, rows = measured(network, steps=64, settle=8)
    gains = {
        name: [row.value for row in rows if row.measure == name and row.coordinates] for name in Perturbation.metrics
    }
    assert len(gains["gain"]) == figures["blocks"] == 2
    assert all(0 < gain <= bound for gain, bound in zip(gains["gain"], gains["gain_bound"], strict=True))
    weighed = [1 + block.layer.combine.weight().item() for block in network.backbone.blocks[:2]]
    assert gains["gain_bound"] == pytest.approx(weighed, rel=1e-6)
    assert not any(hook for block in network.backbone.blocks[:2] for hook in block.layer.combine._forward_pre_hooks)
    assert all(map(torch.equal, weights, network.parameters()))


@pytest.mark.parametrize(("sign", "expected"), [(-1, lambda weight: abs(1 - weight)), (1, lambda weight: 1 + weight)])
@pytest.mark.parametrize("scope", ["block", "ssm"])
@torch.no_grad()
def test_branches_that_deviate_alike_have_the_gain_of_their_weights(scope, sign, expected):
    mixer = Mamba2(8, 3, 4, 3, combine=partial(Difference, scope=scope, sign=sign)).double()
    half = torch.randn(2, 5, 16, dtype=torch.float64)
    weight = torch.randn(8, 16, dtype=torch.float64)
    gain, bound = _gain(mixer.combine, half.repeat(1, 1, 2), weight if scope == "ssm" else weight.repeat(1, 2))
    λ = mixer.combine.weight().item()
    assert (gain, bound) == pytest.approx((expected(λ), 1 + λ))
    unequal = torch.cat([half, torch.zeros_like(half)], dim=-1)
    other = weight if scope == "ssm" else torch.cat([weight, torch.randn(8, 16, dtype=torch.float64)], dim=1)
    assert _gain(mixer.combine, unequal, other)[0] == pytest.approx(1)
    assert _gain(Single(8, 16, 3, 3), half, weight) == (1, 1)


def test_a_network_without_state_space_layers_is_refused(build):  # noqa: F811
    with pytest.raises(SettingError, match=r"^measure=perturbation needs state-space layers"):
        Perturbation().check_network(build("model=transformer"))
