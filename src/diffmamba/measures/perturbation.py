"""How fast a block forgets a small change: the simulation of arXiv 2406.00209.

Each state-space mixer of the network reads one random sequence twice. Once its state and its first input are changed by
noise of size ε, and from then on all inputs are the same. The deviation at a position is the largest difference of the
two outputs there. The paper did this for 100 blocks with random weights, and saw it shrink exponentially. Here any
weights can be taken; `weights=fresh scale.n_layers=50` has 100 random blocks.

The deviation of the state shrinks by exp(A · dt) at each position, so the rate at which the output's shrinks tends to
the largest exponent of the mixer, or below it. Two branches do not change that. What they may change is how large the
deviation is: of u1 - λ u2 it is at most 1 + λ times that of the larger branch, before the outer norm (`gain`).
"""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.measures import exponents
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.state_space import mixers_of
from diffmamba.metric import Metric
from diffmamba.mixers import Difference, Mamba1, Mamba2
from diffmamba.ranges import Count, Steps

SEED = 0
"""Of the inputs and the noise, the same for all models and blocks of a width."""
FLOOR = 1e-13
"""Of the output's size: a smaller deviation is rounding of float64."""
Noise = Annotated[float, Ge(1e-10), Le(0.1)]
"""Well above `FLOOR`, and small enough for a linear response: inputs have a standard deviation of 1."""


@dataclass(frozen=True)
class Perturbation(Measure):
    """The deviation of each state-space mixer over positions, in float64, and the rate at which it shrinks.

    Args:
        size: ε: the standard deviation of the noise that is added to each number of the state and of the first input.
        settle: positions that are read before.
        steps: positions from the changed one on.
    """

    size: Noise = 1e-3
    settle: Count = 64
    steps: Steps = 1024

    metrics: ClassVar[Mapping[str, Metric]] = {
        "exponent": Metric("rate of the largest deviation, nats per position", "", 4),
        "bound": Metric("largest exponent of all blocks", "", 4),
        "rate": Metric("rate, mean over blocks", "", 4),
        "block_bound": Metric("largest exponent of a block, mean over blocks", "", 4),
        "straight": Metric("R² of the fitted exponential, mean over blocks", "", 3),
        "peak": Metric("largest deviation / ε, mean over blocks", "", 3),
        "relative_peak": Metric("largest deviation / (ε · RMS of the output), mean over blocks", "", 3),
        "gain": Metric("deviation of the difference / that of the larger branch, mean over blocks", "", 3),
        "gain_bound": Metric("1 + λ, mean over blocks", "", 3),
        "blocks": Metric("blocks", "", 0),
    }
    headline = "exponent"
    reads_data = False
    in_float64 = True

    def check_network(self, network: nn.Module) -> None:
        mixers_of(network, "perturbation")

    @torch.no_grad()
    def rows(self, subject: Subject) -> Iterator[Row]:
        mixers = mixers_of(subject.network, "perturbation")
        found: dict[int, dict[str, float]] = {}
        curves = []
        for done, (block, mixer) in enumerate(mixers.items(), start=1):
            found[block], curve = self._measured(deepcopy(mixer).double())
            curves.append(curve)
            subject.progress(done, len(mixers))
        largest = np.max(curves, axis=0)
        floor = max(one.pop("floor") for one in found.values())
        fitted = fit(largest, floor)
        yield Row("exponent", fitted[0])
        yield Row("bound", max(one["bound"] for one in found.values()))
        named = {"rate": "exponent", "block_bound": "bound"}
        for name in ("rate", "block_bound", "straight", "peak", "relative_peak", "gain", "gain_bound"):
            yield Row(name, float(np.mean([one[named.get(name, name)] for one in found.values()])))
        yield Row("blocks", len(found))
        for index, figures in found.items():
            yield from (Row(name, value, {"block": index + 1}) for name, value in figures.items())
        for time, (most, middle) in enumerate(zip(largest, np.median(curves, axis=0), strict=True)):
            yield Row("deviation", float(most / self.size), {"time": time})
            yield Row("median_deviation", float(middle / self.size), {"time": time})

    def _measured(self, mixer: Mamba1 | Mamba2) -> tuple[dict[str, float], NDArray[np.float64]]:
        """The figures of one mixer, and its deviation `(steps,)`."""
        x, state = self._inputs(mixer)
        seen: list[Tensor] = []
        handle = mixer.combine.register_forward_pre_hook(lambda module, given: seen.extend(given))
        y, _ = mixer.extend(x, state)
        handle.remove()
        deviation = (y[1] - y[0]).abs().amax(-1).cpu().numpy()
        rms, largest = y[0].square().mean().sqrt().item(), y[0].abs().max().item()
        rate, straight = fit(deviation, FLOOR * largest)
        gain, gain_bound = _gain(mixer.combine, *seen)
        time_step = mixer.time_steps(x, state)[0].mean(0)
        figures = {
            "exponent": rate,
            "bound": exponents.of_scan(mixer, time_step).max().item(),
            "straight": straight,
            "peak": deviation.max() / self.size,
            "relative_peak": deviation.max() / (self.size * rms),
            "gain": gain,
            "gain_bound": gain_bound,
            "floor": FLOOR * largest,
        }
        return figures, deviation

    def _inputs(self, mixer: Mamba1 | Mamba2) -> tuple[Tensor, Any]:
        """Inputs `(2, steps, d_model)` and the state before them, of the plain and of the changed sequence."""
        draw = torch.Generator().manual_seed(SEED)
        weight = mixer.in_proj.weight

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(weight.device)

        x = noise(self.settle + self.steps, weight.shape[1]).expand(2, -1, -1)
        state = mixer.allocate_state(2)
        if self.settle:
            state = mixer.extend(x[:, : self.settle], state)[1]
        x = x[:, self.settle :].clone()
        first = (state[0].clone(), state[1].clone())
        for part in (x[:, 0], *first):
            part[1] += self.size * noise(*part.shape[1:])
        return x, first


