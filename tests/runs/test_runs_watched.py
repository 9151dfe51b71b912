"""What is logged of a network: λ of each block, norms of gradients, and memory, each beside its own definition."""

import math
import re

import pytest
import torch
from torch import nn

from diffmamba.mixers import Difference
from diffmamba.mixers.combine import LambdaForm
from diffmamba.runs.watched import Watched, memory_gb


class Layer(nn.Module):
    def __init__(self, form: LambdaForm | None, depth: int):
        super().__init__()
        sizes = {"d_model": 4, "d_inner": 6, "d_state": 2, "depth": depth}
        self.combine = nn.Linear(3, 3) if form is None else Difference(**sizes, scope="block", lambda_form=form)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([Layer("scalar", 1), Layer(None, 2), Layer("channel", 3), Layer("fixed", 4)])


def test_lambda_has_the_number_of_its_block_and_is_the_mean_of_its_channels() -> None:
    network = Network()
    with torch.no_grad():
        network.blocks[0].combine.weight.bar.fill_(0.4)
        network.blocks[2].combine.weight.bar.copy_(torch.tensor([0.1, -0.5, 1.0, 2.0]))
    initial = [0.8 - 0.6 * math.exp(-0.3 * (depth - 1)) for depth in (1, 2, 3, 4)]
    channels = [1 / (1 + math.exp(-bar)) for bar in (0.1, -0.5, 1.0, 2.0)]
    expected = {"lambda/1": 1 / (1 + math.exp(-0.4)) + initial[0], "lambda/3": sum(channels) / 4 + initial[2]}
    assert Watched(network).lambdas() == pytest.approx(expected | {"lambda/4": initial[3]}, rel=1e-6)


def test_gradients_are_norms_of_blocks_and_of_all() -> None:
    network = Network()
    assert Watched(network).gradients() == {}
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    squares: dict[str, float] = {"total": 0.0}
    for name, parameter in network.named_parameters():
        block = re.match(r"blocks\.(\d)", name)
        part = float((parameter.grad.double() ** 2).sum())
        for key in ("total", *([str(int(block[1]) + 1)] if block else [])):
            squares[key] = squares.get(key, 0.0) + part
    expected = {f"gradient/{name}": math.sqrt(square) for name, square in squares.items()}
    assert Watched(network).gradients() == pytest.approx(expected, rel=1e-5)


def test_memory_grows_by_what_is_held() -> None:
    before = memory_gb(torch.device("cpu"))
    held = torch.ones(50_000_000)  # 0.2 GB
    after = memory_gb(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert 0.15 < after - before < 0.25
    assert held.sum() > 0
