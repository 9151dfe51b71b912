"""The ordered, rotated streams that a language model trains on, and the windows it is evaluated on.

Training: the split is cut into `batch_size` contiguous streams. A step takes the next window of `length` symbols from
every stream; targets are the inputs shifted by one; no state is carried from one window to the next. Each epoch every
stream is rotated by an offset drawn from a generator seeded `rotation_seed + epoch`, so that windows do not begin at
the same places twice. (90M symbols of Text8 at batch 170, length 512: 1034 steps an epoch.)

A step's windows are the same however they are divided: among ranks, and on each of them into parts whose gradients are
accumulated.

Evaluation: the split is one sequence, in which every symbol but the first is predicted exactly once.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diffmamba.errors import SettingError

IGNORED = -100  # the target that cross entropy leaves out, by PyTorch's default


def steps_per_epoch(symbols: int, batch_size: int, length: int) -> int:
    """Windows of `length` in each of `batch_size` streams that a split of so many symbols is cut into."""
    return (symbols // batch_size - 1) // length


class TrainStreams:
    """Batches `(inputs, targets)` of one epoch per iteration, resumable at any step.

    Each is int64 `(batch_size / world_size / parts, length)`. Iterating goes from the current position to the end of
    the current epoch and leaves the streams at the start of the next. The position moves just before the last part of a
    step is handed over, because Lightning never asks for the batch after the last and saves checkpoints between two
    batches.

    Args:
        symbols: the training split, `(symbols,)`, any integer type.
        batch_size: number of streams, over all ranks and parts.
        length: symbols per window.
        rotation_seed: epoch `e` draws its offsets from a generator seeded `rotation_seed + e`.
        rank: which of `world_size` equal shares of the streams to read.
        world_size: number of ranks.
        parts: batches that a rank's share of a step comes in.

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
        parts: int = 1,
    ) -> None:
        _require_fit(len(symbols), batch_size, length, world_size, parts)
        stream_length = len(symbols) // batch_size
        share = batch_size // world_size
        self._parts = [
            slice(rank * share + part * share // parts, rank * share + (part + 1) * share // parts)
            for part in range(parts)
        ]
        self._streams = np.asarray(symbols)[: batch_size * stream_length].reshape(batch_size, stream_length)
        self._length = length
        self._rotation_seed = rotation_seed
        self.steps = steps_per_epoch(len(symbols), batch_size, length)
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Batches per epoch, `parts` for each step, wherever in it the streams stand."""
        return self.steps * len(self._parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, offsets = self.epoch, self.offsets(self.epoch)
        while self.epoch == epoch:
            starts = (offsets + self.position * self._length) % self._streams.shape[1]
            for rows in self._parts:
                batch = self._batch(rows, starts)
                if rows is self._parts[-1]:
                    self._advance()
                yield batch

    def offsets(self, epoch: int) -> np.ndarray:
        """How far each stream is rotated in an epoch, in symbols: int64 `(batch_size,)`, for all ranks' streams."""
        generator = np.random.default_rng(self._rotation_seed + epoch)
        return generator.integers(0, self._streams.shape[1], size=len(self._streams))

    def state_dict(self) -> dict[str, int]:
        """Where the streams stand: the next step takes window `position` of `epoch`. The same on every rank."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues with the step after `state`, whatever number of ranks and parts saved it.

        Raises `SettingError` if the epoch is too short for it, so that the settings cannot be the saved run's.
        """
        if state["position"] >= self.steps:
            raise SettingError(
                f"data.batch_size, data.length: the checkpoint is at step {state['position']} of its epoch, but an "
                f"epoch has {self.steps} steps now; resume with the settings of the saved run"
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def _advance(self) -> None:
        self.position += 1
        if self.position == self.steps:
            self.epoch, self.position = self.epoch + 1, 0

    def _batch(self, rows: slice, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """One copy for each stream, two where its end and its beginning meet: four times as fast as an index array."""
        streams, size = self._streams[rows], self._length + 1
        windows = np.empty((len(streams), size), streams.dtype)
        for window, stream, start in zip(windows, streams, starts[rows].tolist(), strict=True):
            head = stream[start : start + size]
            window[: len(head)] = head
            if len(head) < size:
                window[len(head) :] = stream[: size - len(head)]
        return shifted(windows)


class EvalWindows:
    """Batches `(inputs, targets)` of consecutive windows, each int64 `(up to batch_size, length)`.

    The last window is filled up with inputs 0 and targets -100. All ranks have equally many windows: where the windows
    do not divide among them, some have one more of nothing but filling.

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
        starts = (np.arange(chosen) * total // chosen * length)[rank::world_size]
        self._starts = np.full(-(-chosen // world_size), len(symbols))  # from there on all is filling
        self._starts[: len(starts)] = starts

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


def _require_fit(count: int, batch_size: int, length: int, world_size: int, parts: int) -> None:
    _require_positive(batch_size=batch_size, length=length)
    shares = world_size * parts
    if batch_size % shares:
        among = f"{world_size} ranks" + (f" of {parts} accumulated parts each" if parts > 1 else "")
        raise SettingError(
            f"data.batch_size is {batch_size}, which does not divide among {among}; "
            f"{batch_size // shares * shares or shares} would do"
        )
    needed = batch_size * (length + 1)
    if count < needed:
        raise SettingError(
            f"data.batch_size, data.length: {batch_size} streams of {length} + 1 symbols take {needed} symbols, "
            f"the training split has {count}; lower either or give a longer text"
        )
