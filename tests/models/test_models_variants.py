"""Every model of conf/model with its switches: it composes, trains, is causal, and decodes as it trains."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from diffmamba import configuration
from diffmamba.errors import SettingError
from diffmamba.mixers import Attention, Difference, Mamba1, Mamba2, MapDifference, Mixer
from diffmamba.models import LanguageModel
from diffmamba.runs.work import shapes_of
from diffmamba.tasks.optimization import AdamW

Build = Callable[..., LanguageModel]
Resolve = Callable[..., dict[str, Any]]

MODELS = sorted(path.stem for path in Path(configuration.CONF, "model").glob("*.yaml"))
FORMS = ("scalar", "reparam", "reparam_bounded", "channel", "exp", "fixed")
DIFFERENTIAL = ("diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_s6", "diff_transformer", "naive_diff")
OF_MAMBA_1 = ("mamba", "naive_diff", "diff_s6", "diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid")
SYMBOLS = torch.randint(7, (2, 71), generator=torch.Generator().manual_seed(1))


def variants() -> list[tuple[str, str, str, str, str]]:
    """Model, scan, outer norm, form of λ and residual: every model with all but the form, which takes turns."""
    settings = [("mamba2", "true", "post_norm"), ("mamba2", "false", "pre_norm"), ("mamba1", "true", "pre_norm")]
    every = [
        (model, *setting) for model in MODELS for setting in settings if model in OF_MAMBA_1 or "1" not in setting[0]
    ]
    return [(model, ssm, norm, FORMS[i % 5], residual) for i, (model, ssm, norm, residual) in enumerate(every)]


EVERY_VARIANT = pytest.mark.parametrize(("model", "ssm", "outer_norm", "form", "residual"), variants())


def built(build: Build, model: str, ssm: str, outer_norm: str, form: str, residual: str) -> LanguageModel:
    words = [f"model.ssm={ssm}", f"model.outer_norm={outer_norm}", f"model.lambda_form={form}"]
    return build(f"model={model}", *words, residual=residual)


def mixers(network: LanguageModel) -> list[Any]:
    return [block.layer for block in network.backbone.blocks if isinstance(block.layer, Mixer)]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_models_are_those_of_the_design() -> None:
    assert {*DIFFERENTIAL, "mamba", "mamba_grouped", "transformer"} <= set(MODELS)


@EVERY_VARIANT
def test_it_has_its_switches_and_trains(
    build: Build, model: str, ssm: str, outer_norm: str, form: str, residual: str
) -> None:
    network = built(build, model, ssm, outer_norm, form, residual)
    combines = [mixer.combine for mixer in mixers(network)]
    forms = {combine.weight.form for combine in combines if isinstance(combine, (Difference, MapDifference))}
    assert forms == ({form} if model in DIFFERENTIAL else set())
    norms = {combine.outer_norm.weight is not None for combine in combines if isinstance(combine, Difference)}
    assert norms <= {outer_norm == "true"}
    settings = AdamW(learning_rate=3e-3, weight_decay=0.1, betas=(0.9, 0.999), warmup_steps=0, schedule_steps=100)
    optimizer = settings.build(network)["optimizer"]
    symbols, losses = torch.randint(7, (4, 34), generator=torch.Generator().manual_seed(1)), []
    for _ in range(6):
        loss = F.cross_entropy(network(symbols[:, :-1]).flatten(0, 1), symbols[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            saturated = form == "reparam" and name.endswith("weight.bar")  # the sum may start where sigmoid is flat
            assert parameter.grad.any() or saturated, name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@EVERY_VARIANT
@torch.no_grad()
def test_decoding_is_the_parallel_form(
    build: Build, model: str, ssm: str, outer_norm: str, form: str, residual: str
) -> None:
    network = built(build, model, ssm, outer_norm, form, residual).double().eval()
    symbols, states, pieces = SYMBOLS[:, :42], network.allocate_state(2), []
    for piece in symbols.split([1, 1, 33, 4, 1, 1, 1], dim=1):  # steps, a prompt, more of it, steps
        logits, states = network.extend(piece, states)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), network(symbols), rtol=1e-10, atol=1e-10)


@EVERY_VARIANT
@torch.no_grad()
def test_later_symbols_leave_earlier_logits_alone(
    build: Build, model: str, ssm: str, outer_norm: str, form: str, residual: str
) -> None:
    """Neither by what they are nor by being there."""
    network = built(build, model, ssm, outer_norm, form, residual).double().eval()
    logits = network(SYMBOLS)
    for cut in (1, 31, 32, 33, 70):
        changed = SYMBOLS.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % 7
        found = network(changed)
        torch.testing.assert_close(found[:, :cut], logits[:, :cut], rtol=0, atol=1e-12)
        assert ((found[:, cut:] - logits[:, cut:]).abs().amax((0, 2)) > 1e-6).all()
        torch.testing.assert_close(network(SYMBOLS[:, :cut]), logits[:, :cut], rtol=0, atol=1e-12)


# --- parameters of the published models


@pytest.fixture
def published(resolve: Resolve) -> Callable[..., LanguageModel]:
    """A model of table 2 at its published size, without memory."""

    def build_(model: str, *words: str) -> LanguageModel:
        return cast(LanguageModel, shapes_of(resolve("scale=paper", f"model={model}", *words), 27))

    return build_


def count(d_model: int, d_inner: int, headdim: int, branches: int, shared: bool, extra: int) -> int:
    """Parameters of a mixer with 64 states, counted by hand."""
    heads, d_state = d_inner // headdim, 64
    own = 1 if shared else branches
    conv = d_inner + 2 * d_state
    in_proj = branches * d_model * (2 * d_inner + 2 * d_state + heads)
    return in_proj + own * (conv * 4 + conv + d_inner + d_inner * d_model) + branches * 3 * heads + extra


@pytest.mark.parametrize(
    ("model", "millions", "mixer"),
    [
        ("mamba", 127, count(1024, 2048, 128, 1, False, 0)),
        ("diff_mamba", 129, count(1024, 1024, 64, 2, False, 1 + 1024)),
        ("diff_s6", 128, count(864, 1728, 108, 2, True, 1 + 1728)),
        ("naive_diff", 128, count(864, 1728, 108, 2, True, 1)),
    ],
)
def test_parameters_are_the_published_millions(
    published: Callable[..., LanguageModel], model: str, millions: int, mixer: int
) -> None:
    network = published(model)
    assert [parameters(module) for module in mixers(network)] == [mixer] * 12
    assert parameters(network) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("model", "extra"), [("transformer", 0), ("diff_transformer", 4 * 64 + 128)])
def test_attention_has_the_parameters_of_mambas_projections(
    published: Callable[..., LanguageModel], model: str, extra: int
) -> None:
    """6 · d_model² in each mixer, besides λ's vectors and the gain of the heads; Mamba has 2.5 % more in its mixers."""
    network = published(model)
    assert [parameters(mixer) for mixer in mixers(network)] == [6 * 1024**2 + extra] * 12
    assert {(mixer.heads, mixer.headdim) for mixer in mixers(network)} == {(12, 128)}
    assert parameters(network) == pytest.approx(parameters(published("mamba")), rel=0.016)


