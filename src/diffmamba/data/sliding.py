"""Sliding windows over a split: how well each symbol is predicted from as much context as a window offers.

Windows of `window` symbols start every `stride` symbols. With `stride = window` they stand side by side, as in the
evaluations of a run, and symbols at a window's beginning are predicted from next to nothing. A smaller stride lets them
overlap: then each symbol counts once, in the first window that holds it, where it has the longest context. The first
window counts whole, each later one its last `stride` positions, predicted from at least `window - stride + 1` symbols.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diffmamba.data.streams import IGNORED, shifted
from diffmamba.errors import SettingError


class SlidingWindows:
    """Batches `(inputs, targets, counted)`, each `(up to batch, length)`: int64, int64 and bool.

    `counted` is true at the positions that hold a symbol for the first time: over all windows every symbol of the split
    but the first is counted exactly once. The last window ends with the split and is filled up with inputs 0 and
    targets -100; it starts on the same grid as all others, so that it shortens no context. Where the whole split is
    shorter than a window, `length` is what there is of it, else `window`.

    Args:
        symbols: a split, `(symbols,)`, any integer type.
        window: symbols per window.
        stride: symbols between the starts of two windows, at most `window`, lest symbols be left out.
        batch: windows per batch.
        limit: at most that many windows, spread evenly over the split; None is all of them.

    Raises `SettingError` naming the setting that does not fit.
    """

    def __init__(self, symbols: np.ndarray, window: int, stride: int, batch: int, limit: int | None = None) -> None:
        predictions = len(symbols) - 1
        _check(predictions, window, stride, batch, limit)
        self._symbols = np.asarray(symbols)
        self._batch = batch
        self.length = min(window, predictions)
        self._total = 1 + -(-(predictions - self.length) // stride)
        self._chosen = self._total if limit is None else min(limit, self._total)
        self._stride = stride
        self._overlap = window - stride

    def __len__(self) -> int:
        """Number of windows."""
        return self._chosen

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        column = np.arange(self.length + 1)
        for first in range(0, len(self), self._batch):
            chosen = np.arange(first, min(first + self._batch, len(self)))[:, None]
            starts = chosen * self._total // self._chosen * self._stride
            positions = starts + column
            beyond = positions >= len(self._symbols)
            inputs, targets = shifted(self._symbols[np.where(beyond, 0, positions)])
            filling = torch.from_numpy(beyond[:, 1:])
            new = torch.from_numpy((starts == 0) | (column[:-1] >= self._overlap))
            yield inputs.masked_fill(filling, 0), targets.masked_fill(filling, IGNORED), new & ~filling


def _check(predictions: int, window: int, stride: int, batch: int, limit: int | None) -> None:
    for name, value in {"window": window, "stride": stride, "batch": batch, "limit": limit}.items():
        if value is not None and value < 1:
            raise SettingError(f"{name}={value} must be at least 1")
    if stride > window:
        raise SettingError(f"stride={stride} leaves symbols out between windows; it must be at most window={window}")
    if predictions < 1:
        raise SettingError(f"split: one of {predictions + 1} symbols has nothing to predict, it needs 2")
