"""Reads long sequences window by window: the state is carried on, so that memory does not grow with the length.

With attention the state itself grows: it holds the keys and values of all positions so far.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from torch import Tensor

from diffmamba.mixers.mixer import State
from diffmamba.models.backbone import ResidualBlock
from diffmamba.models.language_model import LanguageModel

Visit = Callable[[int, ResidualBlock, Tensor, State], object]
"""Is shown the index of a residual block, counted from 0, the block, its input `(batch, length, d_model)`, and the
state of its layer before that."""


def streamed(network: LanguageModel, windows: Iterable[Tensor], visit: Visit | None = None) -> Iterator[Tensor]:
    """For each window of symbols `(batch, length)` the output of the backbone `(batch, length, d_model)`.

    Windows follow each other and may have any length. `network.predicted` makes logits, or -ln p of targets, from the
    output. `visit` is called for every block of every window, before that block has read it.
    """
    backbone, states = network.backbone, None
    for symbols in windows:
        states = backbone.allocate_state(len(symbols)) if states is None else states
        x, following = network.embedding.embed(symbols), []
        for index, (block, state) in enumerate(zip(backbone.blocks, states, strict=True)):
            block = cast(ResidualBlock, block)
            if visit is not None:
                visit(index, block, x, state)
            x, state = block.extend(x, state)
            following.append(state)
        states = following
        yield backbone.final_norm(x)
