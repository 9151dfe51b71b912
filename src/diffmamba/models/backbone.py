"""The residual backbone: a list of blocks, each with a mixer or a feed-forward layer, a norm and dropout.

The paper's backbone (section 4.1 and its code) repeats [mixer, mixer, ffn] `n_layers` times. Each of the three is a
residual block with the norm after the sum. A mixer's depth is the 1-based index of its residual block; λ_init depends
on it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from diffmamba.errors import SettingError
from diffmamba.mixers import Mixer
from diffmamba.mixers.mixer import State
from diffmamba.ranges import Dropout, Repeats, Size

Residual = Literal["post_norm", "pre_norm"]
LambdaIndex = Literal["blocks", "mixers"]
Layer = Literal["mixer", "ffn", "swiglu"]


class FeedForward(nn.Sequential):
    """d_model → 4 · d_model → d_model, with biases, and GELU and dropout between the two layers."""

    def __init__(self, d_model: int, dropout: float):
        super().__init__(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * d_model, d_model)
        )


class SwiGLU(nn.Module):
    """`W3 (silu(W1 x) ⊙ W2 x)` without biases (arXiv 2002.05202), of inner width 8/3 · d_model, a multiple of 16."""

    def __init__(self, d_model: int):
        super().__init__()
        inner = 16 * -(-8 * d_model // (3 * 16))
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(functional.silu(gate) * value)


class ResidualBlock(nn.Module):
    """`LayerNorm(x + dropout(layer(x)))` for "post_norm"; `x + dropout(layer(RMSNorm(x)))` for "pre_norm"."""

    def __init__(self, layer: nn.Module, d_model: int, residual: str, dropout: float):
        super().__init__()
        self.layer = layer
        self.post_norm = residual == "post_norm"
        self.norm = nn.LayerNorm(d_model) if self.post_norm else nn.RMSNorm(d_model, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self._residual(x, self.layer)

    def read(self, x: Tensor) -> Tensor:
        """What the layer reads of the block's input x: x itself, or with "pre_norm" its norm."""
        return x if self.post_norm else self.norm(x)

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Further positions x `(batch, length, d_model)` from a state. The state of a feed-forward layer is None."""

        def layer(inputs: Tensor) -> Tensor:
            nonlocal state
            if not isinstance(self.layer, Mixer):
                return self.layer(inputs)
            if inputs.shape[1] > 1:
                y, state = self.layer.extend(inputs, state)
                return y
            y, state = self.layer.step(inputs[:, 0], state)
            return y[:, None]

        return self._residual(x, layer), state

    def _residual(self, x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.post_norm:
            return self.norm(x + self.dropout(layer(self.read(x))))
        return x + self.dropout(layer(self.read(x)))


class Backbone(nn.Module):
    """Residual blocks one after the other; maps `(batch, length, d_model)` to the same shape.

    Args:
        d_model: width of every block.
        n_layers: how often the pattern `layer` is repeated.
        mixers: functions `(d_model=, depth=) → Mixer`, used in turn: two of them alternate, as in the hybrid.
        layer: the pattern, a sequence of "mixer", "ffn" and "swiglu"; each entry is a residual block.
        residual: "post_norm" or "pre_norm", see `ResidualBlock`. With "pre_norm" the output has a final RMSNorm.
        dropout: probability, in the feed-forward layer and before each sum.
        lambda_index: what depth counts: "blocks" for all residual blocks, as in the paper's code, or "mixers".

    Raises:
        SettingError: if there is no layer, or no mixer for one.
    """

    def __init__(
        self,
        d_model: Size,
        n_layers: Repeats,
        mixers: Sequence[Callable[..., Mixer]],
        layer: Sequence[Layer] = ("mixer", "mixer", "ffn"),
        residual: Residual = "post_norm",
        dropout: Dropout = 0.0,
        lambda_index: LambdaIndex = "blocks",
    ):
        super().__init__()
        if not layer:
            raise SettingError("model.layer=[] makes no layer; use one or more of mixer, ffn, swiglu")
        if not mixers and "mixer" in layer:
            raise SettingError("model.mixers=[] is empty, and model.layer has a mixer; give one")
        self.d_model = d_model
        self.blocks = nn.ModuleList()
        n_mixers = 0
        for kind in list(layer) * n_layers:
            if kind != "mixer":
                inner: nn.Module = FeedForward(d_model, dropout) if kind == "ffn" else SwiGLU(d_model)
            else:
                depth = len(self.blocks) + 1 if lambda_index == "blocks" else n_mixers + 1
                inner = mixers[n_mixers % len(mixers)](d_model=d_model, depth=depth)
                n_mixers += 1
            self.blocks.append(ResidualBlock(inner, d_model, residual, dropout))
        self.final_norm = nn.RMSNorm(d_model, eps=1e-5) if residual == "pre_norm" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for state in self._states(x):
            x = state
        return self.final_norm(x)

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The hidden states between the blocks, each `(batch, length, d_model)`.

        Entry 0 is x itself, and entry i is the output of residual block i, counted from 1. So the list has one entry
        more than there are blocks. No entry is passed through `final_norm`, which makes all of them comparable:
        `forward(x)` equals `final_norm(hidden(x)[-1])`. With post_norm there is no final norm, and the last entry is
        the output of `forward`.
        """
        return list(self._states(x))

    def _states(self, x: Tensor) -> Iterator[Tensor]:
        """x, then the output of every block, one at a time, so that `forward` does not keep them all in memory."""
        yield x
        for block in self.blocks:
            x = block(x)
            yield x

    def extend(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Further positions x `(batch, length, d_model)`, from one state per block. Returns y and the next states."""
        following = []
        for block, state in zip(self.blocks, states, strict=True):
            assert isinstance(block, ResidualBlock)
            x, state = block.extend(x, state)
            following.append(state)
        return self.final_norm(x), following

    def allocate_state(self, batch: int) -> list[State]:
        """The states before the first position: one per block, None for a feed-forward layer."""
        layers = [block.layer for block in self.blocks]
        return [layer.allocate_state(batch) if isinstance(layer, Mixer) else None for layer in layers]
