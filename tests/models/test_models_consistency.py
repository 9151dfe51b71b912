"""A mixer that sees later positions, or whose step disagrees with its forward, is refused before it is trained."""

import pytest
import torch
from torch import Tensor, nn

from diffmamba.mixers import Mixer
from diffmamba.models import Backbone
from diffmamba.models.consistency import BrokenContractError, check_mixers


class Average(Mixer):
    """An exponential average over time, in the right or in the wrong direction, whose step may use another decay."""

    def __init__(self, d_model: int, depth: int, backwards: bool = False, decay_of_step: float = 0.5):
        super().__init__()
        self.backwards, self.decay_of_step = backwards, decay_of_step
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        positions = x.unbind(1)[::-1] if self.backwards else x.unbind(1)
        outputs, state = [], self.allocate_state(len(x))
        for position in positions:
            state = 0.5 * state + position
            outputs.append(state * self.weight)
        return torch.stack(outputs[::-1] if self.backwards else outputs, dim=1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.decay_of_step * state + x
        return state * self.weight, state

    def allocate_state(self, batch: int) -> Tensor:
        return self.weight.new_zeros(batch, len(self.weight))


def backbone(**settings: float) -> Backbone:
    return Backbone(16, 1, [lambda d_model, depth: Average(d_model, depth, **settings)])


def test_a_mixer_that_keeps_its_contract_passes_and_stays_as_it_was() -> None:
    network = backbone()
    state = torch.get_rng_state()
    check_mixers(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())


def test_a_mixer_that_sees_later_positions_is_named() -> None:
    with pytest.raises(BrokenContractError, match=r"^Average\.forward sees later positions: .* by \d+%$"):
        check_mixers(backbone(backwards=True))


def test_a_step_that_disagrees_is_named() -> None:
    with pytest.raises(BrokenContractError, match=r"^Average\.step gives other outputs than forward, by \d+%$"):
        check_mixers(backbone(decay_of_step=0.4))
