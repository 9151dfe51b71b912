"""Which parameters decay, and the learning rate by step."""

import math

import pytest
import torch
from torch import nn

from diffmamba.mixers import Difference, Mamba2
from diffmamba.models import Backbone, LanguageModel
from diffmamba.runs.identity import canonical
from diffmamba.tasks.optimization import AdamW, parameter_groups, warmup_cosine


def test_matrices_decay_and_gains_biases_and_dynamics_do_not_and_each_parameter_is_in_one_group():
    def mixer(d_model, depth):
        def combine(**sizes):
            return Difference(**sizes, scope="block", outer_norm=True, lambda_form="reparam")

        return Mamba2(d_model, depth, headdim=8, d_state=4, d_conv=4, expand=1, combine=combine)

    model = LanguageModel(5, Backbone(16, 1, [mixer], ["mixer", "ffn"], "post_norm", 0.0, "blocks"), 16)
    decayed, undecayed = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = {names[id(parameter)] for parameter in undecayed["params"]}
    grouped = [names[id(parameter)] for group in (decayed, undecayed) for parameter in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    for name in names.values():
        own = name.rsplit(".", 1)[-1]
        expected = own in ("A_log", "dt_bias", "D", "bias") or (own == "weight" and "norm" in name.rsplit(".", 2)[-2])
        assert (name in spared) == expected, name
    assert {"A_log", "dt_bias", "D"} <= {name.rsplit(".", 1)[-1] for name in spared}


def test_warm_up_rises_in_equal_steps_to_the_full_rate_and_the_cosine_falls_to_zero_and_stays_there():
    assert [warmup_cosine(step, 4, 20) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup_cosine(0, 0, 20) == 1.0
    shares = [warmup_cosine(step, 4, 20) for step in range(4, 24)]
    assert shares == sorted(shares, reverse=True)
    assert warmup_cosine(12, 4, 20) == pytest.approx(0.5)
    assert warmup_cosine(8, 4, 20) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert shares[-4:] == [0.0] * 4
    assert [warmup_cosine(step, 3, 3) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])  # no cosine at all


def test_learning_rate_follows_the_schedule():
    layer = nn.Linear(2, 2)
    built = AdamW(learning_rate=0.1, weight_decay=0.1, betas=(0.8, 0.9), warmup_steps=2, schedule_steps=6).build(layer)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert built["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        layer(torch.ones(2)).sum().backward()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1 * warmup_cosine(step, 2, 6) for step in range(7)])
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)


def rates(settings: AdamW, steps: int) -> list[float]:
    """The learning rate of each step of a training."""
    layer = nn.Linear(2, 2)
    built = settings.build(layer)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("epochs", "steps_in_epoch", "rate"), [(5, 3, 5e-4), (8, 1, 1e-3), (200, 2, 1e-4)])
def test_a_cosine_by_epoch_is_the_one_of_pytorch_stepped_after_each_epoch(epochs, steps_in_epoch, rate):
    """The protocol of MAD: CosineAnnealingLR with T_max of the epochs and eta_min of 1e-6."""
    settings = AdamW(rate, 0.0, (0.9, 0.999), 0, "to_end", None, 1e-6, steps_in_epoch).over(epochs * steps_in_epoch)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=rate)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=1e-6)
    expected = []
    for _ in range(epochs):
        expected += [optimizer.param_groups[0]["lr"]] * steps_in_epoch
        optimizer.step()
        theirs.step()
    assert rates(settings, epochs * steps_in_epoch) == pytest.approx(expected, rel=1e-9)
    assert settings.share(epochs * steps_in_epoch) * rate == pytest.approx(1e-6)


def test_a_cosine_that_is_not_held_ends_at_its_final_rate_and_a_warm_up_is_as_without_one():
    settings = AdamW(0.1, 0.0, (0.9, 0.999), 4, "published", 20, 0.01)
    assert rates(settings, 4) == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert [settings.share(step) for step in (4, 12, 20, 30)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_constant_rate_is_constant_after_its_warm_up():
    settings = AdamW(0.1, 0.0, (0.9, 0.999), 2, "constant", None, 1e-6, 3)
    assert rates(settings, 5) == rates(settings.over(5), 5) == [0.05, 0.1, 0.1, 0.1, 0.1]
    assert settings.over(5) == settings.over(9) == AdamW(0.1, 0.0, (0.9, 0.999), 2, "constant")


def test_neither_a_final_rate_nor_a_held_one_names_a_run_that_has_none():
    """Runs from before there were such settings keep their name and their rates."""
    plain = AdamW(0.1, 0.1, (0.9, 0.999), 2).over(20)
    assert set(canonical(plain)) == {
        *("is", "learning_rate", "weight_decay", "betas", "warmup_steps", "schedule", "schedule_steps")
    }
    shares = [plain.share(step) for step in range(25)]
    assert shares == [warmup_cosine(step, 2, 20) for step in range(25)]
    for changes in ({"final_learning_rate": 1e-6}, {"hold": 2}, {"schedule": "constant"}):
        assert canonical(AdamW(0.1, 0.1, (0.9, 0.999), 2, **changes).over(20)) != canonical(plain)