def fit(deviation: NDArray[np.float64], floor: float) -> tuple[float, float]:
    """The slope of ln deviation by position, and R² of the straight line.

    It is fitted to the later half of the positions before the deviation first falls below `floor`: at first several
    exponents are at work. Where fewer than two of these are left, the deviation was gone at once, and the slope is that
    from the first position to the floor. A curve that is too short and not gone says nothing: both are NaN.
    """
    below = np.flatnonzero(deviation <= floor)
    end = int(below[0]) if len(below) else len(deviation)
    at = np.arange(end // 2, end)
    if len(at) < 2 and end == len(deviation):
        return math.nan, math.nan
    if len(at) < 2:
        return math.log(max(floor, 1e-300) / max(deviation[0], floor, 1e-300)) / max(end, 1), 1.0
    logarithm = np.log(deviation[at])
    slope, start = np.polyfit(at, logarithm, 1)
    spread = float(((logarithm - logarithm.mean()) ** 2).sum())
    rest = float(((logarithm - slope * at - start) ** 2).sum())
    return float(slope), 1 - rest / spread if spread else 1.0


def _gain(combine: nn.Module, u: Tensor, weight: Tensor) -> tuple[float, float]:
    """The deviation of u1 ± λ u2 over that of the larger branch, over all positions, and its bound 1 + λ.

    Branches with output projections of their own count after these. For one branch both are 1.

    Args:
        u: what `combine` was given: `(2, positions, branches · channels)`, of the plain and of the changed sequence.
        weight: the output projection, or those of both branches side by side.
    """
    if not isinstance(combine, Difference):
        return 1.0, 1.0
    parts = (u[1] - u[0]).chunk(2, dim=-1)
    if not combine.shared:
        parts = tuple(F.linear(part, one) for part, one in zip(parts, weight.chunk(2, dim=1), strict=True))
    second_weight = torch.as_tensor(combine.weight(), dtype=u.dtype, device=u.device)
    together = (parts[0] + combine.sign * second_weight * parts[1]).norm()
    larger = max(part.norm() for part in parts)
    return (together / larger).item(), 1 + second_weight.abs().max().item()
