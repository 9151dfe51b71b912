"""Where the paper's text, its equations and its code describe different mechanisms, shown at the published sizes."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.mixers import Difference, Mixer
from diffmamba.mixers.combine import Lambda, lambda_init
from diffmamba.ops import rms_norm
from diffmamba.paper.cases import Case, find, mixer
from diffmamba.paper.finding import Found

LENGTH = 128  # positions of the random input
DRAWS = 400  # of λ at initialisation
SEED = 0
MARGIN = 0.01  # a sigmoid this near to 0 or 1 counts as settled


def place_of_the_norm(cases: Sequence[Case]) -> Found:
    """The norm before the subtraction, or after it."""
    case = find(cases, "table1/text8/6/diff_mamba")
    depths, model = depths_of(case), case.config["model"]
    found = {str(depth): compare_norms(model, depth) for depth in (depths[0], depths[len(depths) // 2], depths[-1])}
    differences, moves = ([row[key] for row in found.values()] for key in ("relative_difference", "after_moves"))
    more = len(depths) * model["d_model"]
    computed = (
        f"For the branches a and b at initialisation N[a] - λN[b] differs from N[a - λb] by {min(differences):.0%} to "
        f"{max(differences):.0%}; when b doubles, the first does not change and the second changes by "
        f"{min(moves):.0%} to {max(moves):.0%}; a gain for each branch would add {more:,} parameters."
    )
    printed = "The text speaks of a normalisation before subtraction; eqs. 16 and 21 and figure 1 have it after."
    return printed, computed, found | {"more_parameters": more}


def depths_of(case: Case) -> list[int]:
    """The 1-based index of the residual block of every mixer."""
    blocks = enumerate(case.network.backbone.blocks, start=1)
    return [index for index, block in blocks if isinstance(block.layer, Mixer)]


class Apart(Difference):
    """The two branches of Diff-Mamba as they are before the subtraction: `(2, batch, length, d_model)`."""

    def forward(self, u: Tensor, weight: Tensor) -> Tensor:
        return torch.stack(
            [F.linear(*branch) for branch in zip(u.chunk(2, dim=-1), weight.chunk(2, dim=1), strict=True)]
        )


@torch.no_grad()
def compare_norms(model: dict[str, Any], depth: int) -> dict[str, Any]:
    """The two places of the norm, gains 1, on the branches of a Diff-Mamba mixer at this depth with random input.

    RMS are the lowest and the highest of a position over its channels, without (1 - λ_init). `before_moves` and
    `after_moves` are the relative change of the output when the second branch doubles.
    """
    make = mixer("diff_mamba", model["headdim"], model["expand"], model["d_state"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        built = make(d_model=model["d_model"], depth=depth, combine=lambda **sizes: Apart(scope="block", **sizes))
        first, second = built(torch.randn(1, LENGTH, model["d_model"]))
    weight, one = built.combine.weight(), torch.ones(model["d_model"])

    def norm_before(b: Tensor) -> Tensor:
        return rms_norm(first, one) - weight * rms_norm(b, one)

    def norm_after(b: Tensor) -> Tensor:
        return rms_norm(first - weight * b, one)

    before, after = norm_before(second), norm_after(second)
    return {
        "lambda": float(torch.as_tensor(weight).mean()),
        "relative_difference": _distance(before, after),
        "cosine": float(F.cosine_similarity(before.flatten(), after.flatten(), dim=0)),
        "rms_before": _rms(before),
        "rms_after": _rms(after),
        "before_moves": _distance(norm_before(2 * second), before),
        "after_moves": _distance(norm_after(2 * second), after),
    }


def _distance(x: Tensor, to: Tensor) -> float:
    return float((x - to).norm() / to.norm())


def _rms(x: Tensor) -> list[float]:
    rms = x.square().mean(dim=-1).sqrt()
    return [float(rms.min()), float(rms.max())]


def sign_of_lambda_init(cases: Sequence[Case]) -> Found:
    """λ_init subtracted, or added."""
    case = find(cases, "table1/text8/6/diff_mamba")
    values: dict[str, Any] = {}
    for depth in depths_of(case):
        forms = {form: draws(form, depth, case.config["model"]["d_state"]) for form in ("exp", "exp_printed")}
        values[str(depth)] = {"lambda_init": lambda_init(depth)} | forms
    (_, plus, minus), *_, (_, last_plus, last_minus) = (row.values() for row in values.values())
    computed = (
        f"In {DRAWS} draws at initialisation λ as printed has mean {minus['mean']:+.2f} in the first mixer and "
        f"{last_minus['mean']:+.2f} in the last, and is below zero in {minus['negative']:.0%} and "
        f"{last_minus['negative']:.0%}, which adds the second branch; with + the means are {plus['mean']:+.2f} and "
        f"{last_plus['mean']:+.2f}."
    )
    printed = "Eq. 11 has exp(q1·k1) - exp(q2·k2) - λ_init; Differential Transformer and the authors' code add λ_init."
    return printed, computed, values


@torch.no_grad()
def draws(form: str, depth: int, d_state: int) -> dict[str, float]:
    """λ at initialisation under a form: mean and standard deviation of many draws, and the share below zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        found = [float(Lambda(form, 1, d_state, lambda_init(depth))()) for _ in range(DRAWS)]
    return {"mean": fmean(found), "std": stdev(found), "negative": sum(value < 0 for value in found) / DRAWS}


def lambda_hardly_learns(cases: Sequence[Case]) -> Found:
    """λ as the published code runs it hardly learns."""
    width = find(cases, "table1/text8/6/diff_mamba").config["model"]["d_model"]
    run, one = start_of_sigmoid(width), start_of_sigmoid(1)
    computed = (
        f"At the start {run['settled']:.1%} of these sigmoids lie within {MARGIN} of 0 or 1, and their median "
        f"derivative is {run['median_derivative']:.0e}; for the sigmoid of one number it is "
        f"{one['median_derivative']:.2f}."
    )
    printed = (
        f"The text speaks of a learnable λ; the code takes the sigmoid of the sum of {width} standard normal numbers."
    )
    return printed, computed, {"reparam": run, "scalar": one}


def start_of_sigmoid(summed: int) -> dict[str, float]:
    """The sigmoid of a sum of so many standard normal numbers, in closed form: the sum is N(0, summed).

    `settled` is the share within `MARGIN` of 0 or 1. The derivative falls with the size of the sum, so its median is
    its value at the median size.
    """
    distribution = NormalDist(0, math.sqrt(summed))
    settled = 2 * distribution.cdf(-math.log((1 - MARGIN) / MARGIN))
    median = 1 / (1 + math.exp(distribution.inv_cdf(0.75)))
    return {"summed": summed, "settled": settled, "median_derivative": median * (1 - median)}
