"""The implicit attention of mixers: by its matrices alone one gets what the mixer itself gives."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from diffmamba.errors import SettingError
from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer, Single, attention
from diffmamba.mixers.implicit_attention import attended, matrices, require_known
from diffmamba.ops import selective_scan_sequential, ssd_sequential

LENGTH, D_MODEL = 11, 12
ALL = torch.arange(LENGTH)
WAYS = {
    "vanilla": Single,
    "vanilla, outer norm": partial(Single, outer_norm=True),
    "ssm": partial(Difference, scope="ssm"),
    "ssm, without norm, by channel": partial(Difference, scope="ssm", outer_norm=False, lambda_form="channel"),
    "ssm, by channel": partial(Difference, scope="ssm", lambda_form="channel"),
    "block": partial(Difference, scope="block"),
    "block, by channel": partial(Difference, scope="block", lambda_form="channel"),
    "block, added": partial(Difference, scope="block", outer_norm=False, sign=1),
}
MIXERS: dict[str, Callable[[], Mixer]] = {}
for _name, _combine in WAYS.items():
    MIXERS[f"mamba2 {_name}"] = partial(Mamba2, D_MODEL, 3, 6, 5, combine=_combine)
    MIXERS[f"mamba2 {_name}, two groups"] = partial(Mamba2, D_MODEL, 3, 6, 5, groups=2, combine=_combine)
    MIXERS[f"mamba1 {_name}"] = partial(Mamba1, D_MODEL, 3, 5, combine=_combine)
MAPS = {"one map": attention.OneMap, "two maps": attention.MapDifference}
MIXERS |= {name: partial(attention.Attention, D_MODEL, 3, 4, 12, combine=way) for name, way in MAPS.items()}
EVERY_MIXER = pytest.mark.parametrize("build", MIXERS.values(), ids=MIXERS)
STATE_SPACE = {name: build for name, build in MIXERS.items() if "map" not in name}
exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def opened(build: Callable[[], Mixer]) -> tuple[Mixer, Tensor]:
    """A mixer with random gains, in float64, and inputs."""
    torch.manual_seed(0)
    mixer = build().double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer, torch.randn(2, LENGTH, D_MODEL, dtype=torch.float64)


@pytest.mark.parametrize("build", STATE_SPACE.values(), ids=STATE_SPACE)
@torch.no_grad()
def test_the_rows_are_those_of_the_scan(build):
    mixer, x = opened(build)
    scan = mixer.scan_of(x)
    weights, run = matrices(scan, ALL), selective_scan_sequential if isinstance(mixer, Mamba1) else ssd_sequential
    y, _ = run(scan.x, scan.dt, scan.A, scan.B, scan.C, torch.zeros_like(scan.D))
    of_channels = "bhts,bsh->bth" if isinstance(mixer, Mamba1) else "bhts,bshp->bthp"
    exactly(torch.einsum(of_channels, weights, scan.x), y)


@EVERY_MIXER
@torch.no_grad()
def test_the_parts_of_the_output_add_up_to_it(build):
    mixer, x = opened(build)
    rows = torch.tensor([7, 0, 10])
    found, whole = attended(mixer, x, rows), attended(mixer, x, ALL)
    exactly(found.output.sum(2), mixer(x)[:, rows])
    exactly(found.output, whole.output[:, rows])
    for part, of_all in zip((*found.branches, found.difference), (*whole.branches, whole.difference), strict=True):
        if of_all is not None:
            exactly(part, of_all[:, :, rows])


@EVERY_MIXER
@torch.no_grad()
def test_no_position_takes_from_a_later_one(build):
    mixer, x = opened(build)
    found = attended(mixer, x, ALL)
    whole = found.output.norm(dim=-1)
    for weights in (*found.branches, *([] if found.difference is None else [found.difference]), whole):
        assert torch.equal(weights, weights.tril())
        assert (weights.diagonal(dim1=-2, dim2=-1) != 0).all()


@pytest.mark.parametrize("name", [name for name in MIXERS if "channel" not in name])
@torch.no_grad()
def test_the_difference_is_branch_1_minus_lambda_times_branch_2(name):
    mixer, x = opened(MIXERS[name])
    found, combine = attended(mixer, x, ALL), mixer.combine
    if len(found.branches) == 1:
        assert found.difference is None
        return
    factor = getattr(combine, "sign", -1) * combine.weight()
    exactly(found.difference, found.branches[0] + factor * found.branches[1])
    assert not torch.allclose(*found.branches)


@torch.no_grad()
def test_a_weight_for_each_channel_counts_as_the_mean_of_its_head():
    """The matrix of a head is the mean of those of its channels, and each of these has a λ of its own."""
    mixer, x = opened(MIXERS["mamba2 ssm, by channel"])
    found, by_channel = attended(mixer, x, ALL), mixer.combine.weight().view(-1, mixer.headdim)
    first, second = found.branches
    of_channels = [first - factor.view(-1, 1, 1) * second for factor in by_channel.unbind(1)]
    exactly(found.difference, torch.stack(of_channels).mean(0))


@torch.no_grad()
def test_each_branch_is_the_attention_of_a_mixer_with_its_weights_alone():
    """Branch 2 of a Diff-Mamba as a Mamba of its own."""
    mixer, x = opened(MIXERS["mamba2 block"])
    alone = Mamba2(D_MODEL, 3, 6, 5).double()
    names = ("A_log", "D", "dt_bias", "norm.weight", "conv1d.weight", "conv1d.bias")
    z, inner, b, c, dt = mixer.in_proj.weight.split([48, 48, 10, 10, 8])
    weights = {"in_proj.weight": torch.cat([one.chunk(2)[1] for one in (z, inner, b, c, dt)])}
    weights["out_proj.weight"] = mixer.out_proj.weight.chunk(2, dim=1)[1]
    for name in names:
        whole = mixer.get_parameter(name)
        own = [whole] if not name.startswith("conv1d") else whole.split([48, 10, 10])
        weights[name] = torch.cat([part.chunk(2)[1] for part in own])
    alone.load_state_dict(weights)
    exactly(attended(alone, x, ALL).branches[0], attended(mixer, x, ALL).branches[1])


@EVERY_MIXER
@torch.no_grad()
def test_weights_in_bfloat16_give_the_same_but_for_rounding(build):
    mixer, x = opened(build)
    rows = torch.tensor([10])
    mixer, x = mixer.bfloat16(), x.bfloat16()
    found, exact = attended(mixer, x, rows), attended(mixer.double(), x.double(), rows)
    assert found.output.dtype == found.branches[0].dtype == torch.float32
    assert (found.output - exact.output).norm() < 0.1 * exact.output.norm()


def test_another_mixer_is_refused():
    class Other(Mixer):
        pass

    class Average(torch.nn.Module):
        branches, shared = 2, False

        def __init__(self, **sizes):
            super().__init__()

    for mixer, told in ((Other(), "what Other attends to"), (Mamba2(12, 3, 6, 5, combine=Average), "what Average")):
        with pytest.raises(SettingError, match=rf"model\.mixers: it is not known {told}"):
            require_known(mixer)
    for build in MIXERS.values():
        require_known(build())
