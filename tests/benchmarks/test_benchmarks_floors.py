"""Floors count what an independent counter counts, and take the longer of arithmetic and memory."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floors import Counter, Part, Projections, Rates, decoding_step, seconds
from benchmarks.passes import MODES, passes
from benchmarks.variants import VARIANTS, Scale, language_model, mixer

CPU = torch.device("cpu")
SCALE = Scale(d_model=64, headdim=32, d_state=8)


@pytest.mark.parametrize("variant", ["diff_mamba", "mamba1", "diff_transformer"])
@pytest.mark.parametrize("mode", MODES)
def test_operations_of_projections_are_torchs(variant: str, mode: str) -> None:
    module = mixer(variant, SCALE)
    alone = Projections(module)
    call = passes(alone, *alone.inputs(2, 5, CPU))[mode]
    with FlopCounterMode(display=False) as counted:
        call()
    part = next(Counter(2, 5, mode != "forward", CPU).mixer(module))
    assert (part.name, part.operations) == ("projections", counted.get_total_flops())


def test_bytes_of_a_part_that_streams() -> None:
    """Forward reads 3 and writes 1 number per position; backward reads 3 + 1 and writes 3."""
    assert Counter(2, 5, False, CPU).through("", 3, 1).bytes == 10 * 4 * 4
    assert Counter(2, 5, True, CPU).through("", 3, 1).bytes == 10 * (4 + 7) * 4


def test_a_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    rates = Rates(operations=10, bytes=100)
    parts = [Part("busy", 20, 50), Part("moving", 1, 300)]
    assert [part.bound(rates) for part in parts] == ["arithmetic", "memory"]
    assert seconds(parts, rates) == 2 + 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_a_floor(variant: str) -> None:
    network = language_model(variant, SCALE)
    parts = list(Counter(2, 5, True, CPU).training_step(network))
    assert {"projections", "feed-forward", "head", "optimiser"} < {part.name for part in parts}
    assert all(part.bytes > 0 for part in parts)
    learned = sum(p.numel() for p in network.parameters())
    assert decoding_step(network, 3, 100).bytes == 4 * learned + 200
