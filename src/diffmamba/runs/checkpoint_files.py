"""The files of a training's checkpoints: written whole or not at all, the last few kept, the newest readable one found.

    checkpoints/last.ckpt      the newest state
    checkpoints/last.1.ckpt    the one before, while the training is under way; then last.2.ckpt and so on
    checkpoints/best.ckpt      of the best evaluation

A new state is written beside `last.ckpt` in full. Then each file is renamed, the oldest first, and the new state takes
the name that is free. So a process that is killed at any moment leaves at least one whole state.
"""

import logging
import os
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import nn

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs.store import Run
from diffmamba.runs.weights import BEGIN_ANEW, fitting, read_checkpoint

log = logging.getLogger(__name__)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, so that a killed process leaves the old one whole.

    Lightning's own way goes through the system's temporary folder, which may be another disk.

    Args:
        keep: how many states of `last.ckpt` there are at most.
        require: called when a checkpoint is about to take its place; raises an error if it must not.
    """

    def __init__(self, keep: int = 1, require: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.keep = keep
        self.require = require

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(target, self.require) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # PyTorch's own, which hides a full disk or Ctrl-C
                raise (error.__context__ or error) from None
            if target.stem == "last" and self.keep > 1 and target.exists():
                file.flush()
                os.fsync(file.fileno())  # before the old one leaves its place
                self.require()
                _make_room(target, self.keep)


def _make_room(last: Path, keep: int) -> None:
    """Renames `last.ckpt` to `last.1.ckpt`, the one before to `last.2.ckpt`, and removes what is then too many."""
    for number in range(keep - 2, -1, -1):
        if (older := _numbered(last, number)).exists():
            older.replace(_numbered(last, number + 1))
    remove_older(last, keep)


def remove_older(last: Path, keep: int = 1) -> None:
    """Leaves `keep` states of a training, `last.ckpt` among them."""
    for number in count(max(keep, 1)):
        if not (older := _numbered(last, number)).exists():
            return
        older.unlink()


def _numbered(last: Path, number: int) -> Path:
    return last.with_name(f"last.{number}.ckpt") if number else last


def find_readable(run: Run, shapes: nn.Module) -> None:
    """Makes `last.ckpt` the newest state of a run that can be read. For who holds the run.

    A damaged newer one is set aside under another name, which is said in one line. Raises SettingError for `last.ckpt`
    where none can be read, or where it does not fit the network; then nothing is renamed.
    """
    last, reasons = run.last_checkpoint, dict[Path, SettingError]()
    states = sorted(last.parent.glob("last.*.ckpt"), key=lambda path: _number(path.name))
    for state in [*([last] if last.exists() else []), *(path for path in states if _number(path.name))]:
        try:
            content = read_whole(state)
        except SettingError as error:
            reasons[state] = error
            continue
        fitting(shapes, state, content)
        _take_place(last, state, list(reasons))
        return
    if reasons:
        raise next(iter(reasons.values()))


def _take_place(last: Path, state: Path, damaged: list[Path]) -> None:
    aside = [_set_aside(path).name for path in damaged]
    if state != last:
        state.replace(last)
        reason = f"damaged, and is now {', '.join(aside)}" if aside else "missing"
        log.warning("%s is %s; the run goes on from the checkpoint before it", last, reason)


def _set_aside(path: Path) -> Path:
    """Gives a damaged file the first free name of `NAME.damaged-1`, `-2`, ..."""
    free = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return path.rename(next(name for name in free if not os.path.lexists(name)))


def _number(name: str) -> int:
    """The number in `last.1.ckpt`; 0 for any other name."""
    middle = name.removeprefix("last.").removesuffix(".ckpt")
    return int(middle) if middle.isdecimal() else 0


def read_whole(path: Path) -> dict[str, Any]:
    """A checkpoint's content, once all of its bytes were compared with their checksums.

    Raises SettingError where they differ. PyTorch alone reads wrong weights without a word.
    """
    content = read_checkpoint(path)
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        wrong = type(error).__name__
    if wrong is not None:
        raise SettingError(f"{path} is not a readable checkpoint (wrong checksum: {wrong}); {BEGIN_ANEW}")
    return content
