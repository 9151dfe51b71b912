"""The child processes of a build: they end with it, also where it is killed, and hold nothing that it has open."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from diffmamba.reports.site import manifest


@contextmanager
def children(count: int, begin: Callable[..., object] | None = None, *args: Any) -> Iterator[ProcessPoolExecutor]:
    """Forked processes, which take libraries and data with them. `begin` is called in each with `args`.

    Each watches the end of a pipe that this process alone writes to. That is closed where the block fails, and by the
    system where this process dies; then they end at once. Use `submit`: `map` takes back what it has not begun where it
    fails, and Python's pool then fails a second time, in a thread that tells it.
    """
    read, write = os.pipe()
    setup = (read, write, begin, args)
    with (
        os.fdopen(read),
        os.fdopen(write, "w") as held,
        ProcessPoolExecutor(count, get_context("fork"), _begin, setup) as processes,
    ):
        try:
            yield processes
        except BaseException:
            held.close()
            raise


def _begin(read: int, write: int, begin: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
    os.close(write)
    manifest.release()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the one that waits ends the others
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(read,), daemon=True).start()
    if begin is not None:
        begin(*args)


def _end_with(read: int) -> None:
    os.read(read, 1)
    os._exit(1)
