"""What the backbone asks of a sequence mixer."""

from typing import Any

import torch
from torch import Tensor, nn

State = Any
"""Whatever a mixer must remember between positions: a tensor, a tuple of tensors with the batch first, or an object."""


class Mixer(nn.Module):
    """A causal map `(batch, length, d_model)` → the same shape.

    A mixer is built as `Mixer(d_model, depth, **settings)`, where `depth` is the 1-based index of its residual block.
    It must define `forward` (all positions at once), `allocate_state` and `step` (one position, in constant time and
    memory unless it is attention), and the two ways must agree. `extend`, the parallel form that starts from a state
    and returns the next one, is what prompts are read with; the default steps through the positions.
    """

    def allocate_state(self, batch: int) -> State:
        """The state before the first position."""
        raise NotImplementedError(f"{type(self).__name__} must define allocate_state")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One position: x `(batch, d_model)` → y `(batch, d_model)` and the next state."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Further positions: x `(batch, length, d_model)` → y, the same shape, and the next state."""
        outputs = []
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            outputs.append(y)
        return torch.stack(outputs, dim=1), state
