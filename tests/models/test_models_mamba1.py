"""Every model with state-space mixers on Mamba-1's scan: it composes, trains, is causal, and decodes as it trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diffmamba.build import build_network
from diffmamba.errors import SettingError
from diffmamba.mixers import Mamba1, Mamba2
from diffmamba.models import LanguageModel, generate
from diffmamba.tasks.optimization import AdamW

Build = Callable[..., LanguageModel]
Resolve = Callable[..., dict[str, Any]]

MODELS = ["diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_s6", "mamba", "naive_diff"]
EVERY_MODEL = pytest.mark.parametrize("model", MODELS)


def mixers(network: LanguageModel) -> list[Mamba1]:
    return [block.layer for block in network.backbone.blocks if isinstance(block.layer, Mamba1)]


@EVERY_MODEL
def test_the_setting_changes_the_scan_and_nothing_else(build: Build, model: str) -> None:
    network, other = build(f"model={model}", "model.ssm=mamba1"), build(f"model={model}")
    ours = mixers(network)
    theirs = [block.layer for block in other.backbone.blocks if isinstance(block.layer, Mamba2)]
    assert len(ours) == len(theirs) == 2
    for one, two in zip(ours, theirs, strict=True):
        assert (one.branches, one.sharing, one.d_inner) == (two.branches, two.sharing, two.d_inner)
        assert repr(one.combine) == repr(two.combine)
        assert one.d_state == 16  # the state of every channel, not of a head


@EVERY_MODEL
def test_it_trains(build: Build, model: str) -> None:
    network = build(f"model={model}", "model.ssm=mamba1")
    symbols = torch.randint(7, (4, 34), generator=torch.Generator().manual_seed(1))
    settings = AdamW(learning_rate=3e-3, weight_decay=0.1, betas=(0.9, 0.999), warmup_steps=0, schedule_steps=100)
    optimizer = settings.build(network)["optimizer"]
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(network(symbols[:, :-1]).flatten(0, 1), symbols[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


@EVERY_MODEL
@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@torch.no_grad()
def test_decoding_is_the_parallel_form(build: Build, model: str, residual: str) -> None:
    network = build(f"model={model}", "model.ssm=mamba1", residual=residual).double().eval()
    symbols = torch.randint(7, (2, 42), generator=torch.Generator().manual_seed(1))
    expected, states, pieces = network(symbols), network.allocate_state(2), []
    for piece in symbols.split([1, 1, 33, 4, 1, 1, 1], dim=1):  # steps, a prompt, more of it, steps
        logits, states = network.extend(piece, states)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-10, atol=1e-10)
    for cut in (1, 32, 33, 41):
        changed = symbols.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % 7
        torch.testing.assert_close(network(changed)[:, :cut], expected[:, :cut], rtol=0, atol=1e-12)


@EVERY_MODEL
@torch.no_grad()
def test_it_generates_what_it_would_by_reading_again(build: Build, model: str) -> None:
    network = build(f"model={model}", "model.ssm=mamba1").double().eval()
    prompt = symbols = torch.tensor([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])
    for _ in range(12):
        symbols = torch.cat([symbols, network(symbols)[:, -1:].argmax(-1)], dim=1)
    found = torch.stack(list(generate(network, prompt, 12, temperature=0)), dim=1)
    assert torch.equal(found, symbols[:, 5:])


def test_the_size_of_the_state_can_be_set(build: Build) -> None:
    sizes = [
        [mixer.d_state for mixer in mixers(build("model=diff_mamba", "model.ssm=mamba1", *words))]
        for words in ([], ["scale.d_state=7"], ["model.d_state=7"])
    ]
    assert sizes == [[16, 16], [16, 16], [7, 7]]


def test_a_differential_model_has_the_parameters_of_the_vanilla_but_for_lambda_and_its_norm(resolve: Resolve) -> None:
    counts = []
    for model in ("mamba", "diff_mamba"):
        with torch.device("meta"):
            network = build_network(resolve("scale=paper", f"model={model}", "model.ssm=mamba1")["model"], 27)
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counts[1] - counts[0] == 12 * (1 + 1024)  # in each mixer


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=mamba_grouped", "model.ssm=mamba1"], r"^model\.groups=2 needs heads .*; use 1, or ssm=mamba2$"),
        (["model=mamba", "model.ssm=mamba3"], r"^model\.d_state: model\.ssm=mamba3 .*; use one of mamba2, mamba1$"),
        (
            ["model=mamba", "model.ssm=mamba3", "model.d_state=4"],
            r"^model\.ssm=mamba3 is not known; use one of mamba1, mamba2$",
        ),
        (["model=diff_mamba", "model.ssm=null"], r"model\.ssm=None is not known; use one of mamba2, mamba1$"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(build: Build, words: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        build(*words)
    assert "\n" not in str(caught.value)
