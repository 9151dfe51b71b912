"""Checks of the mechanism, at the published sizes: the paper's text, its equations and its code differ."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.mixers import Difference, Mixer
from diffmamba.mixers.combine import Lambda, LambdaForm, lambda_init
from diffmamba.ops import rms_norm
from diffmamba.paper.cases import Case, find, layers_of, mixer

LENGTH = 128  # positions of the random input
DRAWS = 400  # of λ at initialisation
SEED = 0
MARGIN = 0.01  # a sigmoid this near to 0 or 1 counts as settled
DIFF_MAMBA = "table1/text8/6/diff_mamba"


def place_of_the_norm(cases: Sequence[Case]) -> dict[str, Any]:
    depths, model = _depths(cases), find(cases, DIFF_MAMBA).config["model"]
    found = {str(depth): compare_norms(model, depth) for depth in (depths[0], depths[len(depths) // 2], depths[-1])}
    return found | {"more_parameters": len(depths) * model["d_model"]}


def _depths(cases: Sequence[Case]) -> list[int]:
    """The 1-based index of the residual block of every mixer of Diff-Mamba."""
    layers = layers_of(find(cases, DIFF_MAMBA).network)
    return [index for index, layer in enumerate(layers, start=1) if isinstance(layer, Mixer)]


class Apart(Difference):
    """The two branches of Diff-Mamba as they are before the subtraction: `(2, batch, length, d_model)`."""

    def forward(self, u: Tensor, weight: Tensor) -> Tensor:
        branches = zip(u.chunk(2, dim=-1), weight.chunk(2, dim=1), strict=True)
        return torch.stack([F.linear(*branch) for branch in branches])


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

    def distance(x: Tensor, to: Tensor) -> float:
        return float((x - to).norm() / to.norm())

    before, after = norm_before(second), norm_after(second)
    rms = [output.square().mean(dim=-1).sqrt() for output in (before, after)]
    return {
        "lambda": float(torch.as_tensor(weight).mean()),
        "relative_difference": distance(before, after),
        "cosine": float(F.cosine_similarity(before.flatten(), after.flatten(), dim=0)),
        "rms_before": [float(rms[0].min()), float(rms[0].max())],
        "rms_after": [float(rms[1].min()), float(rms[1].max())],
        "before_moves": distance(norm_before(2 * second), before),
        "after_moves": distance(norm_after(2 * second), after),
    }


def sign_of_lambda_init(cases: Sequence[Case]) -> dict[str, Any]:
    d_state = find(cases, DIFF_MAMBA).config["model"]["d_state"]
    forms = ("exp", "exp_printed")
    return {
        str(depth): {"lambda_init": lambda_init(depth)} | {form: draws(form, depth, d_state) for form in forms}
        for depth in _depths(cases)
    }


@torch.no_grad()
def draws(form: LambdaForm, depth: int, d_state: int) -> dict[str, float]:
    """λ at initialisation under a form: mean and standard deviation of many draws, and the share below zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        found = [float(Lambda(form, 1, d_state, lambda_init(depth))()) for _ in range(DRAWS)]
    return {"mean": fmean(found), "std": stdev(found), "negative": sum(value < 0 for value in found) / DRAWS}


def lambda_hardly_learns(cases: Sequence[Case]) -> dict[str, Any]:
    width = find(cases, DIFF_MAMBA).config["model"]["d_model"]
    return {"reparam": start_of_sigmoid(width), "scalar": start_of_sigmoid(1)}


def start_of_sigmoid(summed: int) -> dict[str, float]:
    """The sigmoid of a sum of so many standard normal numbers, in closed form: the sum is N(0, summed).

    `settled` is the share within `MARGIN` of 0 or 1. The derivative falls with the size of the sum, so its median is
    its value at the median size.
    """
    distribution = NormalDist(0, math.sqrt(summed))
    settled = 2 * distribution.cdf(-math.log((1 - MARGIN) / MARGIN))
    median = 1 / (1 + math.exp(distribution.inv_cdf(0.75)))
    return {"summed": summed, "settled": settled, "median_derivative": median * (1 - median)}
