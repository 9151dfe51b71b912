"""The Mamba-1 mixer (S6), vanilla and differential, always in one pass.

Two Mamba branches are computed as one Mamba with twice the channels, whose B and C have two groups. So there is one
input projection, one convolution and one selective scan for any number of branches. `combine` (see `combine.py`) makes
the output from the branches. All published results use Mamba-2; the authors' code also contains this mixer.

Parameter names are those of mamba-ssm. With two branches, `x_proj` and `dt_proj` hold the rows of branch 1, then those
of branch 2, and each branch uses only its own rows.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.mixers.combine import Single
from diffmamba.mixers.mixer import Mixer
from diffmamba.mixers.state_space import MambaState, Scan, initial_dt_bias
from diffmamba.ops import causal_conv, conv_selective_scan_step, gated_selective_scan
from diffmamba.ops.step import by_branch
from diffmamba.ranges import Size


class Mamba1(Mixer):
    """Mamba (arXiv 2312.00752) with one or two branches.

    Args:
        d_model: width of input and output.
        depth: 1-based index of the residual block, which sets λ_init.
        d_state: size of the state per channel.
        d_conv: width of the causal convolution.
        expand: width of one branch divided by d_model.
        combine: builds the module that makes the output from the branches; called with d_model, d_inner, d_state and
            depth.
    """

    def __init__(
        self,
        d_model: int,
        depth: int,
        d_state: Size = 16,
        d_conv: Size = 4,
        expand: Size = 2,
        combine: Callable[..., Any] = Single,
    ):
        super().__init__()
        d_inner = expand * d_model
        dt_rank = math.ceil(d_model / 16)
        self.combine = combine(d_model=d_model, d_inner=d_inner, d_state=d_state, depth=depth)
        self.branches = self.combine.branches
        self.d_state, self.dt_rank = d_state, dt_rank
        self.d_inner = self.branches * d_inner
        self.sharing = self.branches if self.combine.shared else 1  # branches that share conv1d and out_proj
        own_inner = self.d_inner // self.sharing
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(own_inner, own_inner, d_conv, groups=own_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(d_inner, self.branches * (dt_rank + 2 * d_state), bias=False)
        self.dt_proj = nn.Linear(dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(own_inner, d_model, bias=False)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(self.d_inner))
        bound = d_inner**-0.5  # the default of nn.Linear for the width of one branch
        nn.init.uniform_(self.out_proj.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return self._parallel(x, None, None)[0]

    def extend(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        return self._parallel(x, *state)

    def allocate_state(self, batch: int) -> MambaState:
        like = self.in_proj.weight
        wide = torch.promote_types(like.dtype, torch.float32)  # as `selective_scan` returns it
        return (
            like.new_zeros(batch, self.conv1d.kernel_size[0] - 1, self.d_inner),
            like.new_zeros(batch, self.d_inner, self.d_state, dtype=wide),
        )

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        assert self.conv1d.bias is not None
        u, state = conv_selective_scan_step(
            self.in_proj(x),
            self.conv1d.weight,
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            self.dt_proj.bias,
            self.A_log,
            self.D,
            self.branches,
            *state,
            self.sharing,
        )
        return self.combine(u, self.out_proj.weight), state

    def scan_of(self, x: Tensor, state: MambaState | None = None) -> Scan:
        """What goes into the scan for x `(batch, length, d_model)`. Of a state only the convolution's part is read."""
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x, _ = causal_conv(x, *self._conv_weights(), state and state[0])
        dt, B, C = self._project(x)
        return Scan(x, z, F.softplus(dt + self.dt_proj.bias), -torch.exp(self.A_log), B, C, self.D)

    def time_steps(self, x: Tensor, state: MambaState | None = None) -> Tensor:
        """The dt of `scan_of` alone, `(batch, length, channels)`. They depend on what the convolution gives."""
        x, _ = causal_conv(F.linear(x, self.in_proj.weight[: self.d_inner]), *self._conv_weights(), state and state[0])
        low_rank = by_branch(x.unflatten(-1, (self.branches, -1)), self.x_proj.weight)[..., : self.dt_rank]
        return F.softplus(by_branch(low_rank, self.dt_proj.weight).flatten(-2) + self.dt_proj.bias)

    def _parallel(self, x: Tensor, conv_state: Tensor | None, ssm_state: Tensor | None) -> tuple[Tensor, MambaState]:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x, conv_state = causal_conv(x, *self._conv_weights(), conv_state)
        dt, B, C = self._project(x)
        u, ssm_state = gated_selective_scan(
            x, dt, -torch.exp(self.A_log), B, C, self.D, self.dt_proj.bias, z, ssm_state
        )
        return self.combine(u, self.out_proj.weight), (conv_state, ssm_state)

    def _conv_weights(self) -> tuple[Tensor, Tensor]:
        """Weight `(channels, d_conv)` and bias `(channels,)`, repeated if the branches share them."""
        assert self.conv1d.bias is not None
        return self.conv1d.weight[:, 0].repeat(self.sharing, 1), self.conv1d.bias.repeat(self.sharing)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt before its bias, `(..., d_inner)`, and B and C, `(..., branches, d_state)`, of x `(..., d_inner)`."""
        projected = by_branch(x.unflatten(-1, (self.branches, -1)), self.x_proj.weight)
        low_rank, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return by_branch(low_rank, self.dt_proj.weight).flatten(-2), B, C
