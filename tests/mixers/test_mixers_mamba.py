"""The Mamba-1 and Mamba-2 mixers by themselves: where they start, how they decode, and what they refuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diffmamba.errors import SettingError
from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer, Single, mamba
from diffmamba.ops import selective_scan_sequential, ssd_sequential

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))
COMBINATIONS = {"vanilla": Single, "block": BLOCK, "ssm": SSM}
EVERY_COMBINATION = pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
MAMBA1, MAMBA2 = partial(Mamba1, 8, 3, 5), partial(Mamba2, 8, 3, 4, 5)
MIXERS = {f"mamba1 {name}": partial(MAMBA1, combine=combine) for name, combine in COMBINATIONS.items()}
MIXERS |= {f"mamba2 {name}": partial(MAMBA2, combine=combine) for name, combine in COMBINATIONS.items()}
MIXERS |= {f"mamba2 {name}, two groups": partial(MIXERS[f"mamba2 {name}"], groups=2) for name in ("block", "ssm")}
EVERY_MIXER = pytest.mark.parametrize("build", MIXERS.values(), ids=MIXERS)


@EVERY_MIXER
@pytest.mark.parametrize("path", ["torch", "cpu"], indirect=True)
def test_checkpointing_gives_the_same_gradients(build: Callable[[], Mixer], path: str) -> None:
    """PyTorch's form without reentrance, which allows that what was saved is asked for once."""
    torch.manual_seed(0)
    mixer, x = build(), torch.randn(2, 9, 8)
    gradients = []
    for call in (mixer, lambda x: checkpoint(mixer, x, use_reentrant=False)):
        gradients.append(torch.autograd.grad(call(x).square().sum(), list(mixer.parameters())))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


# --- what goes into the scan


@EVERY_MIXER
@torch.no_grad()
def test_the_scan_of_what_goes_into_it_gives_the_output(build: Callable[[], Mixer]) -> None:
    """Also from a state on. dt is the same when it is asked for alone."""
    torch.manual_seed(0)
    mixer, x = build().double(), torch.randn(2, 9, 8, dtype=torch.float64)
    _, state = mixer.extend(x[:, :4], mixer.allocate_state(2))
    for inputs, before in ((x, None), (x[:, 4:], state)):
        found, h = mixer.scan_of(inputs, before), None if before is None else before[1]
        torch.testing.assert_close(mixer.time_steps(inputs, before), found.dt, rtol=0, atol=1e-12)
        assert (found.dt > 0).all()
        assert (found.A < 0).all()
        assert found.z.shape == found.x.shape
        if isinstance(mixer, Mamba1):
            y, _ = selective_scan_sequential(found.x, found.dt, found.A, found.B, found.C, found.D, h)
            u = y * F.silu(found.z)
        else:
            y, _ = ssd_sequential(found.x, found.dt, found.A, found.B, found.C, found.D, h)
            gated = (y * F.silu(found.z)).flatten(-2).unflatten(-1, (mixer.groups, -1))
            gain = mixer.norm.weight.repeat(mixer.sharing)
            u = F.rms_norm(gated, gated.shape[-1:], eps=mixer.norm.eps).flatten(-2) * gain
        expected = mixer(x)[:, 9 - inputs.shape[1] :]
        torch.testing.assert_close(mixer.combine(u, mixer.out_proj.weight), expected, rtol=0, atol=1e-12)


# --- where they start


@EVERY_COMBINATION
def test_mamba1_starts_with_its_decay_and_step(combine: Any) -> None:
    """-A = 1, 2, ..., N in every channel, dt log-uniform in [1e-3, 1e-1], D = 1."""
    torch.manual_seed(0)
    mixer = Mamba1(32, 1, d_state=16, expand=64, combine=combine)
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(mixer.d_inner, -1))
    assert (mixer.D == 1).all()
    assert_steps_start_log_uniform(mixer.dt_proj.bias)


@EVERY_COMBINATION
def test_mamba2_starts_with_its_decay_and_step(combine: Any) -> None:
    """-A uniform in [1, 16], dt log-uniform in [1e-3, 1e-1], D and the gain of the norm 1."""
    torch.manual_seed(0)
    mixer = Mamba2(32, 1, 1, 1, expand=128, combine=combine)
    decay = mixer.A_log.exp()
    assert 1 <= decay.min() <= 1.1
    assert 15.9 <= decay.max() <= 16.001
    assert decay.mean().item() == pytest.approx(8.5, abs=0.3)
    assert (mixer.D == 1).all()
    assert (mixer.norm.weight == 1).all()
    assert_steps_start_log_uniform(mixer.dt_bias)


