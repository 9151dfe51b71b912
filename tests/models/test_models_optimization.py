"""What decays, and the learning rate by step, on the models themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from diffmamba.mixers import Mamba1, Mamba2
from diffmamba.mixers.combine import OuterNorm
from diffmamba.models import LanguageModel
from diffmamba.tasks.optimization import AdamW, parameter_groups, warmup_cosine

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


@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize("model", ["mamba", "diff_mamba", "diff_s6", "diff_mamba_hybrid", "diff_transformer"])
def test_biases_gains_and_the_scan_are_not_decayed(build: Build, model: str, ssm: str, residual: str) -> None:
    network = build(f"model={model}", f"model.ssm={ssm}", "model.outer_norm=true", residual=residual)
    decayed, undecayed = parameter_groups(network, 0.1)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(parameter)] for parameter in undecayed["params"]} == undecayed_by_type(network)
    listed = [id(parameter) for group in (decayed, undecayed) for parameter in group["params"]]
    assert sorted(listed) == sorted(names)


def test_the_groups_of_a_differential_model_by_name(build: Build) -> None:
    network = build("model=diff_mamba", layer=["mixer", "ffn"])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {names[id(parameter)] for parameter in parameter_groups(network, 0.1)[0]["params"]}
    assert decayed == {
        "embedding.weight",
        "backbone.blocks.0.layer.in_proj.weight",
        "backbone.blocks.0.layer.conv1d.weight",
        "backbone.blocks.0.layer.out_proj.weight",
        "backbone.blocks.0.layer.combine.weight.bar",
        "backbone.blocks.1.layer.0.weight",
        "backbone.blocks.1.layer.3.weight",
    }


def test_groups_are_the_same_inside_a_task(build: Build) -> None:
    network = build("model=diff_mamba")
    inside = parameter_groups(nn.ModuleDict({"network": network}), 0.1)
    alone = parameter_groups(network, 0.1)
    for one, other in zip(inside, alone, strict=True):
        assert [id(parameter) for parameter in one["params"]] == [id(parameter) for parameter in other["params"]]


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.001), (499, 0.5), (999, 1.0), (1000, 1.0), (8000, 0.5), (15_000, 0.0), (20_000, 0.0)],
)
def test_landmarks_of_the_schedule(step: int, share: float) -> None:
    assert warmup_cosine(step, warmup_steps=1000, schedule_steps=15_000) == pytest.approx(share, abs=1e-12)


def test_the_rate_rises_over_the_warm_up_and_then_falls() -> None:
    rates = [warmup_cosine(step, 10, 50) for step in range(60)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[20] == pytest.approx(0.5 + 0.5 * 0.5**0.5)  # a quarter of the cosine


def test_without_a_warm_up_the_first_step_has_the_full_rate() -> None:
    assert warmup_cosine(0, 0, 10) == 1.0


def test_the_built_optimizer_follows_the_schedule(build: Build) -> None:
    network = build("model=diff_mamba")
    built = AdamW(0.01, 0.1, (0.8, 0.99), warmup_steps=4, schedule_steps=8).build(network)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert built["lr_scheduler"]["interval"] == "step"
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.8, 0.99) for group in optimizer.param_groups)
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    expected = [
        0.0025,
        0.005,
        0.0075,
        0.01,
        0.01,
        0.01 * (0.5 + 0.5 * 0.5**0.5),
        0.005,
        0.01 * (0.5 - 0.5 * 0.5**0.5),
        0,
    ]
    assert [rate for rate, _ in rates] == pytest.approx(expected, abs=1e-12)
    assert all(one == other for one, other in rates)


def test_only_decayed_parameters_shrink_without_a_gradient() -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    nn.init.ones_(module[0].bias)
    optimizer = AdamW(0.5, 0.1, (0.9, 0.999), 0, 10).build(module)["optimizer"]
    before = module[0].weight.detach().clone()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(module[0].weight.detach(), before * (1 - 0.5 * 0.1))
    assert (module[0].bias == 1).all()