def test_models_differ_in_size_by_lambda_and_its_norm_only(published: Callable[..., LanguageModel]) -> None:
    grouped, differential = (
        parameters(published(model, "model.outer_norm=true")) for model in ("mamba_grouped", "diff_mamba")
    )
    assert differential - grouped == 12  # one λ for each mixer
    vanilla, differential = (parameters(published(model, "model.ssm=mamba1")) for model in ("mamba", "diff_mamba"))
    assert differential - vanilla == 12 * (1 + 1024)


# --- what a name means


@pytest.mark.parametrize(
    ("model", "scope", "outer_norm", "sign"),
    [
        ("diff_mamba", "block", True, -1),
        ("diff_mamba_additive", "block", True, 1),
        ("diff_s6", "ssm", True, -1),
        ("naive_diff", "ssm", False, -1),
    ],
)
def test_a_name_means_its_formula_with_either_scan(
    build: Build, model: str, scope: str, outer_norm: bool, sign: int
) -> None:
    second, first = (mixers(build(f"model={model}", f"model.ssm={ssm}")) for ssm in ("mamba2", "mamba1"))
    assert {type(mixer) for mixer in second} == {Mamba2}
    assert {type(mixer) for mixer in first} == {Mamba1}
    assert {(mixer.d_inner, mixer.branches) for mixer in second} == {(mixer.d_inner, mixer.branches) for mixer in first}
    assert [mixer.d_state for mixer in first] == [16, 16]  # the state of every channel, not of a head
    for combine in (mixer.combine for mixer in [*second, *first]):
        assert isinstance(combine, Difference)
        assert (combine.shared, combine.sign) == (scope == "ssm", sign)
        assert (combine.outer_norm.weight is not None) == outer_norm


def test_the_state_of_mamba_1_is_set_by_the_model_only(build: Build) -> None:
    for word, size in (("scale.d_state=7", 16), ("model.d_state=7", 7)):
        assert [mixer.d_state for mixer in mixers(build("model=diff_mamba", "model.ssm=mamba1", word))] == [size] * 2


