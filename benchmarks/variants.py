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
from diffmamba.models import Backbone, LanguageModel

D_STATE_1 = 16  # states of Mamba-1, in all of its published models
VARIANTS = {
    **{
        name: (f"model={name}",)
        for name in (
            *("mamba", "mamba_grouped", "diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid"),
            *("diff_s6", "naive_diff"),
        )
    },
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
    d_model, mixers = _composed(name, scale)
    with torch.device(device):
        return mixers[0](d_model=d_model, depth=depth)


def language_model(name: str, scale: Scale, device: torch.device | str = "cpu") -> LanguageModel:
    """The variant as a whole network, without dropout."""
    d_model, mixers = _composed(name, scale)
    with torch.device(device):
        backbone = Backbone(d_model, scale.n_layers, mixers, scale.layer, scale.residual)
        return LanguageModel(scale.vocabulary, backbone, d_model)


def parameters(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _composed(name: str, scale: Scale) -> tuple[int, list[Callable[..., Mixer]]]:
    """The width of a variant, and what builds its mixers, to be taken in turn."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from diffmamba.configuration import CONF, resolved

    sizes = [f"scale.{key}={getattr(scale, key)}" for key in ("d_model", "headdim", "d_state")]
    with initialize_config_dir(CONF, version_base="1.3"):
        model: dict[str, Any] = resolved(compose("train", overrides=[*VARIANTS[name], *sizes]))["model"]
    return model["d_model"], [instantiate(mixer) for mixer in model["mixers"]]
