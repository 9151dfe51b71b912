"""The vanilla mixers against transformers' `Mamba2Mixer` and `MambaMixer`, weights moved both ways by `state_dict`.

transformers computes decays, and the gated norm of Mamba-2, always in float32. So float64 agrees to about 1e-6 only.
Its norm is computed for each group separately, as ours is (seen in version 5.23).
"""

import pytest
import torch
from torch import nn
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from diffmamba.mixers import Mamba1, Mamba2

D_MODEL, HEADDIM, D_STATE, EXPAND, D_CONV, CHUNK = 16, 8, 6, 2, 4, 16
KINDS = ["Mamba", "Mamba-2", "Mamba-2 of two groups"]


def theirs(kind: str) -> nn.Module:
    if kind == "Mamba":
        config = MambaConfig(
            hidden_size=D_MODEL,
            state_size=D_STATE,
            num_hidden_layers=1,
            expand=EXPAND,
            conv_kernel=D_CONV,
            use_bias=False,
            use_conv_bias=True,
        )
        return MambaMixer(config, layer_idx=0).eval()
    config = Mamba2Config(
        num_heads=EXPAND * D_MODEL // HEADDIM,
        head_dim=HEADDIM,
        hidden_size=D_MODEL,
        state_size=D_STATE,
        num_hidden_layers=1,
        expand=EXPAND,
        n_groups=2 if "two" in kind else 1,
        conv_kernel=D_CONV,
        use_bias=False,
        use_conv_bias=True,
        time_step_limit=(0.0, float("inf")),
        chunk_size=CHUNK,
    )
    return Mamba2Mixer(config, layer_idx=0).eval()


def ours(kind: str) -> nn.Module:
    if kind == "Mamba":
        return Mamba1(D_MODEL, 1, D_STATE, D_CONV, EXPAND).eval()
    return Mamba2(D_MODEL, 1, HEADDIM, D_STATE, D_CONV, EXPAND, groups=2 if "two" in kind else 1).eval()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("length", "dtype", "tolerance"), [(1, torch.float64, 5e-6), (15, torch.float32, 1e-4), (37, torch.float64, 5e-6)]
)
@pytest.mark.parametrize("ours_first", [False, True], ids=["ours with their weights", "theirs with our weights"])
def test_outputs_and_gradients_are_the_same(
    kind: str, length: int, dtype: torch.dtype, tolerance: float, ours_first: bool
) -> None:
    torch.manual_seed(int(ours_first))
    source, target = (ours(kind), theirs(kind)) if ours_first else (theirs(kind), ours(kind))
    with torch.no_grad():
        for parameter in source.parameters():  # so that gains, D and biases are not at neutral values
            parameter.add_(0.2 * torch.randn_like(parameter))
    target.load_state_dict(source.state_dict())
    x, towards = (torch.randn(2, length, D_MODEL, dtype=dtype) for _ in range(2))
    expected, found = (outputs_and_gradients(module.to(dtype), x, towards) for module in (source, target))
    assert expected.keys() == found.keys()
    assert expected["output"].abs().max() > 0.1
    for name, value in expected.items():
        size = max(value.abs().max().item(), 1e-2)  # one position has no decay, nor A a gradient
        error = (found[name] - value).abs().max().item() / size
        assert error <= tolerance, f"{name} is off by {error:.1e} of its largest entry"


def outputs_and_gradients(module: nn.Module, x: torch.Tensor, towards: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    (y * towards).sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"output": y.detach(), "input": x.grad} | gradients


def test_dt_starts_as_theirs_does() -> None:
    """The scale of dt's projection and the range of its bias, as transformers' own initialisation has them."""
    torch.manual_seed(0)
    one, other = (module.dt_proj for module in (ours("Mamba"), theirs("Mamba")))
    assert one.weight.abs().max().item() == pytest.approx(other.weight.abs().max().item(), rel=0.1)
    for bias in (one.bias, other.bias):
        dt = torch.nn.functional.softplus(bias)
        assert 0.999e-3 <= dt.min() <= dt.max() <= 1.001e-1
    torch.testing.assert_close(ours("Mamba").A_log, theirs("Mamba").A_log)
    torch.testing.assert_close(ours("Mamba").D, theirs("Mamba").D)
