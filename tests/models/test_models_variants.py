"""Every model of conf/model with every switch: it composes, trains, is causal, and decodes as it trains."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diffmamba import configuration
from diffmamba.build import build_network
from diffmamba.errors import SettingError
from diffmamba.mixers import Attention, Difference, Mamba2, MapDifference
from diffmamba.models import LanguageModel
from diffmamba.tasks.optimization import AdamW

Build = Callable[..., LanguageModel]
Resolve = Callable[..., dict[str, Any]]

MODELS = sorted(path.stem for path in Path(configuration.CONF, "model").glob("*.yaml"))
EVERY_MODEL = pytest.mark.parametrize("model", MODELS)
FORMS = ("scalar", "reparam", "channel", "exp", "fixed")


def every_switch(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test for every model, with and without the outer norm, with every form of λ."""
    for name, values in (("form", FORMS), ("outer_norm", ("true", "false")), ("model", MODELS)):
        test = pytest.mark.parametrize(name, values)(test)
    return test


def overrides(model: str, outer_norm: str, form: str) -> list[str]:
    return [f"model={model}", f"model.outer_norm={outer_norm}", f"model.lambda_form={form}"]


def test_the_models_are_those_of_the_design() -> None:
    assert {"mamba", "naive_diff", "diff_s6", "diff_mamba", "diff_mamba_hybrid", "mamba_grouped"} <= set(MODELS)
    assert {"diff_mamba_additive", "transformer", "diff_transformer"} <= set(MODELS)


@every_switch
def test_it_trains(build: Build, model: str, outer_norm: str, form: str) -> None:
    network = build(*overrides(model, outer_norm, form))
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
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@every_switch
@torch.no_grad()
def test_decoding_is_the_parallel_form(build: Build, model: str, outer_norm: str, form: str) -> None:
    for residual in ("post_norm", "pre_norm"):
        network = build(*overrides(model, outer_norm, form), residual=residual).double().eval()
        symbols = torch.randint(7, (2, 42), generator=torch.Generator().manual_seed(1))
        states = network.allocate_state(2)
        pieces = []
        for piece in symbols.split([1, 1, 33, 4, 1, 1, 1], dim=1):  # steps, a prompt, more of it, steps
            logits, states = network.extend(piece, states)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, dim=1), network(symbols), rtol=1e-10, atol=1e-10)


@EVERY_MODEL
@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@torch.no_grad()
def test_the_backbone_decodes_as_it_reads(build: Build, model: str, residual: str) -> None:
    backbone = build(f"model={model}", residual=residual).double().backbone
    x = torch.randn(2, 40, backbone.blocks[0].norm.weight.shape[0], dtype=torch.float64)
    states = backbone.allocate_state(2)
    pieces = []
    for piece in x.split([1, 36, 1, 2], dim=1):
        y, states = backbone.extend(piece, states)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), backbone(x), rtol=1e-10, atol=1e-10)


@EVERY_MODEL
@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@torch.no_grad()
def test_later_symbols_leave_earlier_logits_alone(build: Build, model: str, residual: str) -> None:
    network = build(f"model={model}", residual=residual).double().eval()
    symbols = torch.randint(7, (2, 71), generator=torch.Generator().manual_seed(1))
    logits = network(symbols)
    for cut in (1, 31, 32, 33, 50, 70):
        changed = symbols.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % 7
        found = network(changed)
        torch.testing.assert_close(found[:, :cut], logits[:, :cut], rtol=0, atol=1e-12)
        assert ((found[:, cut:] - logits[:, cut:]).abs().amax((0, 2)) > 1e-6).all()


@EVERY_MODEL
@torch.no_grad()
def test_a_shorter_sequence_gives_the_same_logits(build: Build, model: str) -> None:
    network = build(f"model={model}").double().eval()
    symbols = torch.randint(7, (2, 71), generator=torch.Generator().manual_seed(1))
    logits = network(symbols)
    for length in (1, 2, 31, 32, 33, 64):
        torch.testing.assert_close(network(symbols[:, :length]), logits[:, :length], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "published"),
    [("mamba", 127), ("naive_diff", 128), ("diff_s6", 128), ("diff_mamba", 129)],
)
def test_parameters_are_the_published_millions(resolve: Resolve, model: str, published: int) -> None:
    config = resolve("scale=paper", f"model={model}")["model"]
    with torch.device("meta"):
        network = build_network(config, vocabulary_size=27)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(published, rel=0.01)


