"""The Mamba-1 mixer by itself: where it starts, what it refuses, and that decoding is the parallel form."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.mixers import Difference, Mamba1, Mamba2, Single, mamba

BLOCK, SSM = (partial(Difference, scope=scope) for scope in ("block", "ssm"))
EVERY_COMBINATION = pytest.mark.parametrize("combine", [Single, BLOCK, SSM], ids=["vanilla", "block", "ssm"])


@EVERY_COMBINATION
def test_initial_decay_and_step(combine: partial) -> None:
    """The facts: -A = 1, 2, ..., N in every channel, dt log-uniform in [1e-3, 1e-1], D = 1."""
    torch.manual_seed(0)
    mixer = Mamba1(32, 1, d_state=16, expand=64, combine=combine)
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(mixer.d_inner, -1))
    assert (mixer.D == 1).all()
    dt = F.softplus(mixer.dt_proj.bias)
    assert 0.999e-3 <= dt.min() <= 1.1e-3
    assert 0.9e-1 <= dt.max() <= 1.001e-1
    assert dt.log10().mean().item() == pytest.approx(-2, abs=0.05)


@EVERY_COMBINATION
@pytest.mark.parametrize(("d_model", "dt_rank"), [(16, 1), (32, 2), (33, 3)])
def test_initial_projections_are_those_of_one_branch(combine: partial, d_model: int, dt_rank: int) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(d_model, 1, d_state=8, expand=8, combine=combine)
    assert mixer.dt_proj.in_features == dt_rank
    for weight, inputs in [
        (mixer.in_proj.weight, d_model),
        (mixer.x_proj.weight, 8 * d_model),
        (mixer.dt_proj.weight, dt_rank),
        (mixer.out_proj.weight, 8 * d_model),
        (mixer.conv1d.weight, 4),
    ]:
        assert weight.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.05)
        assert weight.abs().max() <= inputs**-0.5


def test_names_and_shapes_are_those_of_mamba_ssm() -> None:
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
    ids=["vanilla", "block", "ssm"],
)
def test_parameters_counted_by_hand(combine: partial, own: int, extra: int) -> None:
    branches = 1 if combine is Single else 2
    in_proj, x_proj, dt_proj, A_and_D = 2 * 64 * 32, 34 * 64, 64 * 2 + 64, 64 * 17
    expected = branches * (in_proj + x_proj + dt_proj + A_and_D) + own * (64 * 5 + 32 * 64) + extra
    assert sum(parameter.numel() for parameter in Mamba1(32, 1, combine=combine).parameters()) == expected


@EVERY_COMBINATION
@pytest.mark.parametrize("sizes", [[41], [1, 40], [2, 33, 6], [32, 1, 8]], ids=str)
def test_pieces_and_steps_are_the_parallel_form(combine: partial, sizes: list[int]) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine).double()
    x = torch.randn(2, 45, 8, dtype=torch.float64)
    state, outputs = mixer.allocate_state(2), []
    for piece in x.split([*sizes, 4], dim=1)[:-1]:
        y, state = mixer.extend(piece, state)
        outputs.append(y)
    for t in range(41, 45):
        y, state = mixer.step(x[:, t], state)
        outputs.append(y[:, None])
    torch.testing.assert_close(torch.cat(outputs, dim=1), mixer(x), rtol=1e-10, atol=1e-10)


@EVERY_COMBINATION
def test_steps_from_nothing_are_the_parallel_form(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    state, outputs = mixer.allocate_state(2), []
    shapes = [tensor.shape for tensor in state]
    for t in range(9):
        y, state = mixer.step(x[:, t], state)
        assert [tensor.shape for tensor in state] == shapes
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, dim=1), mixer(x), rtol=1e-10, atol=1e-10)


@EVERY_COMBINATION
def test_gradients_pass_through_the_state(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine).double()
    x = torch.randn(2, 21, 8, dtype=torch.float64)
    gradients = []
    for sizes in ([21], [9, 1, 11]):
        state, outputs = mixer.allocate_state(2), []
        for piece in x.split(sizes, dim=1):
            y, state = mixer.extend(piece, state)
            outputs.append(y)
        gradients.append(torch.autograd.grad(torch.cat(outputs, dim=1).square().sum(), list(mixer.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@EVERY_COMBINATION
def test_a_mixer_in_bfloat16_decodes(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine).bfloat16()
    x = torch.randn(2, 20, 8, dtype=torch.bfloat16)
    expected = mixer(x)
    _, state = mixer.extend(x[:, :19], mixer.allocate_state(2))
    y, (conv_state, ssm_state) = mixer.step(x[:, 19], state)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert [t.dtype for t in mixer.allocate_state(2)] == [conv_state.dtype, ssm_state.dtype]
    assert ssm_state.dtype == torch.float32
    assert (y - expected[:, 19]).abs().max() <= 0.05 * expected.abs().max()


@EVERY_COMBINATION
def test_bfloat16_autocast_is_close_and_trains(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine)
    x = torch.randn(2, 45, 8)
    expected = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x)
    assert (y - expected).abs().max() <= 0.05 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@EVERY_COMBINATION
def test_it_can_be_built_and_run_without_memory(combine: partial) -> None:
    with torch.device("meta"):
        mixer = Mamba1(8, 3, 5, combine=combine)
        y, state = mixer.extend(torch.empty(2, 9, 8), mixer.allocate_state(2))
        assert mixer(torch.empty(2, 9, 8)).shape == y.shape == (2, 9, 8)
        assert mixer.step(torch.empty(2, 8), state)[0].is_meta


@EVERY_COMBINATION
@torch.no_grad()
def test_later_positions_and_other_rows_leave_an_output_alone(combine: partial) -> None:
    torch.manual_seed(0)
    mixer = Mamba1(8, 3, 5, combine=combine).double()
    x = torch.randn(2, 40, 8, dtype=torch.float64)
    y = mixer(x)
    for cut in (1, 31, 32, 39):
        changed = x.clone()
        changed[0, cut:] += 1
        found = mixer(changed)
        torch.testing.assert_close(found[0, :cut], y[0, :cut], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1], y[1], rtol=0, atol=1e-12)
        assert ((found[0, cut:] - y[0, cut:]).abs().amax(-1) > 1e-6).all()


def test_the_name_of_the_scan_chooses_the_mixer() -> None:
    settings = {"d_model": 8, "depth": 1, "headdim": 4, "d_state": 3}
    one, two = (mamba(ssm, **settings, combine=BLOCK) for ssm in ("mamba1", "mamba2"))
    assert isinstance(one, Mamba1)
    assert isinstance(two, Mamba2)
    assert (one.branches, two.branches) == (2, 2)
    assert (one.d_state, two.d_state, two.headdim) == (3, 3, 4)
    assert mamba("mamba2", **settings, groups=2).groups == 2


def test_before_the_width_is_known_the_choice_holds_only_what_the_mixer_uses() -> None:
    common = {"d_state": 3, "combine": BLOCK}
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
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ssm": "mamba3"}, r"^model\.ssm=mamba3 is not known; use one of mamba1, mamba2$"),
        ({"ssm": "mamba1", "groups": 2}, r"^model\.groups=2 needs heads .*; use 1, or ssm=mamba2$"),
    ],
)
def test_a_wrong_choice_is_refused_at_once(settings: dict, message: str, built: dict) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        mamba(**built | {"headdim": 4, "d_state": 3} | settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_scope_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"^scope=head .*block, ssm$"):
        Mamba1(8, 1, combine=partial(Difference, scope="head"))


def test_dt_rank_is_rounded_up() -> None:
    assert [Mamba1(width, 1, 2).dt_rank for width in (1, 16, 17, 1024)] == [1, 1, 2, math.ceil(1024 / 16)]
