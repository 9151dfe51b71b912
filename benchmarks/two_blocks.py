"""The authors' way to Diff-Mamba: two Mamba-2 blocks one after the other, then the subtraction.

Both blocks are ours, with our operators, so that what differs from the differential mixer is only that it is two passes
instead of one. The weights are those of a differential mixer, whose output it gives.
"""

import torch
from torch import Tensor, nn

from diffmamba.mixers import Difference, Mamba2
from diffmamba.ops import rms_norm


class TwoBlocks(nn.Module):
    """`(1 - λ_init) · N[M1(x) - λ M2(x)]`, M1 and M2 computed in turn."""

    def __init__(self, mixer: Mamba2, d_model: int):
        """`mixer` has two branches of expand 1 and the scope "block"."""
        super().__init__()
        assert isinstance(mixer.combine, Difference)
        self.weight, self.outer_norm = mixer.combine.weight, mixer.combine.outer_norm
        self.blocks = nn.ModuleList(Mamba2(d_model, 1, mixer.headdim, mixer.d_state, expand=1) for _ in range(2))
        inner, states, heads = mixer.d_inner // 2, mixer.d_state, mixer.heads // 2
        sections = {
            "in_proj.weight": [inner, inner, states, states, heads],
            "conv1d.weight": [inner, states, states],
            "conv1d.bias": [inner, states, states],
            "dt_bias": [heads],
            "A_log": [heads],
            "D": [heads],
            "norm.weight": [inner],
        }
        both = mixer.state_dict()
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
