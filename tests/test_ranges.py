"""What divides a size, also the largest one that a setting may have, in no time."""

import time

import pytest

from diffmamba.errors import SettingError
from diffmamba.mixers import Attention, Mamba2
from diffmamba.ranges import divisors

LARGEST = 2**31 - 1  # a prime


@pytest.mark.parametrize("total", [1, 2, 4, 7, 12, 36, 97, 100, 360])
def test_divisors_are_all_that_divide(total: int) -> None:
    assert divisors(total) == [n for n in range(1, total + 1) if total % n == 0]


def test_a_wrong_size_of_a_very_wide_mixer_is_refused_in_no_time() -> None:
    """It took minutes while every number up to the width was tried."""
    began = time.process_time()
    with pytest.raises(SettingError, match=f"valid values: 1, 2, {LARGEST}, {2 * LARGEST}$"):
        Mamba2(d_model=LARGEST, depth=1, headdim=32, d_state=8)
    with pytest.raises(SettingError, match=f"valid values: 4, 8, {4 * LARGEST}, {8 * LARGEST}$"):
        Attention(d_model=8, depth=1, inner=8 * LARGEST, headdim=32)
    assert time.process_time() - began < 2
