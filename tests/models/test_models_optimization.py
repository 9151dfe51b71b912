"""Which parameters of the models decay; `tests/tasks` has the learning rate by step."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from diffmamba.mixers import Mamba1, Mamba2
from diffmamba.mixers.combine import OuterNorm
from diffmamba.models import LanguageModel
from diffmamba.tasks.optimization import AdamW, parameter_groups

Build = Callable[..., LanguageModel]
NORMS = (nn.LayerNorm, nn.RMSNorm, OuterNorm)


def undecayed_by_type(network: nn.Module) -> set[str]:
    """Biases, whatever norms own, and A, D and dt_bias of mixers, found by the module that holds them."""
    names = set()
    for prefix, module in network.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            is_scan = isinstance(module, (Mamba1, Mamba2)) and name in ("A_log", "D", "dt_bias")
            if name == "bias" or isinstance(module, NORMS) or is_scan:
                names.add(f"{prefix}.{name}")
    return names


@pytest.mark.parametrize(
    ("model", "ssm", "residual"),
    [
        ("mamba", "mamba1", "pre_norm"),
        ("diff_mamba", "mamba2", "post_norm"),
        ("diff_s6", "mamba1", "post_norm"),
        ("diff_mamba_hybrid", "mamba2", "pre_norm"),
        ("diff_transformer", "mamba2", "post_norm"),
    ],
)
def test_biases_gains_and_the_scan_are_not_decayed(build: Build, model: str, ssm: str, residual: str) -> None:
    network = build(f"model={model}", f"model.ssm={ssm}", "model.outer_norm=true", residual=residual)
    decayed, undecayed = parameter_groups(network, 0.1)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(parameter)] for parameter in undecayed["params"]} == undecayed_by_type(network)
    listed = [id(parameter) for group in (decayed, undecayed) for parameter in group["params"]]
    assert sorted(listed) == sorted(names)


def test_groups_are_the_same_inside_a_task(build: Build) -> None:
    network = build("model=diff_mamba")
    inside = parameter_groups(nn.ModuleDict({"network": network}), 0.1)
    alone = parameter_groups(network, 0.1)
    for one, other in zip(inside, alone, strict=True):
        assert [id(parameter) for parameter in one["params"]] == [id(parameter) for parameter in other["params"]]


def test_only_decayed_parameters_shrink_without_a_gradient() -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    nn.init.ones_(module[0].bias)
    optimizer = AdamW(0.5, 0.1, (0.9, 0.999), 0).over(10).build(module)["optimizer"]
    before = module[0].weight.detach().clone()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(module[0].weight.detach(), before * (1 - 0.5 * 0.1))
    assert (module[0].bias == 1).all()