def assert_steps_start_log_uniform(bias: Tensor) -> None:
    dt = F.softplus(bias)
    assert 0.999e-3 <= dt.min() <= 1.1e-3
    assert 0.9e-1 <= dt.max() <= 1.001e-1
    assert dt.log10().mean().item() == pytest.approx(-2, abs=0.05)


@EVERY_COMBINATION
def test_projections_start_as_those_of_one_branch(combine: Any) -> None:
    torch.manual_seed(0)
    one, two = Mamba1(33, 1, d_state=8, expand=8, combine=combine), Mamba2(16, 1, 8, 4, expand=4, combine=combine)
    for weight, inputs in [
        (one.in_proj.weight, 33),
        (one.x_proj.weight, 8 * 33),
        (one.dt_proj.weight, 3),  # ⌈33 / 16⌉
        (one.out_proj.weight, 8 * 33),
        (one.conv1d.weight, 4),
        (two.in_proj.weight, 16),
        (two.out_proj.weight, 64),
        (two.conv1d.weight, 4),
    ]:
        assert weight.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.05)
        assert weight.abs().max() <= inputs**-0.5


def test_dt_rank_is_rounded_up() -> None:
    assert [Mamba1(width, 1, 2).dt_rank for width in (1, 16, 17, 1024)] == [1, 1, 2, 64]


def test_names_and_shapes_of_mamba1_are_those_of_mamba_ssm() -> None:
    """Of its `Mamba`, so that weights go from one to the other; here d_inner 64, dt rank 2, 16 states."""
    expected = {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (34, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }
    assert {name: tuple(weight.shape) for name, weight in Mamba1(32, 1).state_dict().items()} == expected


@pytest.mark.parametrize(
    ("combine", "own", "extra"),
    [(Single, 1, 0), (BLOCK, 2, 1 + 32), (SSM, 1, 1 + 64)],  # λ and the outer norm's gain
    ids=COMBINATIONS,
)
def test_parameters_of_mamba1_counted_by_hand(combine: Any, own: int, extra: int) -> None:
    branches = 1 if combine is Single else 2
    in_proj, x_proj, dt_proj, A_and_D = 2 * 64 * 32, 34 * 64, 64 * 2 + 64, 64 * 17
    expected = branches * (in_proj + x_proj + dt_proj + A_and_D) + own * (64 * 5 + 32 * 64) + extra
    assert sum(parameter.numel() for parameter in Mamba1(32, 1, combine=combine).parameters()) == expected


# --- decoding


def decoded(mixer: Mixer, x: Tensor, sizes: list[int]) -> Tensor:
    """Pieces of these sizes one after the other: by a step where the size is 0, which stands for one position."""
    state, outputs, start = mixer.allocate_state(len(x)), [], 0
    for size in sizes:
        if size:
            y, state = mixer.extend(x[:, start : start + size], state)
        else:
            y, state = mixer.step(x[:, start], state)
            y = y[:, None]
        outputs.append(y)
        start += size or 1
    return torch.cat(outputs, dim=1)


@EVERY_MIXER
@pytest.mark.parametrize("sizes", [[0] * 9, [1, 40, 0], [2, 33, 6, 0, 0]], ids=str)
def test_pieces_and_steps_are_the_parallel_form(build: Callable[[], Mixer], sizes: list[int]) -> None:
    torch.manual_seed(0)
    mixer = build().double()
    x = torch.randn(2, sum(size or 1 for size in sizes), 8, dtype=torch.float64)
    torch.testing.assert_close(decoded(mixer, x, sizes), mixer(x), rtol=1e-10, atol=1e-10)


@EVERY_MIXER
def test_gradients_pass_through_the_state(build: Callable[[], Mixer]) -> None:
    torch.manual_seed(0)
    mixer = build().double()
    x = torch.randn(2, 21, 8, dtype=torch.float64)
    whole, pieces = (
        torch.autograd.grad(decoded(mixer, x, sizes).square().sum(), list(mixer.parameters()))
        for sizes in ([21], [9, 0, 11])
    )
    for one, other in zip(whole, pieces, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("path")
@EVERY_MIXER
def test_a_mixer_in_bfloat16_decodes(build: Callable[[], Mixer]) -> None:
    torch.manual_seed(0)
    mixer = build().bfloat16()
    x = torch.randn(2, 20, 8, dtype=torch.bfloat16)
    expected = mixer(x)
    before = mixer.allocate_state(2)
    _, state = mixer.extend(x[:, :19], before)
    y, after = mixer.step(x[:, 19], state)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert [(t.dtype, t.shape) for t in before] == [(t.dtype, t.shape) for t in after]
    assert after[1].dtype == torch.float32
    assert (y - expected[:, 19]).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.usefixtures("path")
@EVERY_MIXER
def test_bfloat16_autocast_is_close_and_trains(build: Callable[[], Mixer]) -> None:
    torch.manual_seed(0)
    mixer = build()
    x = torch.randn(2, 45, 8)
    expected = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x)
    assert (y - expected).abs().max() <= 0.05 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@EVERY_MIXER
def test_it_can_be_built_and_run_without_memory(build: Callable[[], Mixer]) -> None:
    with torch.device("meta"):
        mixer = build()
        y, state = mixer.extend(torch.empty(2, 9, 8), mixer.allocate_state(2))
        assert mixer(torch.empty(2, 9, 8)).shape == y.shape == (2, 9, 8)
        assert mixer.step(torch.empty(2, 8), state)[0].is_meta


@EVERY_MIXER
@torch.no_grad()
def test_later_positions_and_other_rows_leave_an_output_alone(build: Callable[[], Mixer]) -> None:
    torch.manual_seed(0)
    mixer = build().double()
    x = torch.randn(2, 40, 8, dtype=torch.float64)
    y = mixer(x)
    for cut in (1, 31, 32, 39):
        changed = x.clone()
        changed[0, cut:] += 1
        found = mixer(changed)
        torch.testing.assert_close(found[0, :cut], y[0, :cut], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1], y[1], rtol=0, atol=1e-12)
        assert ((found[0, cut:] - y[0, cut:]).abs().amax(-1) > 1e-6).all()


