"""Types of settings with their ranges. Constructors name them in their annotations, and `validation` checks them."""

import math
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Size = Annotated[int, Ge(1), Le(2**31 - 1)]
"""How large or how many: a whole number of at least 1, small enough for an index of 32 bits."""
Steps = Annotated[int, Ge(8), Le(2**31 - 1)]
"""How many steps a rate is found from: with fewer it says nothing."""
Repeats = Annotated[int, Ge(1), Le(10_000)]
"""How often a part is built."""
Count = Annotated[int, Ge(0), Le(2**63 - 1)]
"""How many, perhaps none."""
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""What NumPy, PyTorch and Lightning all take as a seed."""
Dropout = Annotated[float, Ge(0), Lt(1)]
"""The probability that a number is set to zero."""
Share = Annotated[float, Gt(0), Le(1)]
"""A part of a whole."""
Positive = Annotated[float, Gt(0)]
"""A number above 0."""
Weight = Annotated[float, Ge(0)]
"""A number of at least 0."""


def divisors(total: int) -> list[int]:
    """All that divide a whole number above 0, from 1 to itself: the valid values of a size that must divide it."""
    small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
    return sorted({*small, *(total // n for n in small)})
