"""The streams that a language model is trained on, and the windows that it is evaluated on.

Training: the split is cut into `batch_size` contiguous streams. A step takes the next window of `length` symbols from
every stream. Targets are the inputs shifted by one. No state is carried from one window to the next. In each epoch
every stream is rotated by a random offset, so that the windows of two epochs do not begin at the same places. (90M
symbols of Text8, batch size 170, length 512: 1034 steps per epoch.) The windows of a step may be divided among ranks,
and on each rank into parts whose gradients are accumulated.

Evaluation: the split is one sequence, and every symbol but the first is predicted exactly once.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from diffmamba.errors import SettingError

IGNORED = -100  # the target that cross entropy leaves out, by PyTorch's default


def steps_per_epoch(symbols: int, batch_size: int, length: int) -> int:
    """Windows of `length` in each of the `batch_size` streams of a split with this number of symbols."""
    return (symbols // batch_size - 1) // length


class TrainStreams:
    """Batches `(inputs, targets)`, each int64 `(batch_size / world_size / parts, length)`; can be resumed at any step.

    One iteration goes from the current position to the end of the epoch. The position moves just before the last part
    of a step is yielded: Lightning saves checkpoints between two batches, and asks for no batch after the last.

    Args:
        symbols: the training split, `(symbols,)`, any integer type.
        batch_size: number of streams, over all ranks and parts.
        length: symbols per window.
        rotation_seed: epoch `e` draws its offsets from a generator with seed `rotation_seed + e`.
        rank, world_size: which of how many equal shares of the streams to read.
        parts: number of batches that make up a rank's share of a step.

    Raises `SettingError` naming `data.batch_size` or `data.length` if they do not fit the split or each other.
    """

    def __init__(
        self,
        symbols: np.ndarray,
        batch_size: int,
        length: int,
        rotation_seed: int = 42,
        rank: int = 0,
        world_size: int = 1,
        parts: int = 1,
    ) -> None:
        _require_fit(len(symbols), batch_size, length, world_size, parts)
        stream_length = len(symbols) // batch_size
        self._parts = np.split(np.arange(batch_size), world_size * parts)[rank * parts : (rank + 1) * parts]
        self._streams = np.asarray(symbols)[: batch_size * stream_length].reshape(batch_size, stream_length)
        self._length = length
        self._rotation_seed = rotation_seed
        self.steps = steps_per_epoch(len(symbols), batch_size, length)
        self.epoch = self.position = 0

    def __len__(self) -> int:
        """Batches per whole epoch: `parts` for each step."""
        return self.steps * len(self._parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, offsets = self.epoch, self.offsets(self.epoch)
        while self.epoch == epoch:
            starts = (offsets + self.position * self._length) % self._streams.shape[1]
            for rows in self._parts:
                windows = [
                    self._window(self._streams[row], start) for row, start in zip(rows, starts[rows], strict=True)
                ]
                if rows is self._parts[-1]:
                    self.epoch, self.position = divmod(self.epoch * self.steps + self.position + 1, self.steps)
                yield _shifted(np.stack(windows))

    def _window(self, stream: np.ndarray, start: int) -> np.ndarray:
        """A window of a stream, which goes on at its beginning. Slices are four times as fast as an index array."""
        end = start + self._length + 1
        head = stream[start:end]
        return head if end <= len(stream) else np.concatenate([head, stream[: end - len(stream)]])

    def offsets(self, epoch: int) -> np.ndarray:
        """How far each stream is rotated in an epoch, in symbols: int64 `(batch_size,)`, the streams of all ranks."""
        count, length = self._streams.shape
        return np.random.default_rng(self._rotation_seed + epoch).integers(0, length, size=count)

    def state_dict(self) -> dict[str, int]:
        """The position: the next step takes window `position` of `epoch`. It is the same on every rank."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from a saved position, with any number of ranks and parts.

        Raises `SettingError` if the epoch is too short for it.
        """
        self.epoch, self.position = state["epoch"], state["position"]
        if self.position >= self.steps:
            raise SettingError(
                f"data.batch_size, data.length: the checkpoint is at step {self.position} of its epoch, which has "
                f"{self.steps} steps now; resume with the settings of the saved run"
            )


class EvalWindows:
    """Batches `(inputs, targets)` of windows side by side, each int64 `(up to batch_size, length)`.

    The last window is filled up with inputs 0 and targets -100. All ranks have the same number of windows: if the
    number cannot be divided among them, some ranks get one that is only filling.

    Args:
        symbols: a split, `(symbols,)`, any integer type.
        batch_size: windows per batch.
        length: symbols per window.
        windows: at most this many windows, spread evenly over the split; None is all of them.
        rank, world_size: read windows `rank`, `rank + world_size`, and so on.

    Raises `SettingError` naming the setting if one is not positive or the split is too short.
    """

    def __init__(
        self,
        symbols: np.ndarray,
        batch_size: int,
        length: int,
        windows: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        require_positive({"data.eval_batch_size": batch_size, "data.length": length, "data.eval_windows": windows})
        if len(symbols) < 2:
            raise SettingError(f"data: a split of {len(symbols)} symbols, where 2 are needed; give a longer text")
        self._symbols, self._batch_size, self._length = np.asarray(symbols), batch_size, length
        chosen = spread_evenly(-(-(len(symbols) - 1) // length), windows)
        self._starts = np.full(-(-len(chosen) // world_size), len(symbols))  # a window that starts there is filling
        self._starts[: len(chosen[rank::world_size])] = chosen[rank::world_size] * length

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._starts) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self._starts), self._batch_size):
            yield windows_at(self._symbols, self._starts[first : first + self._batch_size], self._length)


def spread_evenly(total: int, limit: int | None) -> np.ndarray:
    """Numbers of the windows to take out of `total`: at most `limit`, int64 `(windows,)`; None is all of them."""
    chosen = total if limit is None else min(limit, total)
    return np.arange(chosen) * total // chosen


def windows_at(symbols: np.ndarray, starts: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each int64 `(windows, length)`, of windows with these starts `(windows,)`.

    Where a target would lie beyond the end of the symbols, the input is 0 and the target -100.
    """
    positions = starts[:, None] + np.arange(length + 1)
    beyond = positions >= len(symbols)
    inputs, targets = _shifted(symbols[np.where(beyond, 0, positions)])
    filling = torch.from_numpy(beyond[:, 1:])
    return inputs.masked_fill_(filling, 0), targets.masked_fill_(filling, IGNORED)


def _shifted(windows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each int64 `(batch, length)`, of integers `(batch, length + 1)`."""
    inputs, targets = windows[:, :-1].astype(np.int64), windows[:, 1:].astype(np.int64)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def require_positive(settings: Mapping[str, int | None]) -> None:
    """Raises `SettingError` for a number below 1."""
    for name, value in settings.items():
        if value is not None and value < 1:
            raise SettingError(f"{name}={value} must be at least 1")


def _require_fit(count: int, batch_size: int, length: int, world_size: int, parts: int) -> None:
    require_positive({"data.batch_size": batch_size, "data.length": length})
    shares = world_size * parts
    if batch_size % shares:
        raise SettingError(
            f"data.batch_size={batch_size} cannot be divided among {world_size} ranks with {parts} accumulated parts "
            f"each; use {batch_size // shares * shares or shares}"
        )
    if count < batch_size * (length + 1):
        raise SettingError(
            f"data.batch_size, data.length: {batch_size} streams of {length} + 1 symbols are more than the {count} of "
            f"the training split; lower one of the two or give a longer text"
        )
