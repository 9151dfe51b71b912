"""Parameter counts: ours by part, the paper's beside it, and where they differ by more than 1 %, why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from diffmamba.audit.cells import Cell
from diffmamba.mixers import Mixer
from diffmamba.models import LanguageModel
from diffmamba.models.backbone import ResidualBlock
from diffmamba.paper import published

TOLERANCE = 0.01
MILLION = 1e6


@dataclass(frozen=True)
class Count:
    """Parameters of a cell; `difference` is relative to the published count, `reason` says why it is not within 1 %."""

    total: int
    embedding: int
    mixers: int
    feed_forward: int
    norms: int
    published_m: int | None = None
    difference: float | None = None
    within: bool | None = None
    cut_off: bool | None = None
    rounded: bool | None = None
    reason: str | None = None


def parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def parts(network: LanguageModel) -> dict[str, Any]:
    """Parameters by part. Norms are those of the residual blocks; a mixer's own norms and λ belong to the mixer."""
    blocks = cast(list[ResidualBlock], list(network.backbone.blocks))
    mixers = sum(parameters(block.layer) for block in blocks if isinstance(block.layer, Mixer))
    layers = sum(parameters(block.layer) for block in blocks)
    norms = sum(parameters(block.norm) for block in blocks) + parameters(network.backbone.final_norm)
    return {
        "embedding": parameters(network.embedding),
        "mixers": mixers,
        "feed_forward": layers - mixers,
        "norms": norms,
    }


def count(cell: Cell, cells: Sequence[Cell]) -> Count:
    """The cell's count beside the published one; `cells` are where reasons are looked for."""
    total, printed = parameters(cell.network), cell.published_params_m
    if printed is None:
        return Count(total, **parts(cell.network))
    difference = total / (printed * MILLION) - 1
    within = abs(difference) <= TOLERANCE
    return Count(
        total,
        **parts(cell.network),
        published_m=printed,
        difference=difference,
        within=within,
        cut_off=int(total / MILLION) == printed,
        rounded=round(total / MILLION) == printed,
        reason=None if within else reason(cell, total, cells),
    )


def reason(cell: Cell, total: int, cells: Sequence[Cell]) -> str:
    """Why the printed count is not ours, by what the paper prints elsewhere."""
    return _copied(cell, total, cells) or _printed_twice(cell, total) or "not explained"


def _copied(cell: Cell, total: int, cells: Sequence[Cell]) -> str | None:
    """Another corpus's count: printed alike, though the embedding differs by the very amount."""
    for other in cells:
        same_row = (other.table, other.layers, other.model) == (cell.table, cell.layers, cell.model)
        if not same_row or other.data == cell.data or other.published_params_m != cell.published_params_m:
            continue
        more = parts(cell.network)["embedding"] - parts(other.network)["embedding"]
        if total - parameters(other.network) == more and more > 0:
            return f"the paper prints {other.data}'s count, whose embedding has {more / MILLION:.1f}M less"
    return None


def _printed_twice(cell: Cell, total: int) -> str | None:
    """Table 1 prints another count for the same architecture."""
    printed = published.table1(cell.data, published.numbers()["table4"]["layers"], cell.model).params_m
    if cell.table == "table1" or printed is None or abs(total / (printed * MILLION) - 1) > TOLERANCE:
        return None
    return f"the paper's table 1 prints {printed}M for this architecture"
