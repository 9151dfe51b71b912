"""Floating-point operations of a case, and how long they take a GPU. `docs/paper.md` says what is counted.

PyTorch counts matrix products; formulas here count our own operators, the convolution and the scan as a recurrence.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffmamba.errors import SettingError
from diffmamba.mixers import Mixer
from diffmamba.models import AdaptiveEmbedding
from diffmamba.paper.budget import budget
from diffmamba.paper.cases import Case, layers_of
from diffmamba.paper.published import stored

TRAINING = 3  # forward passes that a training step costs: one forward, and a backward that counts as two
PRECISIONS = ("fp32", "tf32", "bf16")
DEVICES = stored("devices")


@dataclass(frozen=True)
class Assumed:
    """What is assumed, not measured: the device, and the share of its peak that training reaches in each precision."""

    device: str = "l40s"
    fp32: float = 0.5
    tf32: float = 0.35
    bf16: float = 0.25

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise SettingError(f"device={self.device} is not known; use one of {', '.join(DEVICES)}")
        for precision in PRECISIONS:
            if not 0 < (share := getattr(self, precision)) <= 1:
                raise SettingError(f"utilisation_{precision}={share} must be above 0 and at most 1")


# Operations of a whole call, from the shapes of its arguments. Scans: docs/paper.md says what is counted.
SCANS = {
    torch.ops.diffmamba.ssd_chunked: lambda x, dt, A, B, *rest, **named: (5 * B[-1] + 3) * prod(x),
    torch.ops.diffmamba.selective_scan_chunked: lambda x, dt, A, *rest, **named: (6 * A[-1] + 3) * prod(x),
}
CONVOLUTIONS = {torch.ops.diffmamba.causal_conv: lambda x, weight, *rest, **named: 2 * weight[-1] * prod(x)}


@torch.no_grad()
def operations(function: Callable[[Tensor], Any], case: Case) -> dict[str, float]:
    """Operations per token of a function of hidden states: of scans, of convolutions and of matrix products."""
    hidden = torch.empty(1, case.config["data"]["length"], case.config["model"]["d_model"], device="meta")
    with FlopCounterMode(display=False, custom_mapping=SCANS | CONVOLUTIONS) as counter:
        function(hidden)
    found: Counter[str] = Counter()
    for operator, number in counter.get_flop_counts().get("Global", {}).items():
        kind = "scan" if operator in SCANS else "convolution" if operator in CONVOLUTIONS else "products"
        found[kind] += number
    return {kind: number / hidden.shape[1] for kind, number in found.items()}


def forward(case: Case) -> dict[str, float]:
    """Operations per token of a forward pass by part, the adaptive softmax by Zipf's law."""
    return layers(case) | vocabulary(case, zipf=True)


def layers(case: Case) -> dict[str, float]:
    """Operations per token of mixers and feed-forward layers by part. Layers that are alike are counted once."""
    found = dict.fromkeys(("projections", "feed_forward", "convolution", "scan"), 0.0)
    alike = groupby(sorted(layers_of(case.network), key=_form), key=_form)
    for same in (list(group) for _, group in alike):
        products = "projections" if isinstance(same[0], Mixer) else "feed_forward"
        for kind, number in operations(same[0], case).items():
            found[products if kind == "products" else kind] += len(same) * number
    return found


def _form(layer: nn.Module) -> str:
    """What layers of one network have in common if they are alike: the modules and the shapes of the parameters."""
    return f"{layer} {[(name, *parameter.shape) for name, parameter in layer.named_parameters()]}"


def vocabulary(case: Case, zipf: bool) -> dict[str, float]:
    """Operations per token on the way in and on the way out.

    Tokens meet the clusters of an adaptive softmax as Zipf's law says. Without `zipf` all enter through the widest
    cluster and meet every tail.
    """
    embedding = case.network.embedding
    way_out = operations(embedding.logits, case)["products"]  # every tail for every token
    if not isinstance(embedding, AdaptiveEmbedding):
        return {"embedding": 0.0, "softmax": way_out}
    projections = [2 * projection.numel() for projection in embedding.projections]
    if not zipf:
        return {"embedding": projections[0], "softmax": way_out}
    shares = zipf_shares(tuple(high - low for low, high in pairwise(embedding.borders)))
    tails = [2 * vectors.numel() + own for vectors, own in zip(embedding.vectors, projections, strict=True)]
    unmet = sum((1 - share) * tail for share, tail in zip(shares[1:], tails[1:], strict=True))
    way_in = sum(share * own for share, own in zip(shares, projections, strict=True))
    return {"embedding": way_in, "softmax": way_out - unmet}


@cache
def zipf_shares(sizes: tuple[int, ...]) -> list[float]:
    """Share of the tokens in each cluster if the frequency of a symbol goes with 1/rank."""
    ranks = iter(range(1, sum(sizes) + 1))
    weights = [sum(1 / next(ranks) for _ in range(size)) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def compute(case: Case, assumed: Assumed) -> dict[str, Any]:
    """What a case costs with one seed: per token and for the whole run; GPU-hours on the device assumed."""
    spent, counted = budget(case), layers(case)
    usual, most = (counted | vocabulary(case, zipf) for zipf in (True, False))
    per_token = sum(usual.values())
    training, evaluation = TRAINING * per_token * spent["tokens"], per_token * spent["evaluated_tokens"]
    return {
        "forward": usual,
        "forward_per_token": per_token,
        "forward_upper_bound": sum(most.values()),
        "training_per_token": TRAINING * per_token,
        "training": training,
        "evaluation": evaluation,
        "total": training + evaluation,
        "hours": hours(training + evaluation, assumed.device, assumed),
    }


def hours(total: float, device: str, assumed: Assumed) -> dict[str, float]:
    """GPU-hours of so many operations in each precision, at the assumed share of the device's peak."""
    peaks = DEVICES[device]["tflops"]
    return {name: total / (peak * 1e12 * getattr(assumed, name)) / 3600 for name, peak in peaks.items()}
