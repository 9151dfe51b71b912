"""The ordered, rotated streams that a language model trains on, and the windows it is evaluated on.

Training: the split is cut into `batch_size` contiguous streams. A step takes the next window of `length` symbols from
every stream; targets are the inputs shifted by one; no state is carried from one window to the next. Each epoch every
stream is rotated by an offset drawn from a generator seeded `rotation_seed + epoch`, so that windows do not begin at
the same places twice. (90M symbols of Text8 at batch 170, length 512: 1034 steps an epoch.)

Evaluation: the split is one sequence, in which every symbol but the first is predicted exactly once.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diffmamba.errors import SettingError

IGNORED = -100  # the target that cross entropy leaves out, by PyTorch's default


class TrainStreams:
    """Batches `(inputs, targets)` of one epoch per iteration, resumable at any of them.

    Each is int64 `(batch_size / world_size, length)`. Iterating goes from the current position to the end of the
    current epoch and leaves the streams at the start of the next. The position moves just before a batch is handed
    over, because Lightning never asks for the batch after the last and saves checkpoints between two batches.

    Args:
        symbols: the training split, `(symbols,)`, any integer type.
        batch_size: number of streams, over all ranks.
        length: symbols per window.
        rotation_seed: epoch `e` draws its offsets from a generator seeded `rotation_seed + e`.
        rank: which of `world_size` equal shares of the streams to read.
        world_size: number of ranks.

    Raises `SettingError` naming `data.batch_size` or `data.length` if these do not fit the split or each other.
    """

    def __init__(
        self,
        symbols: np.ndarray,
        batch_size: int,
        length: int,
        rotation_seed: int = 42,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _require_fit(len(symbols), batch_size, length, world_size)
        stream_length = len(symbols) // batch_size
        share = batch_size // world_size
        self._rows = slice(rank * share, (rank + 1) * share)
        self._streams = np.asarray(symbols)[: batch_size * stream_length].reshape(batch_size, stream_length)
        self._length = length
        self._rotation_seed = rotation_seed
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Steps per epoch, wherever in it the streams stand."""
        return (self._streams.shape[1] - 1) // self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = self.epoch
        offsets = self.offsets(epoch)[self._rows]
        while self.epoch == epoch:
            batch = self._batch(offsets, self.position)
            self._advance()
            yield batch

    def offsets(self, epoch: int) -> np.ndarray:
        """How far each stream is rotated in an epoch, in symbols: int64 `(batch_size,)`, for all ranks' streams."""
        generator = np.random.default_rng(self._rotation_seed + epoch)
        return generator.integers(0, self._streams.shape[1], size=len(self._streams))

    def state_dict(self) -> dict[str, int]:
        """Where the streams stand: the next batch is window `position` of `epoch`. The same on every rank."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues with the batch after `state`.

        Raises `SettingError` if the epoch is too short for it, so that the settings cannot be the saved run's.
        """
        if state["position"] >= len(self):
            raise SettingError(
                f"data.batch_size, data.length: the checkpoint is at step {state['position']} of its epoch, but an "
                f"epoch has {len(self)} steps now; resume with the settings of the saved run"
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def _advance(self) -> None:
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0

    def _batch(self, offsets: np.ndarray, position: int) -> tuple[Tensor, Tensor]:
        streams = self._streams[self._rows]
        columns = offsets[:, None] + np.arange(position * self._length, (position + 1) * self._length + 1)
        return shifted(np.take_along_axis(streams, columns % streams.shape[1], axis=1))


class EvalWindows:
    """Batches `(inputs, targets)` of consecutive windows, each int64 `(up to batch_size, length)`.

    The last window is filled up with inputs 0 and targets -100.

    Args:
        symbols: a split, `(symbols,)`, any integer type.
        batch_size: windows per batch.
        length: symbols per window.
        windows: at most that many windows, spread evenly over the split; None is all of them.
        rank: read windows `rank`, `rank + world_size`, and so on.
        world_size: number of ranks.

    Raises `SettingError` naming the setting if one is not positive or the split has nothing to predict.
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
        _require_positive(eval_batch_size=batch_size, length=length, eval_windows=1 if windows is None else windows)
        if len(symbols) < 2:
            raise SettingError(
                f"data: a split of {len(symbols)} symbols has nothing to predict, it needs 2, whatever data.batch_size "
                f"and data.length; give a text of 40 symbols or more"
            )
        self._symbols = np.asarray(symbols)
        self._batch_size = batch_size
        self._length = length
        total = -(-(len(symbols) - 1) // length)
        chosen = total if windows is None else min(windows, total)
        self._starts = (np.arange(chosen) * total // chosen * length)[rank::world_size]

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._starts) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self._starts), self._batch_size):
            starts = self._starts[first : first + self._batch_size]
            positions = starts[:, None] + np.arange(self._length + 1)
            beyond = positions >= len(self._symbols)
            inputs, targets = shifted(self._symbols[np.where(beyond, 0, positions)])
            inputs[torch.from_numpy(beyond[:, 1:])] = 0
            targets[torch.from_numpy(beyond[:, 1:])] = IGNORED
            yield inputs, targets


def shifted(windows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each int64 `(batch, length)`, of integers `(batch, length + 1)`."""
    inputs, targets = windows[:, :-1].astype(np.int64), windows[:, 1:].astype(np.int64)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def _require_positive(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise SettingError(f"data.{name} is {value}; it must be at least 1")


def _require_fit(count: int, batch_size: int, length: int, world_size: int) -> None:
    _require_positive(batch_size=batch_size, length=length)
    if batch_size % world_size:
        raise SettingError(
            f"data.batch_size is {batch_size}, which does not divide among {world_size} ranks; "
            f"{batch_size // world_size * world_size or world_size} would do"
        )
    needed = batch_size * (length + 1)
    if count < needed:
        raise SettingError(
            f"data.batch_size, data.length: {batch_size} streams of {length} + 1 symbols take {needed} symbols, "
            f"the training split has {count}; lower either or give a longer text"
        )
