"""Whether a mixer keeps its contract: no position sees a later one, and `step` gives what `forward` gives.

A mixer that sees later positions trains to a wonderful loss that means nothing. So every kind of mixer in a network is
tried on a few positions before it is trained, which takes milliseconds.
"""

import torch
from torch import Tensor, nn

from diffmamba.mixers import Mixer
from diffmamba.models.backbone import Backbone

POSITIONS = 8
TOLERANCE = 1e-3  # of the largest output; float32 in another order of operations stays below 1e-5


class BrokenContractError(RuntimeError):
    """A mixer gives outputs that it must not give."""


@torch.no_grad()
def check_mixers(network: nn.Module) -> None:
    """Tries one mixer of each class of a network on the CPU. Raises BrokenContractError that names the class."""
    for backbone in (module for module in network.modules() if isinstance(module, Backbone)):
        layers = (block.layer for block in backbone.blocks)
        for mixer in {type(layer): layer for layer in layers if isinstance(layer, Mixer)}.values():
            training = mixer.training
            mixer.eval()
            try:
                _check(mixer, backbone.d_model)
            finally:
                mixer.train(training)


def _check(mixer: Mixer, width: int) -> None:
    weight = next(mixer.parameters(), torch.zeros(1))
    x = torch.randn(1, POSITIONS, width, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    y = mixer(x)
    other = x.clone()
    other[:, POSITIONS // 2 :] = -3 * other[:, POSITIONS // 2 :]
    half = slice(None, POSITIONS // 2)
    if (gap := _gap(mixer(other)[:, half], y[:, half])) > TOLERANCE:
        raise BrokenContractError(
            f"{type(mixer).__name__}.forward sees later positions: they change earlier outputs by {gap:.0%}"
        )
    state, steps = mixer.allocate_state(1), []
    for position in range(POSITIONS):
        out, state = mixer.step(x[:, position], state)
        steps.append(out)
    if (gap := _gap(torch.stack(steps, dim=1), y)) > TOLERANCE:
        raise BrokenContractError(f"{type(mixer).__name__}.step gives other outputs than forward, by {gap:.0%}")


def _gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