def parameters(network: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("model", "extra"), [("transformer", 0), ("diff_transformer", 4 * 64 + 128)])
def test_attention_has_the_parameters_of_mambas_projections(resolve: Resolve, model: str, extra: int) -> None:
    """6 · d_model² in each mixer, besides λ's vectors and the gain of the heads; Mamba has 2.5 % more in its mixers."""
    configs = [resolve("scale=paper", f"model={name}")["model"] for name in (model, "mamba")]
    with torch.device("meta"):
        network, mamba = (build_network(config, 27) for config in configs)
    mixers = [block.layer for block in network.backbone.blocks if isinstance(block.layer, Attention)]
    assert [sum(p.numel() for p in mixer.parameters()) for mixer in mixers] == [6 * 1024**2 + extra] * 12
    assert [(mixer.heads, mixer.headdim) for mixer in mixers] == [(12, 128)] * 12
    assert parameters(network) == pytest.approx(parameters(mamba), rel=0.016)


def test_the_grouped_control_has_the_parameters_of_diff_mamba_but_for_lambda(resolve: Resolve) -> None:
    counts = []
    for model in ("diff_mamba", "mamba_grouped"):
        with torch.device("meta"):
            network = build_network(resolve("scale=paper", f"model={model}", "model.outer_norm=true")["model"], 27)
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counts[0] - counts[1] == 12  # one λ for each mixer


def count(d_model: int, d_inner: int, headdim: int, d_state: int, branches: int, shared: bool, extra: int) -> int:
    """Parameters of a mixer, counted by hand."""
    heads = d_inner // headdim
    own = 1 if shared else branches
    conv = d_inner + 2 * d_state
    in_proj = branches * d_model * (2 * d_inner + 2 * d_state + heads)
    return in_proj + own * (conv * 4 + conv + d_inner + d_inner * d_model) + branches * 3 * heads + extra


@pytest.mark.parametrize(
    ("model", "mixer"),
    [
        ("mamba", count(1024, 2048, 128, 64, 1, False, 0)),
        ("diff_mamba", count(1024, 1024, 64, 64, 2, False, 1 + 1024)),
        ("diff_s6", count(864, 1728, 108, 64, 2, True, 1 + 1728)),
        ("naive_diff", count(864, 1728, 108, 64, 2, True, 1)),
    ],
)
def test_a_published_mixer_has_the_parameters_counted_by_hand(resolve: Resolve, model: str, mixer: int) -> None:
    config = resolve("scale=paper", f"model={model}")["model"]
    with torch.device("meta"):
        network = build_network(config, vocabulary_size=27)
    mixers = [block.layer for block in network.backbone.blocks if isinstance(block.layer, Mamba2)]
    assert [sum(p.numel() for p in module.parameters()) for module in mixers] == [mixer] * 12


@pytest.mark.parametrize(
    ("model", "scope", "outer_norm", "sign"),
    [
        ("diff_mamba", "block", True, -1),
        ("diff_mamba_additive", "block", True, 1),
        ("diff_s6", "ssm", True, -1),
        ("naive_diff", "ssm", False, -1),
    ],
)
def test_a_name_means_its_formula(build: Build, model: str, scope: str, outer_norm: bool, sign: int) -> None:
    for block in build(f"model={model}").backbone.blocks[:2]:
        combine = block.layer.combine
        assert isinstance(combine, Difference)
        assert (combine.shared, combine.sign) == (scope == "ssm", sign)
        assert (combine.outer_norm.weight is not None) == outer_norm


def test_the_controls_differ_from_their_models_only_where_they_should(build: Build) -> None:
    vanilla, grouped = (build(f"model={model}").backbone.blocks[0].layer for model in ("mamba", "mamba_grouped"))
    differential = build("model=diff_mamba").backbone.blocks[0].layer
    assert (vanilla.branches, vanilla.groups, vanilla.headdim) == (1, 1, 32)
    assert (grouped.branches, grouped.groups, grouped.headdim) == (1, 2, 16)
    assert (differential.branches, differential.groups, differential.headdim) == (2, 2, 16)
    assert vanilla.d_inner == grouped.d_inner == differential.d_inner == 64


def test_the_hybrid_alternates_and_starts_differential(build: Build) -> None:
    network = build("model=diff_mamba_hybrid", "scale.n_layers=2", layer=["mixer", "ffn", "mixer", "mixer"])
    mixers = [block.layer for block in network.backbone.blocks if isinstance(block.layer, Mamba2)]
    assert [mixer.branches for mixer in mixers] == [2, 1, 2, 1, 2, 1]
    assert [mixer.headdim for mixer in mixers] == [16, 32] * 3


