"""The Mamba-2 mixer, vanilla and differential, always in one pass.

Two Mamba-2 branches are computed as one Mamba-2 with twice the width and twice the groups. Heads, z, x, B, C and dt of
branch 1 come before those of branch 2, and each group is normalised separately. So there is one input projection, one
convolution and one scan for any number of branches. `combine` (see `combine.py`) makes the output from the branches.

Parameter names are those of mamba-ssm, so the weights of one branch can be exchanged with other libraries.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.mixers.combine import Single
from diffmamba.mixers.mixer import Mixer
from diffmamba.mixers.state_space import MambaState, Scan, initial_dt_bias
from diffmamba.ops import causal_conv, conv_scan_norm, conv_scan_norm_step
from diffmamba.ops.norm import EPSILON
from diffmamba.ops.step import repeated
from diffmamba.ranges import Size, divisors

A_RANGE = (1.0, 16.0)  # -A starts uniform in this range, as in mamba-ssm


class Mamba2(Mixer):
    """Mamba-2 (arXiv 2405.21060) with one or two branches.

    Args:
        d_model: width of input and output.
        depth: 1-based index of the residual block, which sets λ_init.
        headdim: width of a head; divides `expand · d_model`.
        d_state: size of the state per channel.
        d_conv: width of the causal convolution.
        expand: width of one branch divided by d_model.
        groups: groups of B and C, and of the gated norm, in one branch; divides its number of heads.
        combine: builds the module that makes the output from the branches; called with d_model, d_inner, d_state and
            depth.

    Raises:
        SettingError: for a size that does not divide what it must.
    """

    def __init__(
        self,
        d_model: int,
        depth: int,
        headdim: Size,
        d_state: Size,
        d_conv: Size = 4,
        expand: Size = 2,
        groups: Size = 1,
        combine: Callable[..., Any] = Single,
    ):
        super().__init__()
        d_inner = expand * d_model
        _check_divides("model.headdim", headdim, "expand · d_model", d_inner)
        _check_divides("model.groups", groups, "the number of heads", d_inner // headdim)
        self.combine = combine(d_model=d_model, d_inner=d_inner, d_state=d_state, depth=depth)
        branches = self.combine.branches
        self.headdim, self.d_state, self.branches = headdim, d_state, branches
        self.groups, self.groups_per_branch = branches * groups, groups
        self.heads = branches * d_inner // headdim
        self.d_inner = branches * d_inner

        sharing = branches if self.combine.shared else 1  # branches that share conv1d, norm and out_proj
        own_inner = self.d_inner // sharing
        own_conv = (self.d_inner + 2 * self.groups * d_state) // sharing
        self.sharing = sharing
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner + 2 * self.groups * d_state + self.heads, bias=False)
        self.conv1d = nn.Conv1d(own_conv, own_conv, d_conv, groups=own_conv, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(initial_dt_bias(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(*A_RANGE).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(own_inner, eps=EPSILON)
        self.out_proj = nn.Linear(own_inner, d_model, bias=False)
        bound = d_inner**-0.5  # the default of nn.Linear for the width of one branch
        nn.init.uniform_(self.out_proj.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return self._parallel(x, None, extend=False)[0]

    def extend(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        y, following = self._parallel(x, state, extend=True)
        assert following is not None
        return y, following

    def allocate_state(self, batch: int) -> MambaState:
        like = self.in_proj.weight
        wide = torch.promote_types(like.dtype, torch.float32)  # as `ssd` returns it
        channels = self.d_inner + 2 * self.groups * self.d_state
        return (
            like.new_zeros(batch, self.conv1d.kernel_size[0] - 1, channels),
            like.new_zeros(batch, self.heads, self.headdim, self.d_state, dtype=wide),
        )

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        assert self.conv1d.bias is not None
        u, state = conv_scan_norm_step(
            self.in_proj(x),
            self.conv1d.weight,
            self.conv1d.bias,
            self.dt_bias,
            self.A_log,
            self.D,
            self.norm.weight,
            self.headdim,
            self.groups,
            *state,
            self.sharing,
        )
        return self.combine(u, self.out_proj.weight), state

    def scan_of(self, x: Tensor, state: MambaState | None = None) -> Scan:
        """What goes into the scan for x `(batch, length, d_model)`. Of a state only the convolution's part is read."""
        across = self.groups * self.d_state
        z, xBC, dt = self.in_proj(x).split([self.d_inner, self.d_inner + 2 * across, self.heads], dim=-1)
        xBC, _ = causal_conv(xBC, *self._conv_weights(), state and state[0])
        x, B, C = xBC.split([self.d_inner, across, across], dim=-1)
        x, z = (one.unflatten(-1, (self.heads, self.headdim)) for one in (x, z))
        B, C = (one.unflatten(-1, (self.groups, self.d_state)) for one in (B, C))
        return Scan(x, z, self._softplus(dt), -torch.exp(self.A_log), B, C, self.D)

    def time_steps(self, x: Tensor, state: MambaState | None = None) -> Tensor:
        """The dt of `scan_of` alone, `(batch, length, heads)`, at the cost of a few columns of the input projection."""
        return self._softplus(F.linear(x, self.in_proj.weight[-self.heads :]))

    def _softplus(self, dt: Tensor) -> Tensor:
        return F.softplus(dt.to(self.dt_bias.dtype) + self.dt_bias)

    def _conv_weights(self) -> tuple[Tensor, Tensor]:
        """Weight `(channels, d_conv)` and bias `(channels,)`, repeated if the branches share them."""
        assert self.conv1d.bias is not None
        own = [self.d_inner // self.sharing] + 2 * [self.groups_per_branch * self.d_state]
        return repeated(self.conv1d.weight[:, 0], own, self.sharing), repeated(self.conv1d.bias, own, self.sharing)

    def _parallel(self, x: Tensor, state: MambaState | None, extend: bool) -> tuple[Tensor, MambaState | None]:
        u, state = conv_scan_norm(
            self.in_proj(x),
            *self._conv_weights(),
            self.dt_bias,
            -torch.exp(self.A_log),
            self.D,
            repeated(self.norm.weight, [self.norm.weight.numel()], self.sharing),
            self.headdim,
            self.groups,
            state,
            extend,
        )
        return self.combine(u, self.out_proj.weight), state


def _check_divides(setting: str, divisor: int, what: str, total: int) -> None:
    if divisor < 1 or total % divisor:
        valid = ", ".join(map(str, divisors(total)))
        raise SettingError(f"{setting}={divisor} must divide {what} = {total}; valid values: {valid}")
