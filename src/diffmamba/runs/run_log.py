"""What a run says while it is done, in a file of its own: `run.log` in its directory.

What a worker of a sweep prints is gone when the sweep has ended well. This stays, and its last lines are on the page of
the run. Each session of a run adds to it. It is beside the work: a full disk costs lines of it and nothing else.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "run.log"
FORMAT = "%(asctime)s %(message)s"


class _Beside(logging.FileHandler):
    """A file that may fail without a word."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing: the same lines are printed too."""


@contextmanager
def kept(directory: Path) -> Iterator[None]:
    """All that this package logs inside goes to the file in `directory` too."""
    logger = logging.getLogger(__name__.partition(".")[0])
    try:
        handler = _Beside(directory / NAME, encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()
