"""`network.compile()`: the same logits and gradients, in training and evaluation, whatever the length.

Models go as far as the traced graphs of outputs and gradients, which takes seconds each. The mixer of Diff-Mamba also
goes through the default compiler, which is slow. Of a model's parts, only mixers have operators of our own.
"""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.mixers import Difference, Mamba2
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


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile on a CPU needs a C++ compiler"
)
def test_a_compiled_mixer_is_the_eager_one() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    mixer = Mamba2(16, 1, headdim=8, d_state=4, expand=1, combine=partial(Difference, scope="block"))
    x, towards = torch.randn(2, 41, 16, requires_grad=True), torch.randn(2, 41, 16)

    def output_and_gradients() -> list[Tensor]:
        y = mixer(x)
        return [y.detach(), *torch.autograd.grad((y * towards).sum(), [x, *mixer.parameters()])]

    expected = output_and_gradients()
    unoptimised = {"aot_inductor.debug_compile": True}  # by the C++ compiler, which takes half the time then
    mixer.compile(fullgraph=True, options=unoptimised)
    assert_same(output_and_gradients(), expected)
