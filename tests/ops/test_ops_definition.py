"""`backend=definition`: what analysis needs, derivatives of any order and forward-mode derivatives."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from judge import normal, selective_arguments, ssd_arguments
from torch import Tensor

from diffmamba.ops import (
    backend,
    causal_conv,
    conv_scan_norm,
    conv_scan_norm_step,
    conv_selective_scan_step,
    gated_rms_norm,
    gated_selective_scan,
    rms_norm,
    selective_scan,
    ssd,
)


@pytest.fixture(autouse=True)
def definition() -> Iterator[None]:
    with backend.use("definition"):
        yield


def normals(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def gated(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    return gated_selective_scan(*arguments[:6], *arguments[7:], arguments[6])


def block(*arguments: Tensor) -> tuple[Tensor, ...]:
    *tensors, past, h = arguments
    u, after = conv_scan_norm(*tensors, headdim=1, groups=2, states=(past, h), extend=True)  # type: ignore[arg-type]
    assert after is not None
    return u, *after


def flat(step: Callable[..., Any], *tensors: Tensor, **sizes: int) -> tuple[Tensor, ...]:
    *others, conv_state, state = tensors
    u, after = step(*others, conv_state=conv_state, state=state, **sizes)
    return u, *after


SELECTIVE = selective_arguments(3, 2, 1, 1, 2)
STEP2 = partial(flat, conv_scan_norm_step, headdim=2, groups=2, sharing=2)
STEP1 = partial(flat, conv_selective_scan_step, branches=2, sharing=2)
OPERATORS: dict[str, tuple[Callable[..., Any], list[Tensor]]] = {
    "ssd": (ssd, ssd_arguments(3, 2, 1, 1, 2, 2)),
    "selective_scan": (selective_scan, SELECTIVE),
    "gated_selective_scan": (gated, [*SELECTIVE, normal(2, seed=8), normal(1, 3, 2, seed=9)]),
    "causal_conv": (causal_conv, normals((1, 3, 2), (2, 3), (2,), (1, 2, 2))),
    "rms_norm": (rms_norm, normals((2, 3), (3,))),
    "gated_rms_norm": (gated_rms_norm, normals((2, 2, 3), (2, 2, 3), (2, 3))),
    "conv_scan_norm": (block, normals((1, 2, 16), (8, 2), (8,), (4,), (4,), (4,), (4,), (1, 1, 8), (1, 4, 1, 1))),
    "conv_scan_norm_step": (STEP2, normals((1, 14), (4, 1, 2), (4,), (2,), (2,), (2,), (2,), (1, 1, 8), (1, 2, 2, 1))),
    "conv_selective_scan_step": (
        STEP1,
        normals((1, 8), (2, 1, 2), (2,), (6, 2), (4, 1), (4,), (4, 1), (4,), (1, 1, 4), (1, 4, 1)),
    ),
}
EVERY_OPERATOR = pytest.mark.parametrize("name", OPERATORS)


@EVERY_OPERATOR
def test_second_derivatives_are_those_of_finite_differences(name: str) -> None:
    operator, arguments = OPERATORS[name]
    assert torch.autograd.gradgradcheck(operator, [t.clone().requires_grad_() for t in arguments])


@EVERY_OPERATOR
def test_so_are_forward_derivatives(name: str) -> None:
    operator, arguments = OPERATORS[name]
    leaves = [t.clone().requires_grad_() for t in arguments]
    assert torch.autograd.gradcheck(operator, leaves, check_forward_ad=True)


@EVERY_OPERATOR
def test_transformations_of_functions_take_it(name: str) -> None:
    """Forward-mode, reverse-mode, and the one over the other, as a product with the Hessian."""
    operator, arguments = OPERATORS[name]

    def total(*tensors: Tensor) -> Tensor:
        found = operator(*tensors)
        return sum(t.square().sum() for t in (found if isinstance(found, tuple) else (found,)))  # type: ignore[return-value]

    every = tuple(range(len(arguments)))
    towards = tuple(normal(*t.shape, seed=20 + i) for i, t in enumerate(arguments))
    slopes = torch.func.grad(total, every)(*arguments)
    expected = sum((slope * to).sum() for slope, to in zip(slopes, towards, strict=True))
    _, along = torch.func.jvp(total, tuple(arguments), towards)
    torch.testing.assert_close(along, expected)
    _, bent = torch.func.jvp(torch.func.grad(total, every), tuple(arguments), towards)
    eps = 1e-5
    further, before = (
        torch.func.grad(total, every)(*(t + sign * eps * to for t, to in zip(arguments, towards, strict=True)))
        for sign in (1, -1)
    )
    for one, plus, minus in zip(bent, further, before, strict=True):
        torch.testing.assert_close(one, (plus - minus) / (2 * eps), rtol=1e-6, atol=1e-6)