def test_the_controls_differ_from_their_models_only_where_they_should(build: Build) -> None:
    vanilla, grouped, differential = (
        mixers(build(f"model={model}"))[0] for model in ("mamba", "mamba_grouped", "diff_mamba")
    )
    assert (vanilla.branches, vanilla.groups, vanilla.headdim) == (1, 1, 32)
    assert (grouped.branches, grouped.groups, grouped.headdim) == (1, 2, 16)
    assert (differential.branches, differential.groups, differential.headdim) == (2, 2, 16)
    assert vanilla.d_inner == grouped.d_inner == differential.d_inner == 64


def test_the_hybrid_alternates_and_starts_differential(build: Build) -> None:
    found = mixers(build("model=diff_mamba_hybrid", "scale.n_layers=2", layer=["mixer", "ffn", "mixer", "mixer"]))
    assert [(mixer.branches, mixer.headdim) for mixer in found] == [(2, 16), (1, 32)] * 3


@pytest.mark.parametrize(("index", "depths"), [("blocks", [1, 2, 4, 5, 7, 8]), ("mixers", [1, 2, 3, 4, 5, 6])])
@pytest.mark.parametrize("model", ["diff_mamba", "diff_transformer"])
def test_lambda_deepens_with_the_counted_blocks(build: Build, model: str, index: str, depths: list[int]) -> None:
    network = build(f"model={model}", "scale.n_layers=3", "model.lambda_form=fixed", f"model.lambda_index={index}")
    expected = [0.8 - 0.6 * math.exp(-0.3 * (depth - 1)) for depth in depths]
    assert [mixer.combine.weight() for mixer in mixers(network)] == pytest.approx(expected)


def test_differential_attention_has_the_published_form_of_lambda(build: Build) -> None:
    found = mixers(build("model=diff_transformer"))
    assert {(type(mixer), type(mixer.combine), mixer.combine.weight.form) for mixer in found} == {
        (Attention, MapDifference, "exp")
    }


def test_two_networks_of_one_seed_are_the_same(build: Build) -> None:
    one, other = build("model=diff_mamba"), build("model=diff_mamba")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- bad settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["model=mamba", "scale.headdim=24"],
            r"headdim=24 must divide .* = 64; valid values: 1, 2, 4, 8, 16, 32, 64$",
        ),
        (["model=diff_mamba", "model.headdim=5"], r"model\.headdim=5 must divide .*1, 2, 4, 8, 16, 32$"),
        (["model=mamba_grouped", "model.headdim=64"], r"groups=2 must divide the number of heads = 1; .*: 1$"),
        (["model=mamba_grouped", "model.ssm=mamba1"], r"^model\.groups=2 needs heads, .*; use 1, or ssm=mamba2$"),
        (["model=mamba", "model.ssm=mamba3"], r"^model\.d_state: model\.ssm=mamba3 .*; use one of mamba2, mamba1$"),
        (
            ["model=mamba", "model.ssm=mamba3", "model.d_state=4"],
            r"^model\.ssm=mamba3 is not known; use one of mamba2, mamba1$",
        ),
        (["model=diff_mamba", "model.ssm=null"], r"model\.ssm=None is not known; use one of mamba2, mamba1$"),
        (["model=transformer", "model.headdim=6"], r"model\.headdim=6 must be .* = 48; .*: 4, 8, 12, 16, 24, 48$"),
        (["model=transformer", "scale.d_model=33"], r"inner: model\.d_model=33 must be a multiple of 2"),
        (["model=diff_transformer", "model.inner=45"], r"model\.inner=45 must be a multiple of 4"),
        (["model=diff_transformer", "model.lambda_form=softmax"], r"model\.lambda_form=softmax .*scalar, .*, fixed$"),
        (["model=diff_mamba", "model.lambda_form=null"], r"model\.lambda_form=.*scalar, .*, fixed$"),
        (["model=diff_mamba", "model.sign=2"], r"sign=2 must be one of -1, 1$"),
        (["model=diff_mamba", "scale.headdim=7"], r"model\.headdim: scale\.headdim=7 must be a multiple of 2"),
        (["model=diff_s6", "scale.headdim=48"], r"model\.headdim: scale\.headdim=48 must be a multiple of 32"),
        (["model=naive_diff", "scale.d_model=48"], r"model\.d_model: scale\.d_model=48 must be a multiple of 32"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(build: Build, changes: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        build(*changes)
    assert "\n" not in str(caught.value)


def test_the_inner_width_of_attention_follows_the_width_of_the_model(resolve: Resolve) -> None:
    (mixer,) = resolve("model=transformer", "model.d_model=128")["model"]["mixers"]
    assert mixer["inner"] == 192
