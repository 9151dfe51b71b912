"""Signals that ask a process to stop: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), and Slurm's warnings (SIGUSR1, 2).

All handlers of the package are here. The first signal raises KeyboardInterrupt, unless a training is under way, which
looks at `requested` after each step, writes its checkpoint and stops. A second one raises it in any case, so that an
endless step can be stopped too.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit status of a process that was asked to stop."""
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows has two of them
)
ONE_PRESS_SECONDS = 1.0
"""One Ctrl-C may reach a process twice: from the terminal, and from the process that started it."""
SAID = "stopping after this step; once more stops at once\n"


@dataclass
class _State:
    """What this process was asked, and whether it can look at that by itself."""

    requested: int | None = None
    since: float = 0.0
    deferred: bool = False
    silent: bool = False
    orphaned: Callable[[], bool] | None = None
    depth: int = 0


_now = _State()


def requested() -> int | None:
    """The signal that asked this process to stop, if one did since `listening` began."""
    return _now.requested


def check() -> None:
    """Raises KeyboardInterrupt where a signal came while a training ended by itself: nothing new is to begin."""
    if _now.requested is not None:
        raise KeyboardInterrupt


@contextmanager
def listening(orphaned: Callable[[], bool] | None = None) -> Iterator[None]:
    """Handles all these signals inside, except those that are ignored, as SIGHUP under `nohup`.

    Inside itself it changes nothing. `orphaned` is for a process that must not outlive another one: if it is true when
    a signal comes, the process ends at once. Such a process says nothing; the other one does.
    """
    if _now.depth == 0:
        _now.requested, _now.deferred = None, False
        _now.silent, _now.orphaned = orphaned is not None, orphaned
    _now.depth += 1
    before = _installed() if _now.depth == 1 else {}
    try:
        yield
    finally:
        _now.depth -= 1
        _restore(before)
        if _now.depth == 0:
            _now.requested = None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, the first signal is only noted. For who looks at `requested` and stops soon.

    Puts the handlers back that others have changed inside: Lightning ignores Ctrl-C after the first one.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before, _now.deferred = _now.deferred, True
    try:
        yield
    finally:
        _now.deferred = before
        _restore(handlers)


def _installed() -> dict[int, Any]:
    """The handlers that were there before ours."""
    before: dict[int, Any] = {}
    with suppress(ValueError):  # outside the main thread
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _signalled)
    return before


def _restore(handlers: dict[int, Any]) -> None:
    with suppress(ValueError):
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def _signalled(number: int, frame: FrameType | None) -> None:
    if _now.orphaned is not None and _now.orphaned():
        os._exit(INTERRUPTED)  # without a word or a write: the run may be another process's by now
    first = _now.requested is None
    if first:
        _now.requested, _now.since = number, time.monotonic()
    elif _now.deferred and time.monotonic() - _now.since < ONE_PRESS_SECONDS:
        return
    if not (first and _now.deferred):
        raise KeyboardInterrupt
    if not _now.silent:
        with suppress(OSError, ValueError, AttributeError):  # there may be no stream; `print` could be at work just now
            os.write(sys.stderr.fileno(), SAID.encode())
