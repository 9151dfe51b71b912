"""λ and its start: the weight of the second branch, in all its forms."""

import math
from functools import partial

import pytest
import torch

from diffmamba.mixers import Difference, Mamba2
from diffmamba.mixers.combine import Lambda, lambda_init


@pytest.mark.parametrize(("depth", "expected"), [(1, 0.2), (2, 0.355509), (4, 0.556058), (17, 0.795062)])
def test_lambda_init(depth: int, expected: float) -> None:
    assert lambda_init(depth) == pytest.approx(expected, abs=1e-6)


VECTORS = {"q1": [0.5, 1.0], "k1": [0.2, 0.3], "q2": [-1.0, 0.4], "k2": [0.1, 0.5]}


@pytest.mark.parametrize(
    ("form", "values", "expected"),
    [
        ("scalar", {"bar": [0.4]}, [1 / (1 + math.exp(-0.4)) + 0.2]),
        ("reparam", {"bar": [0.1, -0.5, 1.0]}, 1 / (1 + math.exp(-0.6)) + 0.2),
        ("reparam_bounded", {"bar": [0.1, -0.5, 1.0]}, 1 / (1 + math.exp(-0.6 / math.sqrt(3))) + 0.2),
        ("channel", {"bar": [0.1, -0.5, 1.0]}, [1 / (1 + math.exp(-bar)) + 0.2 for bar in (0.1, -0.5, 1.0)]),
        ("exp", VECTORS, math.exp(0.4) - math.exp(0.1) + 0.2),
        ("exp_printed", VECTORS, math.exp(0.4) - math.exp(0.1) - 0.2),
        ("fixed", {}, 0.2),
    ],
)
def test_lambda_is_its_formula_also_under_autocast(
    form: str, values: dict[str, object], expected: float | list[float]
) -> None:
    weight = Lambda(form, channels=3, d_state=2, initial=0.2)
    assert set(weight.state_dict()) == set(values)
    weight.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            torch.testing.assert_close(torch.as_tensor(weight()), torch.tensor(expected))


@pytest.mark.parametrize(
    ("form", "deviation"), [("scalar", 1.0), ("reparam", 1.0), ("reparam_bounded", 1.0), ("channel", 1.0), ("exp", 0.1)]
)
def test_lambda_starts_normal(form: str, deviation: float) -> None:
    torch.manual_seed(0)
    size = 1 if form == "scalar" else 2000
    weights = [Lambda(form, channels=size, d_state=size, initial=0.2) for _ in range(2000 // size)]
    for drawn in zip(*(weight.parameters() for weight in weights), strict=True):
        assert torch.cat(drawn).mean().item() == pytest.approx(0, abs=0.1 * deviation)
        assert torch.cat(drawn).std().item() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(("scope", "channels"), [("block", 8), ("ssm", 16)])
def test_channels_of_lambda_and_outer_norm_are_those_of_the_scope(scope: str, channels: int) -> None:
    mixer = Mamba2(8, 1, 4, 3, combine=partial(Difference, scope=scope, lambda_form="channel"))
    shapes = {name: tuple(parameter.shape) for name, parameter in mixer.combine.named_parameters()}
    assert shapes == {"weight.bar": (channels,), "outer_norm.weight": (channels,)}