# --- the choice between the two, and bad settings


def test_the_name_of_the_scan_chooses_the_mixer() -> None:
    settings = {"d_model": 8, "depth": 1, "headdim": 4, "d_state": 3}
    one, two = (mamba(ssm, **settings, combine=BLOCK) for ssm in ("mamba1", "mamba2"))
    assert isinstance(one, Mamba1)
    assert isinstance(two, Mamba2)
    assert (one.branches, two.branches) == (2, 2)
    assert (one.d_state, two.d_state, two.headdim) == (3, 3, 4)
    assert mamba("mamba2", **settings, groups=2).groups == 2


def test_before_the_width_is_known_the_choice_holds_only_what_the_mixer_uses() -> None:
    common = {"d_state": 3, "d_conv": 4, "expand": 2, "combine": BLOCK}
    one, two = (mamba(ssm, headdim=4, **common) for ssm in ("mamba1", "mamba2"))
    assert (one.func, one.args, one.keywords) == (Mamba1, (), common)
    assert (two.func, two.args, two.keywords) == (Mamba2, (), {"headdim": 4, "groups": 1} | common)
    for chosen, ssm in ((one, "mamba1"), (two, "mamba2")):
        built = []
        for build in (chosen, partial(mamba, ssm, headdim=4, **common)):
            torch.manual_seed(0)
            built.append(build(d_model=8, depth=2))
        assert type(built[0]) is type(built[1])
        for early, late in zip(*(mixer.parameters() for mixer in built), strict=True):
            assert torch.equal(early, late)


@pytest.mark.parametrize("built", [{}, {"d_model": 8, "depth": 1}], ids=["chosen", "built"])
def test_a_wrong_choice_is_refused_at_once(built: dict) -> None:
    with pytest.raises(SettingError, match=r"^model\.groups=2 needs heads, .*; use 1, or ssm=mamba2$") as caught:
        mamba("mamba1", headdim=4, d_state=3, groups=2, **built)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"headdim": 3}, r"model\.headdim=3 must divide .* = 16; valid values: 1, 2, 4, 8, 16$"),
        ({"headdim": 0}, r"model\.headdim=0 must divide"),
        ({"headdim": 32}, r"model\.headdim=32 must divide"),
        ({"groups": 3}, r"groups=3 must divide the number of heads = 4; valid values: 1, 2, 4$"),
        ({"groups": 0}, r"groups=0 must divide"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        Mamba2(**{"d_model": 8, "depth": 1, "headdim": 4, "d_state": 3} | settings)
    assert "\n" not in str(caught.value)
