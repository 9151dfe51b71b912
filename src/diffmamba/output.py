"""Standard output and error that may go away: a closed terminal, or a reader such as `head` that has had enough.

What a command computes must not depend on whether somebody reads what it says. So a write that fails is no error of the
work. Where the reader is gone, that is all. Where the output went to a file that cannot take it, such as one on a full
disk, the command ends with an error when its work is done.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from diffmamba.terminal import LETTERS

READER_IS_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)


class Patient:
    """A stream whose writes never fail. `failure` is the first error there was; after it nothing is written."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LETTERS)

    def write(self, text: str) -> int:
        self._tried(lambda: self.stream.write(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._tried(self.stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _tried(self, act: Any) -> None:
        if self.failure is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
            with suppress(OSError, ValueError):  # what Python still holds back goes nowhere at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextmanager
def patient() -> Iterator[None]:
    """Inside, standard output and error are such streams."""
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is not None and not isinstance(stream, Patient):
            setattr(sys, name, Patient(stream))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = before


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more, so that there is nothing left to print for."""
    failure = getattr(sys.stdout, "failure", None)
    return failure is not None and failure.errno in READER_IS_GONE


def lost() -> OSError | None:
    """The error with which standard output could not be written, though it has a place to go to."""
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or failure.errno in READER_IS_GONE:
        return None
    return OSError(failure.errno, failure.strerror, "standard output")
