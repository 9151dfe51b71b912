"""`network.compile()`: the same logits and gradients, in training and evaluation, whatever the length.

The graphs of outputs and gradients are traced, but run without code generation, which is slow. `test_ops_compile.py`
has a test of our own operators with code generation.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.models import LanguageModel

Build = Callable[..., LanguageModel]
SYMBOLS = torch.randint(7, (2, 41), generator=torch.Generator().manual_seed(1))
TOLERANCE = 1e-5  # in float32, of the largest number: sums in another order


def logits_and_gradients(network: Callable[[Tensor], Tensor], parameters: Any, symbols: Tensor) -> list[Tensor]:
    logits = network(symbols[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), symbols[:, 1:].flatten())
    return [logits.detach(), *torch.autograd.grad(loss, list(parameters))]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()


@pytest.mark.parametrize(
    "words",
    [["model=diff_s6", "model.ssm=mamba1"], ["model=diff_transformer"]],
    ids=" ".join,
)
def test_traced_models_are_the_eager_ones(build: Build, words: list[str]) -> None:
    torch.compiler.reset()
    network = build(*words, layer=["mixer"])
    parameters, names = list(network.parameters()), list(network.state_dict())
    expected = logits_and_gradients(network, parameters, SYMBOLS)
    network.compile(backend="aot_eager", fullgraph=True)
    assert_same(logits_and_gradients(network, parameters, SYMBOLS), expected)
    assert list(network.state_dict()) == names  # checkpoints fit with and without


def test_lengths_evaluation_and_decoding_of_a_compiled_model(build: Build) -> None:
    torch.compiler.reset()
    network = build("model=diff_mamba", layer=["mixer"])
    parameters = list(network.parameters())
    batches = (SYMBOLS, SYMBOLS[:1, :34])
    expected = [logits_and_gradients(network, parameters, batch) for batch in batches]
    network.compile(backend="aot_eager", fullgraph=True)
    for batch, judges in zip(batches, expected, strict=True):
        assert_same(logits_and_gradients(network, parameters, batch), judges)
    with torch.no_grad():
        logits = network.eval()(SYMBOLS[:, :-1])
        pieces, _ = network.extend(SYMBOLS[:, :-1], network.allocate_state(2))  # which is not compiled
    for one in (logits, pieces):
        assert_same([one], expected[0][:1])
