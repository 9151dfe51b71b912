"""Lyapunov exponents: how fast two trajectories of one system come together or part, in nats per step.

Two ways to find them. The state of a state-space mixer is multiplied by exp(A · dt) at each position, so its exponents
are known exactly from the time steps (`of_scan`). For a system that is only given as a function, `benettin` measures
the growth of a small difference.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffmamba.mixers import Mamba1, Mamba2

ROUNDING = 1e-16
"""A difference that shrinks below this part of itself between two measurements is gone: float64 cannot tell more."""


def of_scan(mixer: Mamba1 | Mamba2, time_step: Tensor) -> Tensor:
    """The exponents of a mixer's state, given its mean time step: A · mean dt, in nats per position.

    h_t = exp(A · dt_t) · h_{t-1} + B_t · x_t, number by number. So the Jacobian of h after T positions by h before them
    is diagonal with the entries exp(A · Σ dt), and the logarithm of an entry over T is an exponent. As A < 0 and
    dt >= 0, none is above 0, whatever weights and inputs are (arXiv 2406.00209).

    Args:
        mixer: Mamba-2 with heads, or Mamba-1 with channels.
        time_step: the mean of dt over positions, `(heads,)` or `(channels,)`; those of branch 1 come first.

    Returns:
        float64. Mamba-2: `(branches, heads / branches)`; each is that of all headdim · d_state numbers of its head.
        Mamba-1: `(branches, channels / branches, d_state)`.
    """
    A = -mixer.A_log.detach().double().exp()
    time_step = time_step.to(A)
    found = A * (time_step if A.dim() == 1 else time_step[:, None])
    return found.unflatten(0, (mixer.branches, -1))


def half_life(exponent: float) -> float:
    """The steps in which a difference halves; infinite where it does not shrink."""
    return math.log(2) / -exponent if exponent < 0 else math.inf


def benettin(
    step: Callable[[Tensor], Tensor],
    state: Tensor,
    *,
    steps: int,
    every: int = 1,
    size: float = 1e-7,
    settle: int = 0,
    draw: torch.Generator | None = None,
) -> Tensor:
    """The largest exponent of a system, by the growth of a small difference (Benettin et al., Meccanica 15, 1980).

    Beside each trajectory goes a second one, at first at the distance `size` in a random direction. After `every` steps
    the logarithm of (distance / size) is noted, and the second trajectory is put back to the distance `size` in the
    direction in which it lies. The mean of these logarithms, per step, tends to the largest exponent.

    Args:
        step: the next states of any number of states, `(n, numbers)` → the same shape.
        state: where the trajectories start, `(starts, numbers)`, best in float64.
        steps: steps that count, rounded up to whole multiples of `every`.
        every: steps from one measurement of the distance to the next.
        size: Euclidean length of the difference.
        settle: steps before those that count, in which the difference turns into the direction of fastest growth.
        draw: draws the first directions.

    Returns:
        The growth at each measurement that counts, `(measurements, starts)`, in nats per step.
    """
    starts, growth = len(state), []
    gap = _directions(state, draw) * size
    for _ in range(-(-settle // every) + -(-steps // every)):
        pair = torch.cat([state, state + gap])
        for _ in range(every):
            pair = step(pair)
        state, gap = pair[:starts], pair[starts:] - pair[:starts]
        distance = gap.norm(dim=1, keepdim=True)
        growth.append((distance[:, 0] / size).clamp(min=ROUNDING).log() / every)
        gap = torch.where(distance > ROUNDING * size, gap / distance, _directions(state, draw)) * size
    return torch.stack(growth[-(-settle // every) :])


def _directions(like: Tensor, draw: torch.Generator | None) -> Tensor:
    """Random directions of length 1, `(starts, numbers)`."""
    drawn = torch.randn(like.shape, generator=draw, dtype=like.dtype).to(like.device)
    return drawn / drawn.norm(dim=1, keepdim=True)
