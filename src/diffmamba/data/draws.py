"""Random numbers for synthetic data: the same for a key on every machine and with every version of NumPy.

NumPy promises this for the bits of a generator, but not for the numbers that its methods make of them (NEP 19).
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Draws:
    """Draws of one key, a few whole numbers of at least 0: one draw goes on where the last one ended."""

    def __init__(self, *key: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def shares(self, *shape: int) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) of this shape."""
        raw = self._bits.random_raw(int(np.prod(shape))).reshape(shape)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, limit: int | Integers, *shape: int) -> Integers:
        """Uniform whole numbers in [0, limit) of this shape; `limit` may be an array that broadcasts to it."""
        return np.floor(self.shares(*shape) * limit).astype(np.int64)

    def distinct(self, limit: int, size: int, *shape: int) -> Integers:
        """Ordered choices of `size` different numbers in [0, limit): `(*shape, size)`, all choices equally likely."""
        chosen = np.empty((*shape, 0), np.int64)
        for already in range(size):
            number = self.below(limit - already, *shape)
            for taken in np.moveaxis(np.sort(chosen, axis=-1), -1, 0):
                number += number >= taken
            chosen = np.concatenate([chosen, number[..., None]], axis=-1)
        return chosen

    def order(self, size: int) -> Integers:
        """The numbers 0 to size - 1 in random order."""
        return np.argsort(self.shares(size), kind="stable")
