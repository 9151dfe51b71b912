"""The auto-encoder tells all symbols from the last position; the untied embedding and SwiGLU are their equations."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.models import AutoEncoder, Backbone, TiedEmbedding, UntiedEmbedding
from diffmamba.models.auto_encoder import sine_positions
from diffmamba.models.backbone import SwiGLU
from tests.models.test_models_backbone import RunningSum

WIDTH, LENGTH, SYMBOLS = 6, 5, 7


def made(embedding: type = UntiedEmbedding, residual: str = "pre_norm") -> AutoEncoder:
    torch.manual_seed(0)
    backbone = partial(Backbone, WIDTH, 1, [RunningSum], ["mixer", "swiglu"], residual)
    return AutoEncoder(SYMBOLS, backbone, embedding=embedding).double()


@pytest.mark.parametrize("embedding", [UntiedEmbedding, TiedEmbedding])
@pytest.mark.parametrize("residual", ["pre_norm", "post_norm"])
def test_logits_are_those_of_the_decoder_at_the_last_state_and_each_position(embedding: type, residual: str) -> None:
    network = made(embedding, residual)
    symbols = torch.randint(SYMBOLS, (3, LENGTH))
    last = network.backbone.hidden(network.embedding.embed(symbols))[-1][:, -1]
    norms = [network.decoder[index] for index in (0, 3, 6)]
    linears = [network.decoder[index] for index in (1, 4)]

    def normed(x: Tensor, norm: torch.nn.Module) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight

    for position in range(LENGTH):
        angles = [position / 10_000 ** (wave / (WIDTH // 2 - 1)) for wave in range(WIDTH // 2)]
        x = last + torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
        for norm, linear in zip(norms[:2], linears, strict=True):
            x = F.gelu(normed(x, norm) @ linear.weight.T + linear.bias)
        expected = network.embedding.logits(normed(x, norms[2]))
        torch.testing.assert_close(network(symbols)[:, position], expected, rtol=1e-5, atol=1e-6)
    targets = torch.randint(SYMBOLS, symbols.shape).index_fill_(1, torch.tensor([2]), -100)
    nats = F.cross_entropy(network(symbols).mT, targets, reduction="none")
    torch.testing.assert_close(network(symbols, targets), nats)


def test_nothing_reaches_the_logits_but_through_the_last_state() -> None:
    network, symbols = made(), torch.randint(SYMBOLS, (2, LENGTH))
    states: list[Tensor] = []

    def kept_last(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
        states.append(output)
        return output if len(states) == 1 else torch.cat([torch.randn_like(output[:, :-1]), states[0][:, -1:]], dim=1)

    network.backbone.register_forward_hook(kept_last)
    expected = network(symbols)
    assert torch.equal(network(torch.randint(SYMBOLS, (2, LENGTH))), expected)


def test_every_parameter_of_the_auto_encoder_learns() -> None:
    network = made()
    F.cross_entropy(network(torch.randint(SYMBOLS, (3, LENGTH))).mT, torch.randint(SYMBOLS, (3, LENGTH))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_positions_of_odd_widths_end_with_a_zero() -> None:
    assert torch.equal(sine_positions(4, torch.zeros(7))[:, :6], sine_positions(4, torch.zeros(6)))
    assert not sine_positions(4, torch.zeros(7))[:, 6].any()
    assert sine_positions(3, torch.zeros(2))[2].tolist() == pytest.approx([math.sin(2), math.cos(2)])
    assert sine_positions(2, torch.zeros(1)).shape == (2, 1)


def test_untied_embedding_is_a_table_and_a_linear_layer() -> None:
    torch.manual_seed(0)
    embedding = UntiedEmbedding(50, 64)
    symbols, hidden = torch.randint(50, (2, 3)), torch.randn(2, 3, 64)
    assert torch.equal(embedding.embed(symbols), embedding.weight[symbols])
    torch.testing.assert_close(embedding.logits(hidden), hidden @ embedding.head.weight.T + embedding.head.bias)
    targets = symbols.clone()
    targets[0, 1] = -100
    nats = -embedding.logits(hidden).log_softmax(-1).gather(-1, symbols[..., None])[..., 0]
    torch.testing.assert_close(embedding.nats(hidden, targets), nats.masked_fill(targets == -100, 0))
    assert embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not embedding.head.bias.any()
    assert embedding.weight.data_ptr() != embedding.head.weight.data_ptr()


@pytest.mark.parametrize(("width", "inner"), [(6, 16), (12, 32), (48, 128), (128, 352), (1024, 2736)])
def test_swiglu_is_its_equation(width: int, inner: int) -> None:
    """As wide as the suite's: 8/3 of the width, up to a multiple of 16."""
    with torch.device("meta" if width > 100 else "cpu"):
        layer = SwiGLU(width)
    first, second = layer.in_proj.weight.chunk(2)
    assert first.shape == second.shape == layer.out_proj.weight.T.shape == (inner, width)
    assert [name for name, _ in layer.named_parameters()] == ["in_proj.weight", "out_proj.weight"]
    if width < 100:
        x = torch.randn(2, 3, width)
        gate = x @ first.T
        expected = (gate * gate.sigmoid() * (x @ second.T)) @ layer.out_proj.weight.T
        torch.testing.assert_close(layer(x), expected)
