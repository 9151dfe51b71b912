"""The formulas of both scans written a second time, arguments for them, and how what was found is judged."""

from collections.abc import Callable

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
    """The same where every channel and state has a decay of its own."""
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


def ssd_arguments(
    length: int, heads: int = 4, groups: int = 2, batch: int = 2, headdim: int = 3, d_state: int = 5, seed: int = 0
) -> list[Tensor]:
    """Random arguments in float64 with an initial state; dt log-uniform in [1e-3, 1], -A in [1, 16] as in a model."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = 10 ** (-3 * torch.rand(batch, length, heads, generator=generator, dtype=torch.float64))
    A = -1 - 15 * torch.rand(heads, generator=generator, dtype=torch.float64)
    B, C = normal(batch, length, groups, d_state), normal(batch, length, groups, d_state)
    return [normal(batch, length, heads, headdim), dt, A, B, C, normal(heads), normal(batch, heads, headdim, d_state)]


def selective_arguments(
    length: int, channels: int = 6, groups: int = 2, batch: int = 2, d_state: int = 5, seed: int = 0
) -> list[Tensor]:
    """The same for the selective scan."""
    x, dt, _, B, C, D, h = ssd_arguments(length, channels, groups, batch, 1, d_state, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    A = -1 - 15 * torch.rand(channels, d_state, generator=generator, dtype=torch.float64)
    return [x[..., 0], dt, A, B, C, D, h[:, :, 0]]


def outputs_and_gradients(scan: Scan, arguments: list[Tensor]) -> dict[str, Tensor]:
    """y, the final state and the gradients of every argument of a random linear function of both."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    y, h = scan(*leaves)
    generator = torch.Generator().manual_seed(1)
    towards_y, towards_h = (torch.randn(z.shape, generator=generator, dtype=torch.float64) for z in (y, h))
    ((y.double() * towards_y).sum() + (h.double() * towards_h).sum()).backward()
    gradients = {f"gradient of {name}": leaf.grad for name, leaf in zip(NAMES, leaves, strict=False)}
    return {"y": y.detach(), "final h": h.detach()} | gradients


def with_dt(arguments: list[Tensor], *values: float) -> list[Tensor]:
    """The same arguments in float32, dt drawn from these values."""
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(len(values), arguments[1].shape, generator=generator)
    return [t.float() for t in [arguments[0], torch.tensor(values)[chosen], *arguments[2:]]]


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest number of each tensor."""
    for name, value in expected.items():
        error = (found[name].double() - value).abs().max() / value.abs().max().clamp(min=1e-30)
        assert error <= tolerance, f"{name} is off by {error:.1e} of its largest entry"
