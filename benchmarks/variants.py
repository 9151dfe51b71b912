"""The models that are measured: those of `conf/model`, composed at given sizes.

Hydra is imported where a model is composed and nowhere else, so that the other parts need only PyTorch. `mamba1` and
`diff_mamba1` are `mamba` and `diff_mamba` with `model.ssm=mamba1`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from diffmamba.mixers import Mixer
from diffmamba.models import LanguageModel

D_STATE_1 = 16  # states of Mamba-1, in all of its published models
VARIANTS = {
    "mamba": ("model=mamba",),
    "mamba_grouped": ("model=mamba_grouped",),
    "diff_mamba": ("model=diff_mamba",),
    "diff_mamba_additive": ("model=diff_mamba_additive",),
    "diff_mamba_hybrid": ("model=diff_mamba_hybrid",),
    "diff_s6": ("model=diff_s6",),
    "naive_diff": ("model=naive_diff",),
    "mamba1": ("model=mamba", "model.ssm=mamba1"),
    "diff_mamba1": ("model=diff_mamba", "model.ssm=mamba1"),
    "transformer": ("model=transformer",),
    "diff_transformer": ("model=diff_transformer",),
}
"""The settings of each variant."""


@dataclass(frozen=True)
class Scale:
    """Sizes, by their names in `conf/scale` and `conf/architecture`."""

    d_model: int
    headdim: int
    d_state: int
    n_layers: int = 1
    layer: tuple[str, ...] = ("mixer", "mixer", "ffn")
    residual: str = "post_norm"
    vocabulary: int = 27


def mixer(name: str, scale: Scale, device: torch.device | str = "cpu", depth: int = 2) -> Mixer:
    """The variant's mixer by itself; of the hybrid, the differential one."""
    model = _composed(name, scale)
    with torch.device(device):
        return _built(model["mixers"][0])(d_model=model["d_model"], depth=depth)


def language_model(name: str, scale: Scale, device: torch.device | str = "cpu") -> LanguageModel:
    """The variant as a whole network, without dropout."""
    network = _built(_composed(name, scale)["network"])
    with torch.device(device):
        return network(scale.vocabulary)


def parameters(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _composed(name: str, scale: Scale) -> dict[str, Any]:
    """The resolved `model` configuration of a variant."""
    from diffmamba.configuration import composed

    words = [f"scale.{key}={getattr(scale, key)}" for key in ("d_model", "headdim", "d_state", "n_layers")]
    words += [f"model.layer=[{','.join(scale.layer)}]", f"model.residual={scale.residual}", "model.dropout=0"]
    return composed([*VARIANTS[name], *words, "model/embedding=full"])["model"]


def _built(node: dict[str, Any]) -> Callable[..., Any]:
    from hydra.utils import instantiate

    return instantiate(node)
