"""The benchmarks' variants are those of `conf/`: with the same weights, the same function."""

from collections.abc import Iterator

import pytest
import torch
from hydra import compose, initialize_config_dir

from benchmarks.passes import off_by
from benchmarks.two_blocks import TwoBlocks
from benchmarks.variants import VARIANTS, Scale, language_model, mixer
from diffmamba import configuration
from diffmamba.build import build_network

OVERRIDES = {
    "mamba1": ["model=mamba", "model.ssm=mamba1"],
    "diff_mamba1": ["model=diff_mamba", "model.ssm=mamba1"],
}


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        yield


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_what_conf_composes(variant: str) -> None:
    """At scale smoke, whose sizes are read from conf, too."""
    config = configuration.resolved(compose("train", overrides=OVERRIDES.get(variant, [f"model={variant}"])))
    sizes = {key: config["scale"][key] for key in ("d_model", "headdim", "d_state", "n_layers")}
    network = build_network(config["model"], 27).eval()
    ours = language_model(variant, Scale(**sizes)).eval()
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (ours, network)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(network.state_dict())
    symbols = torch.randint(27, (2, 40))
    with torch.no_grad():
        assert torch.equal(ours(symbols), network(symbols))


def test_two_blocks_in_sequence_are_the_differential_mixer() -> None:
    scale = Scale(d_model=32, headdim=16, d_state=4)
    one_pass = mixer("diff_mamba", scale).double()
    with torch.no_grad():
        for parameter in one_pass.parameters():  # away from neutral values
            parameter.add_(0.2 * torch.randn_like(parameter))
    two_blocks = TwoBlocks(one_pass, scale.d_model)
    x = torch.randn(2, 37, 32, dtype=torch.float64)
    assert off_by(one_pass(x), two_blocks(x)) < 1e-12