@pytest.mark.parametrize(("index", "depths"), [("blocks", [1, 2, 4, 5, 7, 8]), ("mixers", [1, 2, 3, 4, 5, 6])])
def test_lambda_deepens_with_the_counted_blocks(build: Build, index: str, depths: list[int]) -> None:
    network = build("model=diff_mamba", "scale.n_layers=3", "model.lambda_form=fixed", f"model.lambda_index={index}")
    found = [block.layer.combine.weight() for block in network.backbone.blocks if isinstance(block.layer, Mamba2)]
    assert found[0] == pytest.approx(0.2)
    assert found == pytest.approx([0.8 - 0.6 * 2.718281828459045 ** (-0.3 * (depth - 1)) for depth in depths])
    assert all(earlier < later < 0.8 for earlier, later in pairwise(found))


def test_two_networks_of_one_seed_are_the_same(build: Build) -> None:
    one, other = build("model=diff_mamba"), build("model=diff_mamba")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["model=mamba", "scale.headdim=24"],
            r"headdim=24 must divide .* = 64; these would do: 1, 2, 4, 8, 16, 32, 64$",
        ),
        (["model=diff_mamba", "model.headdim=5"], r"model\.headdim=5 must divide .*1, 2, 4, 8, 16, 32$"),
        (["model=mamba_grouped", "model.headdim=64"], r"groups=2 must divide the number of heads = 1; .*: 1$"),
        (["model=transformer", "model.headdim=6"], r"model\.headdim=6 must be .* = 48; .*: 4, 8, 12, 16, 24, 48$"),
        (["model=diff_transformer", "model.inner=45"], r"model\.inner=45 must be a multiple of 4"),
        (["model=diff_transformer", "model.lambda_form=softmax"], r"model\.lambda_form=softmax .*scalar, .*, fixed$"),
        (["model=diff_mamba", "model.lambda_form=exponential"], r"model\.lambda_form=exponential .*scalar, .*, fixed$"),
        (["model=diff_mamba", "model.lambda_form=null"], r"model\.lambda_form=.*scalar, .*, fixed$"),
        (["model=diff_mamba", "model.sign=2"], r"sign=2 .*-1 or 1$"),
        (["model=mamba", "model.residual=prenorm"], r"model\.residual=prenorm .*post_norm, pre_norm$"),
        (["model=mamba", "model.lambda_index=layers"], r"model\.lambda_index=layers .*blocks, mixers$"),
        (["model=mamba", "model.layer=[mixer,mlp]"], r"model\.layer=mlp .*mixer, ffn$"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(build: Build, changes: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        build(*changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["headdim", "d_model"])
@pytest.mark.parametrize(("model", "denominator"), [("diff_s6", 32), ("naive_diff", 32)])
def test_sizes_that_a_fraction_cannot_be_taken_of_are_named(
    resolve: Resolve, model: str, denominator: int, setting: str
) -> None:
    with pytest.raises(
        SettingError, match=rf"model\.{setting}: scale\.{setting}=48 must be a multiple of {denominator}"
    ):
        resolve(f"model={model}", f"scale.{setting}=48")


def test_the_inner_width_of_attention_follows_the_width_of_the_model(resolve: Resolve) -> None:
    (mixer,) = resolve("model=transformer", "model.d_model=128")["model"]["mixers"]
    assert mixer["inner"] == 192
    with pytest.raises(SettingError, match=r"inner: model\.d_model=33 must be a multiple of 2"):
        resolve("model=transformer", "scale.d_model=33")


def test_differential_attention_is_told_its_depth(build: Build) -> None:
    network = build("model=diff_transformer", "scale.n_layers=2")
    combines = [block.layer.combine for block in network.backbone.blocks if isinstance(block.layer, Attention)]
    assert all(isinstance(combine, MapDifference) and combine.weight.form == "exp" for combine in combines)
    depths = (1, 2, 4, 5)
    assert [c.weight.initial for c in combines] == pytest.approx([0.8 - 0.6 * math.exp(-0.3 * (d - 1)) for d in depths])


def test_diff_mamba_needs_an_even_head_dimension(resolve: Resolve) -> None:
    with pytest.raises(SettingError, match=r"model\.headdim: scale\.headdim=7 must be a multiple of 2"):
        resolve("model=diff_mamba", "scale.headdim=7")
