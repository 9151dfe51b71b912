"""Derivatives of any order and forward-mode ones, of mixers and of whole models, with `backend=definition`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmamba.mixers import Difference, Mamba1, Mamba2, Mixer, Single
from diffmamba.models import LanguageModel
from diffmamba.ops import backend

SYMBOLS = torch.randint(7, (2, 9), generator=torch.Generator().manual_seed(1))
COMBINATIONS = {"vanilla": Single} | {scope: partial(Difference, scope=scope) for scope in ("block", "ssm")}
MIXERS = {
    f"{kind.__name__} {name}": partial(kind, 2, 1, d_state=2, d_conv=2, expand=1, combine=combine, **sizes)
    for kind, sizes in ((Mamba1, {}), (Mamba2, {"headdim": 1}))
    for name, combine in COMBINATIONS.items()
}


@pytest.fixture(autouse=True)
def definition() -> Iterator[None]:
    with backend.use("definition"):
        yield


@pytest.mark.parametrize("build_mixer", MIXERS.values(), ids=MIXERS)
def test_second_and_forward_derivatives_of_mixers(build_mixer: Callable[[], Mixer]) -> None:
    torch.manual_seed(0)
    mixer = build_mixer().double()
    names = [name for name, _ in mixer.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, dict(zip(names, parameters, strict=True)), x)

    x = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    leaves = [x, *(p.detach().requires_grad_() for p in mixer.parameters())]
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True, fast_mode=True)


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize("model", ["mamba", "diff_mamba", "diff_s6"])
def test_a_product_with_the_hessian_of_a_language_model(
    build: Callable[..., LanguageModel], model: str, ssm: str
) -> None:
    """By forward-mode over reverse-mode and by reverse-mode twice, against the difference of two gradients."""
    network = build(f"model={model}", f"model.ssm={ssm}").double().eval()
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    towards = {name: torch.randn_like(p) for name, p in parameters.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, parameters, (SYMBOLS[:, :-1], SYMBOLS[:, 1:])).mean()

    def product(slopes: dict[str, Tensor]) -> Tensor:
        return torch.stack([(slopes[name] * to).sum() for name, to in towards.items()]).sum()

    def moved(by: float) -> dict[str, Tensor]:
        return {name: p + by * towards[name] for name, p in parameters.items()}

    slope = torch.func.grad(loss)
    _, along = torch.func.jvp(loss, (parameters,), (towards,))
    torch.testing.assert_close(along, product(slope(parameters)))
    _, forward = torch.func.jvp(slope, (parameters,), (towards,))
    twice: Any = torch.func.grad(lambda p: product(slope(p)))(parameters)
    after, before = slope(moved(1e-5)), slope(moved(-1e-5))
    for name in parameters:
        difference = (after[name] - before[name]) / 2e-5
        scale = difference.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(forward[name], twice[name], rtol=1e-8, atol=1e-8)
        assert (forward[name] - difference).abs().max() <= 1e-4 * scale, name
