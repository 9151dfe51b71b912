"""The residual backbone: the order of its parts, the depth of its mixers, and its states."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffmamba.errors import SettingError
from diffmamba.mixers import Mixer
from diffmamba.mixers.mixer import State
from diffmamba.models import Backbone, LanguageModel


class RunningSum(Mixer):
    """A mixer with a known output, the sum of all inputs so far. It stores its arguments."""

    def __init__(self, d_model: int, depth: int, name: str = "sum"):
        super().__init__()
        self.d_model, self.depth, self.name = d_model, depth, name

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=1)

    def allocate_state(self, batch: int) -> State:
        return torch.zeros(batch, self.d_model, dtype=torch.float64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return state + x, state + x


def mixers_of(backbone: Backbone) -> list[RunningSum]:
    return [block.layer for block in backbone.blocks if isinstance(block.layer, RunningSum)]


@pytest.mark.parametrize(
    ("layer", "index", "depths"),
    [
        (("mixer", "mixer", "ffn"), "blocks", [1, 2, 4, 5, 7, 8]),
        (("mixer", "mixer", "ffn"), "mixers", [1, 2, 3, 4, 5, 6]),
        (("ffn", "mixer"), "blocks", [2, 4, 6]),
        (("ffn", "mixer"), "mixers", [1, 2, 3]),
        (("mixer",), "blocks", [1, 2, 3]),
    ],
)
def test_depth_counts_from_one(layer: tuple[str, ...], index: str, depths: list[int]) -> None:
    backbone = Backbone(4, 3, [RunningSum], layer, lambda_index=index)
    assert [mixer.depth for mixer in mixers_of(backbone)] == depths


def test_mixers_are_taken_in_turn_across_layers() -> None:
    def named(name: str) -> Callable[..., Mixer]:
        return lambda d_model, depth: RunningSum(d_model, depth, name)

    backbone = Backbone(4, 2, [named("a"), named("b")], ("mixer", "ffn", "mixer", "mixer"))
    assert [mixer.name for mixer in mixers_of(backbone)] == ["a", "b", "a", "b", "a", "b"]


def test_a_layer_is_mixer_mixer_ffn_by_default() -> None:
    kinds = [type(block.layer).__name__ for block in Backbone(4, 2, [RunningSum]).blocks]
    assert kinds == ["RunningSum", "RunningSum", "FeedForward"] * 2


def standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def feed_forward(backbone: Backbone, x: Tensor) -> Tensor:
    first, second = (module for module in backbone.blocks[-1].layer if isinstance(module, nn.Linear))
    assert first.weight.shape == (16, 4)
    hidden = x @ first.weight.T + first.bias
    return (hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))) @ second.weight.T + second.bias


@torch.no_grad()
def test_post_norm_is_layer_norm_of_the_sum_and_no_final_norm() -> None:
    backbone = Backbone(4, 1, [RunningSum], ("mixer", "ffn"), "post_norm").double()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    y = standardised(x + x.cumsum(1))
    torch.testing.assert_close(backbone(x), standardised(y + feed_forward(backbone, y)), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_pre_norm_is_rms_norm_before_each_layer_and_at_the_end() -> None:
    backbone = Backbone(4, 1, [RunningSum], ("mixer", "ffn"), "pre_norm").double()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    y = x + rms(x).cumsum(1)
    torch.testing.assert_close(backbone(x), rms(y + feed_forward(backbone, rms(y))), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
def test_hidden_holds_the_input_and_what_every_block_returns(residual: str) -> None:
    backbone = Backbone(4, 2, [RunningSum], residual=residual).double()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    states = backbone.hidden(x)
    assert len(states) == 1 + 6
    assert torch.equal(states[0], x)
    for block, before, after in zip(backbone.blocks, states, states[1:], strict=False):
        assert torch.equal(after, block(before))
    assert torch.equal(backbone.final_norm(states[-1]), backbone(x))
    assert torch.equal(states[-1], backbone(x)) == (residual == "post_norm")


def test_a_backbone_may_be_given_as_what_builds_it() -> None:
    """It draws its random numbers before the embedding, as if it were built outside."""
    build = partial(Backbone, 4, 1, [RunningSum])
    torch.manual_seed(0)
    outside = LanguageModel(7, build(), 4)
    torch.manual_seed(0)
    inside = LanguageModel(7, backbone=build)
    torch.manual_seed(0)
    first_drawn = build()
    assert inside.backbone.d_model == inside.embedding.embedding_dim == 4
    assert list(inside.state_dict()) == list(outside.state_dict())
    for one, other in zip(inside.parameters(), outside.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(inside.backbone.parameters(), first_drawn.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@torch.no_grad()
def test_a_mixer_that_only_steps_can_be_extended(residual: str) -> None:
    backbone = Backbone(4, 2, [RunningSum], residual=residual).double()
    x = torch.randn(2, 9, 4, dtype=torch.float64)
    y1, states = backbone.extend(x[:, :6], backbone.allocate_state(2))
    y2, states = backbone.extend(x[:, 6:7], states)
    y3, _ = backbone.extend(x[:, 7:], states)
    torch.testing.assert_close(torch.cat([y1, y2, y3], dim=1), backbone(x), rtol=1e-10, atol=1e-10)


def test_dropout_acts_in_training_only_and_on_the_branch() -> None:
    torch.manual_seed(0)
    backbone = Backbone(64, 1, [RunningSum], ("mixer",), "pre_norm", dropout=0.5)
    backbone.final_norm = nn.Identity()
    x = torch.ones(1, 50, 64)
    dropped = backbone(x) == x  # the residual path stays whole
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.05)
    backbone.eval()
    assert not (backbone(x) == x).any()


def test_a_mixer_says_what_it_must_define() -> None:
    with pytest.raises(NotImplementedError, match="Mixer must define step"):
        Mixer().step(torch.zeros(1, 2), None)
    with pytest.raises(NotImplementedError, match="Mixer must define allocate_state"):
        Mixer().allocate_state(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": ()}, r"model\.layer=\[\] makes no layer; use one or more of mixer, ffn, swiglu$"),
        ({"mixers": ()}, r"model\.mixers=\[\] is empty, and model\.layer has a mixer"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Backbone(4, 1, **{"mixers": [RunningSum]} | settings)


def test_the_head_is_tied_and_inputs_have_unit_variance() -> None:
    torch.manual_seed(0)
    d_model = 256
    model = LanguageModel(500, nn.Identity(), d_model).double()
    symbols = torch.arange(500)[None]
    weight = model.embedding.weight
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight"]
    torch.testing.assert_close(model(symbols)[0], (weight * 16) @ weight.T)
    assert (weight * 16).var().item() == pytest.approx(1, rel=0.02)
