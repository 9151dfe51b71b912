"""Combines the branches of a mixer: the differential mechanism of *Differential Mamba* (arXiv 2507.06204).

Let u1 and u2 be the gated and normalised outputs of the two branches, W the output projection, N an RMSNorm with a
learned gain (the outer norm; `outer_norm=False` leaves it out), and λ_init = 0.8 - 0.6 · exp(-0.3 · (depth - 1)):

    scope "block", Diff-Mamba (eq. 21)    (1 - λ_init) · N[W1 u1 - λ W2 u2]
    scope "ssm",   Diff-S6 (eq. 16)       W · (1 - λ_init) · N[u1 - λ u2]

With scope "block", each branch is a whole Mamba block with its own output projection. Both projections and the
subtraction are one matrix product with [W1, -λ W2], so the differential mixer costs as much as the vanilla one.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.ops import rms_norm
from diffmamba.ops.step import difference_step, difference_step_takes

Scope = Literal["block", "ssm"]
LambdaForm = Literal["scalar", "reparam", "reparam_bounded", "channel", "exp", "exp_printed", "fixed"]


def lambda_init(depth: int) -> float:
    """λ_init of a residual block; depth is its 1-based index (Differential Transformer, and section 3 of the paper)."""
    return 0.8 - 0.6 * math.exp(-0.3 * (depth - 1))


class Lambda(nn.Module):
    """The learned weight λ of the second branch. `forward()` gives one number, or `(channels,)` for the form "channel".

    | form            | λ                                       | parameters                                   |
    | scalar          | sigmoid(λ̄) + λ_init                     | λ̄ one number, N(0, 1) (eq. 17)               |
    | reparam         | sigmoid(Σ λ̄) + λ_init                   | λ̄ `(channels,)`, N(0, 1) (table 2, re.)      |
    | reparam_bounded | sigmoid(Σ λ̄ / √channels) + λ_init       | the same                                     |
    | channel         | sigmoid(λ̄) + λ_init, channel by channel | λ̄ `(channels,)`, N(0, 1) (eq. 17, literally) |
    | exp             | exp(q1 · k1) - exp(q2 · k2) + λ_init    | four vectors `(d_state,)`, N(0, 0.1²)        |
    | exp_printed     | exp(q1 · k1) - exp(q2 · k2) - λ_init    | the same                                     |
    | fixed           | λ_init                                  | none                                         |

    `exp_printed` is the formula as the paper prints it (eq. 11). The authors' code and Differential Transformer add
    λ_init, as `exp` does. `reparam_bounded` is a control of ours: the sum of many λ̄ starts where the sigmoid is
    flat, so that λ hardly learns. Divided by √channels it starts as that of `scalar` does, N(0, 1).
    """

    def __init__(self, form: LambdaForm, channels: int, d_state: int, initial: float):
        super().__init__()
        self.form = form
        self.initial = initial
        if form in ("exp", "exp_printed"):
            self.q1, self.k1, self.q2, self.k2 = (nn.Parameter(torch.randn(d_state) * 0.1) for _ in range(4))
        elif form != "fixed":
            self.bar = nn.Parameter(torch.randn(1 if form == "scalar" else channels))  # FSDP needs a dimension

    def forward(self) -> Tensor | float:
        if self.form == "fixed":
            return self.initial
        if self.form in ("exp", "exp_printed"):
            # under autocast, `@` is computed in bfloat16, which changes the third decimal of λ
            learned = torch.exp((self.q1 * self.k1).sum()) - torch.exp((self.q2 * self.k2).sum())
            return learned + self.initial if self.form == "exp" else learned - self.initial
        return torch.sigmoid(self._bar()) + self.initial

    def _bar(self) -> Tensor:
        """What the sigmoid is taken of."""
        if self.form == "reparam":
            return self.bar.sum()
        return self.bar.sum() * len(self.bar) ** -0.5 if self.form == "reparam_bounded" else self.bar

    def mean(self) -> Tensor:
        """λ as one number to look at; its mean over the channels for the form "channel"."""
        return torch.as_tensor(self(), dtype=torch.float32).mean()

    def number(self) -> float | None:
        """λ as a number of Python, for decoding, where every call counts; None for the form "channel"."""
        if self.form == "scalar":
            return self.bar.sigmoid().item() + self.initial
        return None if self.form == "channel" else float(self())


class OuterNorm(nn.Module):
    """The norm N with its gain, times the constant `scale`; without `outer_norm` only the constant."""

    def __init__(self, channels: int, outer_norm: bool, scale: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if outer_norm else None
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale if self.weight is None else rms_norm(x, self.weight * self.scale)


class Single(nn.Module):
    """One branch: `W u`, or `N[W u]` as a control that shows the effect of the outer norm alone."""

    branches = 1
    shared = False

    def __init__(self, d_model: int, d_inner: int, d_state: int, depth: int, outer_norm: bool = False):
        super().__init__()
        self.outer_norm = OuterNorm(d_model, outer_norm)

    def forward(self, u: Tensor, weight: Tensor) -> Tensor:
        return self.outer_norm(F.linear(u, weight))


class Difference(nn.Module):
    """Two branches; the second is subtracted with weight λ.

    With sign 1 it is added instead, which is the additive control. `shared` tells the mixer whether its branches share
    convolution, gated norm and output projection; they do with scope "ssm".
    """

    branches = 2

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        d_state: int,
        depth: int,
        scope: Scope,
        outer_norm: bool = True,
        lambda_form: LambdaForm = "scalar",
        sign: Literal[-1, 1] = -1,
    ):
        """`d_inner` is the width of one branch, and `depth` the 1-based index of the residual block."""
        super().__init__()
        self.shared = scope == "ssm"
        self.sign = sign
        channels = d_inner if self.shared else d_model
        initial = lambda_init(depth)
        self.weight = Lambda(lambda_form, channels, d_state, initial)
        self.outer_norm = OuterNorm(channels, outer_norm, scale=1 - initial)

    def forward(self, u: Tensor, weight: Tensor) -> Tensor:
        """u `(..., 2 · d_inner)`: branch 1, then branch 2. weight: `(d_model, d_inner)` if shared, else [W1, W2]."""
        if (y := self._decoded(u, None if self.shared else weight)) is not None:
            return F.linear(y, weight) if self.shared else y
        second_weight = self.sign * self.weight()
        if self.shared:
            first, second = u.chunk(2, dim=-1)
            return F.linear(self.outer_norm(first + second_weight * second), weight)
        first, second = weight.chunk(2, dim=1)
        if isinstance(second_weight, Tensor):
            second_weight = second_weight[..., None]  # scales the rows, which are output channels
        return self.outer_norm(F.linear(u, torch.cat([first, second_weight * second], dim=1)))

    def _decoded(self, u: Tensor, weight: Tensor | None) -> Tensor | None:
        """`N[W1 u1 - λ W2 u2]`, or N[u1 - λ u2] without weight, for the rows of one position; None if it cannot.

        With few rows it is one call. With more, λ is a factor of the second product, and no weights are put together.
        On a GPU, to ask for λ would mean to wait for all that is queued.
        """
        norm = self.outer_norm
        if torch.is_grad_enabled() or u.dim() != 2 or not u.is_cpu or torch.compiler.is_compiling():
            return None
        if (number := self.weight.number()) is None:
            return None
        if difference_step_takes(u, weight, norm.weight):
            return difference_step(u, weight, norm.weight, self.sign * number, norm.scale)
        first, second = u.chunk(2, dim=1)
        if weight is None:
            return norm(torch.add(first, second, alpha=self.sign * number))
        first_weight, second_weight = weight.chunk(2, dim=1)
        return norm(torch.addmm(F.linear(first, first_weight), second, second_weight.t(), alpha=self.sign * number))
