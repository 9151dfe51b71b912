"""The vanilla mixer against transformers' `Mamba2Mixer`, weights moved both ways by `state_dict`.

transformers computes decays and its gated norm in float32 whatever the weights are: float64 agrees to about 1e-6 only.
Its gated norm is taken per group (seen in 5.23), as ours is.
"""

import pytest
import torch
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from diffmamba.mixers import Mamba2

D_MODEL, HEADDIM, D_STATE, EXPAND, D_CONV, CHUNK = 16, 8, 6, 2, 4, 16

GROUPS = pytest.mark.parametrize("groups", [1, 2])
LENGTHS = pytest.mark.parametrize("length", [1, 15, 37])
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)], ids=str)


def theirs(groups: int) -> Mamba2Mixer:
    config = Mamba2Config(
        num_heads=EXPAND * D_MODEL // HEADDIM,
        head_dim=HEADDIM,
        hidden_size=D_MODEL,
        state_size=D_STATE,
        num_hidden_layers=1,
        expand=EXPAND,
        n_groups=groups,
        conv_kernel=D_CONV,
        use_bias=False,
        use_conv_bias=True,
        time_step_limit=(0.0, float("inf")),
        chunk_size=CHUNK,
    )
    return Mamba2Mixer(config, layer_idx=0).eval()


def ours(groups: int) -> Mamba2:
    return Mamba2(D_MODEL, 1, HEADDIM, D_STATE, D_CONV, EXPAND, groups).eval()


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Moves every parameter, so that gains, D and biases are not at neutral values."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


@GROUPS
@LENGTHS
@PRECISIONS
def test_ours_with_their_weights(groups: int, length: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    source, target = shaken(theirs(groups)), ours(groups)
    target.load_state_dict(source.state_dict())
    assert_same_output(source.to(dtype), target.to(dtype), length, dtype, tolerance)


@GROUPS
@LENGTHS
@PRECISIONS
def test_theirs_with_our_weights(groups: int, length: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    source, target = shaken(ours(groups)), theirs(groups)
    target.load_state_dict(source.state_dict())
    assert_same_output(source.to(dtype), target.to(dtype), length, dtype, tolerance)


@torch.no_grad()
def assert_same_output(
    one: torch.nn.Module, other: torch.nn.Module, length: int, dtype: torch.dtype, tolerance: float
) -> None:
    x = torch.randn(2, length, D_MODEL, dtype=dtype)
    expected = one(x)
    assert expected.abs().max() > 0.1
    assert (other(x) - expected).abs().max() <= tolerance * expected.abs().max()
