"""Parameter counts: ours by part, the paper's beside it, and why they differ where they differ by more than 1 %."""

from typing import Any

from torch import nn

from diffmamba.mixers import Mixer
from diffmamba.models import LanguageModel
from diffmamba.paper.cases import Case, layers_of
from diffmamba.paper.published import stored

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
    layers = layers_of(network)
    mixers = sum(parameters(layer) for layer in layers if isinstance(layer, Mixer))
    all_layers = sum(map(parameters, layers))
    return {
        "embedding": parameters(network.embedding),
        "mixers": mixers,
        "feed_forward": all_layers - mixers,
        "norms": parameters(network.backbone) - all_layers,
    }


def count(case: Case) -> dict[str, Any]:
    """The case's count beside the published one; what is compared is None where nothing is printed.

    `difference` is relative to the published count. `reason` is the finding that explains a difference.
    """
    total, printed = parameters(case.network), case.published_m
    found: dict[str, Any] = {"total": total, **parts(case.network), "published_m": printed}
    if printed is None:
        return found | dict.fromkeys(("difference", "within", "cut_off", "rounded", "reason"))
    difference = total / (printed * MILLION) - 1
    within = abs(difference) <= TOLERANCE
    return found | {
        "difference": difference,
        "within": within,
        "cut_off": int(total / MILLION) == printed,
        "rounded": round(total / MILLION) == printed,
        "reason": None if within else _reason(case),
    }


def _reason(case: Case) -> str:
    """The title of the finding that explains why the printed count is not ours."""
    for words in stored("findings")["contradictions"].values():
        for start, counted in words.get("explains", {}).items():
            if case.key.startswith(start) and int(millions(case.network)) == counted:
                return str(words["title"])
    return "not explained"
