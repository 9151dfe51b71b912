"""Parameter counts: ours by part, the paper's beside it, and why they differ where they differ by more than 1 %."""

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from diffmamba.mixers import Mixer
from diffmamba.models import LanguageModel
from diffmamba.models.backbone import ResidualBlock
from diffmamba.paper import published
from diffmamba.paper.cases import Case

TOLERANCE = 0.01
MILLION = 1e6


def parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def millions(module: nn.Module) -> float:
    """Millions of parameters, shared ones once."""
    return parameters(module) / MILLION


def parts(network: LanguageModel) -> dict[str, int]:
    """Parameters by part. Norms are those of the residual blocks; a mixer's own norms and λ belong to the mixer."""
    blocks = cast(list[ResidualBlock], list(network.backbone.blocks))
    mixers = sum(parameters(block.layer) for block in blocks if isinstance(block.layer, Mixer))
    layers = sum(parameters(block.layer) for block in blocks)
    norms = parameters(network.backbone) - layers
    return {
        "embedding": parameters(network.embedding),
        "mixers": mixers,
        "feed_forward": layers - mixers,
        "norms": norms,
    }


def count(case: Case, cases: Sequence[Case]) -> dict[str, Any]:
    """The case's count beside the published one; what is compared is None where nothing is printed.

    `difference` is relative to the published count. `reason` is looked for among `cases`.
    """
    total, printed = parameters(case.network), case.published_m
    found: dict[str, Any] = {"total": total, **parts(case.network), "published_m": printed}
    if printed is None:
        return found | dict.fromkeys(("difference", "within", "cut_off", "rounded", "reason"))
    difference = total / (printed * MILLION) - 1
    within, cut_off = abs(difference) <= TOLERANCE, int(total / MILLION) == printed
    compared = {
        "difference": difference,
        "within": within,
        "cut_off": cut_off,
        "rounded": round(total / MILLION) == printed,
    }
    return found | compared | {"reason": None if within else _reason(case, cases)}


def _reason(case: Case, cases: Sequence[Case]) -> str:
    """Why the printed count is not ours: it is another corpus's, or table 1 prints another one."""
    row = (case.table, case.layers, case.model, case.published_m)
    for other in cases:
        more = parameters(case.network) - parameters(other.network)
        if (other.table, other.layers, other.model, other.published_m) == row and other.data != case.data and more > 0:
            return f"the paper prints {other.data}'s count, whose embedding has {more / MILLION:.1f}M less"
    printed = published.table1(case.data, case.layers, case.model).params_m
    if printed not in (None, case.published_m):
        return f"the paper's table 1 prints {printed}M for this architecture"
    return "not explained"
