"""What is measured: the models of `conf/`, the authors' two blocks, and the floor of a mixer."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import VARIANTS, Scale, TwoBlocks, language_model, mixer
from benchmarks.passes import floor, off_by
from diffmamba.configuration import composed
from diffmamba.mixers import Mixer
from diffmamba.runs.work import shapes_of

SCALE = Scale(d_model=64, headdim=32, d_state=8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_what_conf_composes_at_the_asked_sizes(variant: str) -> None:
    smoke = composed([*VARIANTS[variant], "scale=smoke"])
    sizes = {key: smoke["scale"][key] for key in ("d_model", "headdim", "d_state", "n_layers")}
    expected = {name: weight.shape for name, weight in shapes_of(smoke, 27).named_parameters()}
    network = language_model(variant, Scale(**sizes), "meta")
    assert {name: weight.shape for name, weight in network.named_parameters()} == expected
    assert type(mixer(variant, Scale(**sizes), "meta")) is type(network.backbone.blocks[0].layer)


def test_sizes_are_those_of_the_scale() -> None:
    scale = Scale(d_model=32, headdim=16, d_state=4, n_layers=2, vocabulary=50)
    network = language_model("mamba", scale)
    layers = [block.layer for block in network.backbone.blocks if isinstance(block.layer, Mixer)]
    assert [(layer.headdim, layer.d_state, layer.d_inner) for layer in layers] == [(16, 4, 64)] * 4
    assert network.embedding.weight.shape == (50, 32)


def test_two_blocks_in_sequence_are_the_differential_mixer() -> None:
    scale = Scale(d_model=32, headdim=16, d_state=4)
    one_pass = mixer("diff_mamba", scale).double()
    with torch.no_grad():
        for parameter in one_pass.parameters():  # away from neutral values
            parameter.add_(0.2 * torch.randn_like(parameter))
    two_blocks = TwoBlocks(one_pass, scale.d_model)
    x = torch.randn(2, 37, 32, dtype=torch.float64)
    assert off_by(one_pass, two_blocks, x) < 1e-12


@pytest.mark.parametrize("variant", ["diff_mamba", "mamba1", "diff_transformer"])
def test_the_floor_has_every_projection_of_the_mixer(variant: str) -> None:
    """Two operations for each weight and position, and in backward as many for the input and for the weight."""
    module = mixer(variant, SCALE)
    weights = sum(part.weight.numel() for part in module.modules() if isinstance(part, torch.nn.Linear))
    for mode, times in (("forward", 1), ("forward+backward", 3)):
        with FlopCounterMode(display=False) as counter:
            floor(module, 2, 5)[mode]()
        assert counter.get_total_flops() == times * 2 * weights * 2 * 5
