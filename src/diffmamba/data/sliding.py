"""Sliding windows over a split: how well is each symbol predicted from as much context as a window offers?

Windows of `window` symbols start every `stride` symbols. With `stride = window` they stand side by side, as in the
evaluations of a training, and the first symbols of a window are predicted from almost no context. With a smaller stride
they overlap. Each symbol counts once, in the first window that holds it, where it has the longest context: at least
`window - stride + 1` symbols, except in the first window.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diffmamba.data.streams import IGNORED, require_positive, spread_evenly, windows_at
from diffmamba.errors import SettingError


def require_window(window: int, symbols: np.ndarray, split: str) -> None:
    """Raises SettingError for a window of a measure that is longer than what can be predicted in the split."""
    if window > (most := len(symbols) - 1):
        raise SettingError(f"measure.window={window} must be at most {most}: {split} has no more to predict")


class SlidingWindows:
    """Batches `(inputs, targets, counted)`, each `(up to batch, length)`: int64, int64 and bool.

    `counted` is true at the positions that hold a symbol for the first time: over all windows, every symbol of the
    split but the first is counted exactly once. The last window may reach beyond the end of the split and is filled up
    with inputs 0 and targets -100. `length` is `window`, or less if the whole split is shorter than that.

    Args:
        symbols: a split, `(symbols,)`, any integer type.
        window: symbols per window.
        stride: symbols between the starts of two windows, at most `window`.
        batch: windows per batch.
        limit: at most this many windows, spread evenly over the split; None is all of them.

    Raises `SettingError` naming the setting that does not fit.
    """

    def __init__(self, symbols: np.ndarray, window: int, stride: int, batch: int, limit: int | None = None) -> None:
        predictions = len(symbols) - 1
        require_positive({"window": window, "stride": stride, "batch": batch, "limit": limit})
        if stride > window:
            raise SettingError(f"stride={stride} leaves symbols out; it must be at most window={window}")
        if predictions < 1:
            raise SettingError(f"split: one of {predictions + 1} symbols has nothing to predict, it needs 2")
        self.length = min(window, predictions)
        self._symbols = np.asarray(symbols)
        self._batch = batch
        self._starts = spread_evenly(1 + -(-(predictions - self.length) // stride), limit) * stride
        self._overlap = window - stride

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for first in range(0, len(self), self._batch):
            starts = self._starts[first : first + self._batch]
            inputs, targets = windows_at(self._symbols, starts, self.length)
            new = torch.from_numpy((starts[:, None] == 0) | (np.arange(self.length) >= self._overlap))
            yield inputs, targets, new & (targets != IGNORED)
