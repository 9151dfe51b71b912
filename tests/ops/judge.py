"""The definitions of both scans, written a second time; arguments for them; and how results are compared."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

NAMES = ("x", "dt", "A", "B", "C", "D", "h")
Scan = Callable[..., tuple[Tensor, Tensor]]


def ssd_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt A) h[t-1] + dt x ⊗ B;  y[t] = h[t] C + D x;  head i reads group i // (heads / groups)."""
    group = _groups(x.shape[2], B.shape[2])
    h = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3]) if h is None else h
    ys = []
    for t in range(x.shape[1]):
        h = (dt[:, t] * A).exp()[..., None, None] * h + torch.einsum(
            "bh,bhp,bhn->bhpn", dt[:, t], x[:, t], B[:, t, group]
        )
        ys.append(torch.einsum("bhpn,bhn->bhp", h, C[:, t, group]) + D[:, None] * x[:, t])
    return torch.stack(ys, dim=1), h


def selective_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same with a decay of its own for every channel and state."""
    group = _groups(x.shape[2], B.shape[2])
    h = x.new_zeros(x.shape[0], *A.shape) if h is None else h
    ys = []
    for t in range(x.shape[1]):
        h = torch.einsum("bc,cn->bcn", dt[:, t], A).exp() * h + torch.einsum(
            "bc,bc,bcn->bcn", dt[:, t], x[:, t], B[:, t, group]
        )
        ys.append(torch.einsum("bcn,bcn->bc", h, C[:, t, group]) + D * x[:, t])
    return torch.stack(ys, dim=1), h


def _groups(channels: int, groups: int) -> list[int]:
    return [i // (channels // groups) for i in range(channels)]


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int) -> Tensor:
    """Numbers in [0, 1) in float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ssd_arguments(
    length: int, heads: int = 4, groups: int = 2, batch: int = 2, d_state: int = 5, headdim: int = 3
) -> list[Tensor]:
    """Random arguments in float64 with an initial state; dt log-uniform in [1e-3, 1], -A in [1, 16] as in a model."""
    return [
        normal(batch, length, heads, headdim, seed=0),
        10 ** (-3 * uniform(batch, length, heads, seed=1)),
        -1 - 15 * uniform(heads, seed=2),
        normal(batch, length, groups, d_state, seed=3),
        normal(batch, length, groups, d_state, seed=4),
        normal(heads, seed=5),
        normal(batch, heads, headdim, d_state, seed=6),
    ]


def selective_arguments(
    length: int, channels: int = 4, groups: int = 2, batch: int = 2, d_state: int = 5
) -> list[Tensor]:
    """The same for the selective scan."""
    x, dt, _, B, C, D, h = ssd_arguments(length, channels, groups, batch, d_state, 1)
    return [x[..., 0], dt, -1 - 15 * uniform(channels, d_state, seed=2), B, C, D, h[:, :, 0]]


def with_dt(arguments: list[Tensor], *values: float) -> list[Tensor]:
    """The same arguments in float32, dt drawn from these values."""
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(len(values), arguments[1].shape, generator=generator)
    return [t.float() for t in [arguments[0], torch.tensor(values)[chosen], *arguments[2:]]]


def outputs_and_gradients(function: Callable[..., Any], arguments: Sequence[Tensor]) -> list[Tensor]:
    """All outputs, then the gradient of every argument, for a random linear function of the outputs."""
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    found = function(*leaves)
    outputs = found if isinstance(found, tuple) else (found,)
    total = sum((out.double() * normal(*out.shape, seed=7 + i)).sum() for i, out in enumerate(outputs))
    return [*(out.detach() for out in outputs), *torch.autograd.grad(total, leaves)]


def by_name(scan: Scan, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
    """`outputs_and_gradients` of a scan: "y", "final h", "gradient of x" and so on."""
    labels = ("y", "final h", *(f"gradient of {name}" for name in NAMES))
    return dict(zip(labels, outputs_and_gradients(scan, arguments), strict=False))


def assert_close(found: Any, expected: Any, tolerance: float, least: float = 1e-30) -> None:
    """Compares lists, or the entries of dictionaries that are expected, relative to the largest number of each tensor.

    Where that is below `least`, the difference is relative to `least`.
    """
    assert isinstance(expected, dict) or len(found) == len(expected)
    for name, value in expected.items() if isinstance(expected, dict) else enumerate(expected):
        assert found[name].shape == value.shape, name
        if value.numel():
            error = (found[name].double() - value.double()).abs().max().item() / max(value.abs().max().item(), least)
            assert error <= tolerance, f"{name} is off by {error:.1e} of its largest entry"
