"""The mixer by itself: where it starts, what it refuses, and that decoding is the parallel form."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.mixers import Difference, Mamba2, Single
from diffmamba.mixers.combine import Lambda, lambda_init

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))


@pytest.mark.parametrize(("depth", "expected"), [(1, 0.2), (2, 0.355509), (4, 0.556058), (17, 0.795062)])
def test_lambda_init(depth: int, expected: float) -> None:
    assert lambda_init(depth) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "values", "expected"),
    [
        ("scalar", {"bar": [0.4]}, [1 / (1 + math.exp(-0.4)) + 0.2]),
        ("reparam", {"bar": [0.1, -0.5, 1.0]}, 1 / (1 + math.exp(-0.6)) + 0.2),
        ("channel", {"bar": [0.1, -0.5, 1.0]}, [1 / (1 + math.exp(-bar)) + 0.2 for bar in (0.1, -0.5, 1.0)]),
        (
            "exp",
            {"q1": [0.5, 1.0], "k1": [0.2, 0.3], "q2": [-1.0, 0.4], "k2": [0.1, 0.5]},
            math.exp(0.4) - math.exp(0.1) + 0.2,
        ),
        (
            "exp_printed",
            {"q1": [0.5, 1.0], "k1": [0.2, 0.3], "q2": [-1.0, 0.4], "k2": [0.1, 0.5]},
            math.exp(0.4) - math.exp(0.1) - 0.2,
        ),
        ("fixed", {}, 0.2),
    ],
)
def test_lambda_is_its_formula(form: str, values: dict[str, object], expected: float | list[float]) -> None:
    weight = Lambda(form, channels=3, d_state=2, initial=0.2)
    assert set(weight.state_dict()) == set(values)
    weight.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    torch.testing.assert_close(torch.as_tensor(weight()), torch.tensor(expected))


@pytest.mark.parametrize(("form", "deviation"), [("reparam", 1.0), ("channel", 1.0), ("exp", 0.1)])
def test_lambda_starts_normal(form: str, deviation: float) -> None:
    torch.manual_seed(0)
    for parameter in Lambda(form, channels=10_000, d_state=10_000, initial=0.2).parameters():
        assert parameter.mean().item() == pytest.approx(0, abs=4 * deviation / 100)
        assert parameter.std().item() == pytest.approx(deviation, rel=0.05)


def test_scalar_lambda_starts_normal() -> None:
    torch.manual_seed(0)
    bars = torch.tensor([Lambda("scalar", 3, 2, 0.2).bar.item() for _ in range(2000)])
    assert bars.mean().item() == pytest.approx(0, abs=0.1)
    assert bars.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("scope", "channels"), [("block", 8), ("ssm", 16)])
def test_channels_of_lambda_and_outer_norm_are_those_of_the_scope(scope: str, channels: int) -> None:
    mixer = Mamba2(8, 1, 4, 3, combine=partial(Difference, scope=scope, lambda_form="channel"))
    shapes = {name: tuple(parameter.shape) for name, parameter in mixer.combine.named_parameters()}
    assert shapes == {"weight.bar": (channels,), "outer_norm.weight": (channels,)}


@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_initial_decay_and_step(combine: partial) -> None:
    """The facts: -A uniform in [1, 16], dt log-uniform in [1e-3, 1e-1], D = 1."""
    torch.manual_seed(0)
    mixer = Mamba2(32, 1, 1, 1, expand=128, combine=combine)
    decay, dt = mixer.A_log.exp(), F.softplus(mixer.dt_bias)
    assert 1 <= decay.min() <= 1.1
    assert 15.9 <= decay.max() <= 16.001
    assert decay.mean().item() == pytest.approx(8.5, abs=0.3)
    assert 0.999e-3 <= dt.min() <= 1.1e-3
    assert 0.9e-1 <= dt.max() <= 1.001e-1
    assert dt.log10().mean().item() == pytest.approx(-2, abs=0.05)
    assert (mixer.D == 1).all()
    assert (mixer.norm.weight == 1).all()


@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_initial_projections_are_those_of_one_branch(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba2(16, 1, 8, 4, expand=4, combine=combine)
    for weight, inputs in [(mixer.in_proj.weight, 16), (mixer.out_proj.weight, 64), (mixer.conv1d.weight, 4)]:
        assert weight.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.02)
        assert weight.abs().max() <= inputs**-0.5


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_steps_are_the_parallel_form(combine: partial, groups: int) -> None:
    torch.manual_seed(0)
    mixer = Mamba2(8, 3, 4, 5, groups=groups, combine=combine).double()
    x = torch.randn(2, 41, 8, dtype=torch.float64)
    expected = mixer(x)
    state = mixer.allocate_state(2)
    outputs = []
    for piece in (x[:, :1], x[:, 1:3], x[:, 3:37]):
        y, state = mixer.extend(piece, state)
        outputs.append(y)
    for t in range(37, 41):
        y, state = mixer.step(x[:, t], state)
        outputs.append(y[:, None])
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_steps_from_nothing_are_the_parallel_form(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba2(8, 3, 4, 5, combine=combine).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    state, outputs = mixer.allocate_state(2), []
    for t in range(9):
        y, state = mixer.step(x[:, t], state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, dim=1), mixer(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_a_mixer_in_bfloat16_decodes(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba2(8, 3, 4, 5, combine=combine).bfloat16()
    x = torch.randn(2, 20, 8, dtype=torch.bfloat16)
    expected = mixer(x)
    _, state = mixer.extend(x[:, :19], mixer.allocate_state(2))
    y, _ = mixer.step(x[:, 19], state)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert (y - expected[:, 19]).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("combine", [Single, BLOCK, SSM])
def test_bfloat16_autocast_is_close_and_trains(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba2(8, 3, 4, 5, combine=combine)
    x = torch.randn(2, 45, 8)
    expected = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x)
    assert (y - expected).abs().max() <= 0.05 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"headdim": 3}, r"model\.headdim=3 must divide .* = 16; these would do: 1, 2, 4, 8, 16$"),
        ({"headdim": 0}, r"model\.headdim=0 must divide"),
        ({"headdim": 32}, r"model\.headdim=32 must divide"),
        ({"groups": 3}, r"groups=3 must divide the number of heads = 4; these would do: 1, 2, 4$"),
        ({"groups": 0}, r"groups=0 must divide"),
        ({"combine": partial(Difference, scope="head")}, r"scope=head .*block, ssm$"),
        (
            {"combine": partial(BLOCK, lambda_form="sum")},
            r"lambda_form=sum .*scalar, reparam, channel, exp, exp_printed, fixed$",
        ),
        ({"combine": partial(BLOCK, sign=0)}, r"sign=0 .*-1 or 1$"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(settings: dict, message: str) -> None:
    sizes = {"d_model": 8, "depth": 1, "headdim": 4, "d_state": 3}
    with pytest.raises(SettingError, match=message) as caught:
        Mamba2(**sizes | settings)
    assert "\n" not in str(caught.value)
