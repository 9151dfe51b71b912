"""The interface of a sequence mixer, as the backbone uses it."""

from typing import Any

import torch
from torch import Tensor, nn

State = Any
"""What a mixer remembers between positions: a tensor, a tuple of tensors with the batch first, or an object."""


class Mixer(nn.Module):
    """A causal map `(batch, length, d_model)` → the same shape.

    A mixer is built as `Mixer(d_model, depth, **settings)`, where `depth` is the 1-based index of its residual block.
    A subclass must define `forward` (all positions at once), `allocate_state` and `step` (one position). Both ways must
    give the same outputs. `step` should need constant time and memory; attention is the exception. `extend` reads
    several positions from a state on, for example a prompt. By default it calls `step` for each position, so a subclass
    overrides it where it has a parallel form.
    """

    def allocate_state(self, batch: int) -> State:
        """The state before the first position."""
        raise NotImplementedError(f"{type(self).__name__} must define allocate_state")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One position: x `(batch, d_model)` → y of the same shape, and the next state."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Several positions: x `(batch, length, d_model)` → y of the same shape, and the next state."""
        outputs = []
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            outputs.append(y)
        return torch.stack(outputs, dim=1), state
