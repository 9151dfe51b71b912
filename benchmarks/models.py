"""The models that are measured, those of `conf/model` composed at given sizes, and what a mixer is compared with.

`mamba1` and `diff_mamba1` are `mamba` and `diff_mamba` with `model.ssm=mamba1`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from diffmamba.configuration import composing
from diffmamba.mixers import Difference, Mamba2, Mixer
from diffmamba.models import LanguageModel
from diffmamba.ops import rms_norm

D_STATE_1 = 16  # states of Mamba-1, in all of its published models
PLAIN = ("mamba", "mamba_grouped", "diff_mamba", "diff_mamba_additive", "diff_mamba_hybrid", "diff_s6", "naive_diff")
VARIANTS = {
    **{name: (f"model={name}",) for name in PLAIN},
    **{f"{name}1": (f"model={name}", "model.ssm=mamba1") for name in ("mamba", "diff_mamba")},
    **{name: (f"model={name}",) for name in ("transformer", "diff_transformer")},
}
"""The settings of each variant."""


@dataclass(frozen=True)
class Scale:
    """Sizes, by their names in `conf/scale` and `conf/architecture`."""

    d_model: int
    headdim: int
    d_state: int
    n_layers: int = 1
    vocabulary: int = 27


def mixer(name: str, scale: Scale, device: torch.device | str = "cpu", depth: int = 2) -> Mixer:
    """The variant's mixer by itself; of the hybrid, the differential one."""
    model = _composed(name, scale)
    with torch.device(device):
        return instantiate(model["mixers"][0])(d_model=model["d_model"], depth=depth)


def language_model(name: str, scale: Scale, device: torch.device | str = "cpu") -> LanguageModel:
    """The variant as a whole network, without dropout."""
    network = instantiate(_composed(name, scale)["network"])
    with torch.device(device):
        return network(scale.vocabulary)


def parameters(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _composed(name: str, scale: Scale) -> dict[str, Any]:
    """The resolved `model` configuration of a variant.

    Without the checks of a command, which need pydantic and import every part of a training: `make gpu-check` runs
    where these packages may be missing.
    """
    words = [f"scale.{key}={getattr(scale, key)}" for key in ("d_model", "headdim", "d_state", "n_layers")]
    words += [*VARIANTS[name], "model.dropout=0", "model/embedding=full"]
    with composing("train", words):
        return OmegaConf.to_container(compose("train", overrides=words)["model"], resolve=True)


class TwoBlocks(nn.Module):
    """The authors' way to Diff-Mamba: `(1 - λ_init) · N[M1(x) - λ M2(x)]`, M1 and M2 computed in turn.

    Both Mamba-2 blocks are ours, with our operators. So the only difference from the differential mixer is that this
    is two passes instead of one. The weights are those of a differential mixer, whose output it gives.
    """

    def __init__(self, mixer: Mamba2, d_model: int):
        """`mixer` has two branches of expand 1 and the scope "block"."""
        super().__init__()
        assert isinstance(mixer.combine, Difference)
        self.weight, self.outer_norm = mixer.combine.weight, mixer.combine.outer_norm
        self.blocks = nn.ModuleList(Mamba2(d_model, 1, mixer.headdim, mixer.d_state, expand=1) for _ in range(2))
        inner, states, heads = mixer.d_inner // 2, mixer.d_state, mixer.heads // 2
        convolved, both = [inner, states, states], mixer.state_dict()
        sections = {"in_proj.weight": [inner, *convolved, heads]}
        sections |= {"conv1d.weight": convolved, "conv1d.bias": convolved, "norm.weight": [inner]}
        sections |= {name: [heads] for name in ("dt_bias", "A_log", "D")}
        for branch, block in enumerate(self.blocks):
            own = {name: _rows(both[name], sizes, branch) for name, sizes in sections.items()}
            own["out_proj.weight"] = both["out_proj.weight"].chunk(2, dim=1)[branch]
            block.to(mixer.out_proj.weight.dtype).load_state_dict(own)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (block(x) for block in self.blocks)
        norm = self.outer_norm
        return rms_norm(first - self.weight() * second, norm.weight * norm.scale)


def _rows(weight: Tensor, sizes: list[int], branch: int) -> Tensor:
    """One branch's rows, where every section has those of branch 1 and then those of branch 2."""
    sections = weight.split([2 * size for size in sizes])
    return torch.cat([section.chunk(2)[branch] for section in sections])
