"""Calls of our commands that stop at a given moment: a process of its own each, forked from this one.

This process has imported what a command needs, so a call takes a second. A moment is before the n-th time that the
process touches a file below a folder (opens, renames, removes or makes one), or some milliseconds later.
"""

import atexit
import contextlib
import datetime
import fcntl
import importlib
import locale
import logging
import os
import pkgutil
import re
import signal
import sys
import termios
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import diffmamba
from diffmamba.runs import provenance, stopping

for _module in pkgutil.walk_packages(diffmamba.__path__, "diffmamba."):  # before a call is forked
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)


TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
"""Python's audit events of a file."""
PATIENCE_SECONDS = 90.0


class Moment(NamedTuple):
    """Before the n-th touch of a file, or so many seconds later."""

    touch: int
    seconds: float = 0.0


@dataclass
class Start:
    """How a call begins."""

    words: list[str]
    command: str = "train"
    folder: Path = Path()
    environment: dict[str, str | None] = field(default_factory=dict)
    umask: int = 0o022
    clock: float = 0.0
    """Seconds by which the clock is wrong. `time.time` and `datetime` are replaced: no file's time changes."""
    encoding: str = "utf-8"
    streams: dict[int, int | None] = field(default_factory=dict)
    """Open files in the place of standard input, output and error; None for a closed one."""
    not_held: list[int] = field(default_factory=list)
    """Open files of this process that the call closes."""
    terminal: bool = False
    """Whether a pseudo-terminal is all three of them."""


class Call:
    """A process of its own with one of our commands.

    Args:
        start: how it begins.
        touches: before which touches of a file it stops.
        notes: a folder for what it says.
    """

    def __init__(self, start: Start, touches: list[int], notes: Path) -> None:
        self.start, self.notes = start, notes
        self.status: int | None = None
        self.shown = b""
        self.master: int | None = None
        slave = None
        if start.terminal:
            self.master, slave = os.openpty()
            os.set_blocking(self.master, False)
        self.files = [notes / f"out-{time.monotonic_ns()}", notes / f"err-{time.monotonic_ns()}"]
        self.pid = os.fork()
        if self.pid == 0:
            if self.master is not None:
                os.close(self.master)
            _become(start, touches, self.files, slave, notes / "touches")
        if slave is not None:
            os.close(slave)

    def wait(self, until_stopped: bool = True) -> bool:
        """Waits until the process stops (True) or ends (False)."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.status is None:
            self.drain()
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.drain()
            elif time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.status = 999  # it hangs
            else:
                time.sleep(0.002)
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, seconds: float) -> bool:
        """Lets a stopped process go on for so long. Whether it is still there."""
        self.go_on()
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGSTOP)
        return self.wait()

    def send(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def drain(self) -> None:
        """Reads what the terminal shows, so that the process does not wait for its reader."""
        with contextlib.suppress(BlockingIOError, OSError):
            while self.master is not None and (piece := os.read(self.master, 4096)):
                self.shown += piece

    def close_terminal(self) -> None:
        if self.master is not None:
            self.drain()
            os.close(self.master)
            self.master = None

    @property
    def said(self) -> str:
        """Standard output and error, as far as somebody could read them."""
        read = [path.read_text(errors="replace") for path in self.files if path.exists()]
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.shown.decode(errors="replace"))
        return "".join(read) + "".join(line for line in shown.splitlines(keepends=True) if "━" not in line)


def _become(start: Start, touches: list[int], files: list[Path], slave: int | None, count: Path) -> None:
    """Makes the forked process a call. Never returns."""
    status = 1
    try:
        atexit._clear()  # what this process does at its end, the call does not
        os.setsid()
        as_new()
        for file in start.not_held:
            os.close(file)
        _streams(start, files, slave)
        os.umask(start.umask)
        os.chdir(start.folder)
        for name, value in start.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if start.encoding != "utf-8":
            locale.setlocale(locale.LC_ALL, "C")
        if start.clock:
            _set_clock(start.clock)
        sys.argv = [start.command, *start.words]
        main: Callable[[], None] = importlib.import_module(f"diffmamba.{start.command}").main
        counted = _stopping(str(start.folder), touches)
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        count.write_text(str(counted()))
        atexit._run_exitfuncs()
    except KeyboardInterrupt:  # Python's own end
        status = -signal.SIGINT
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except AttributeError:
            continue
        except BaseException:
            status = 120  # as Python's
    os._exit(130 if status < 0 else status)


def as_new() -> None:
    """Takes away what a forked process has of this one: who listens to signals, and who to what is logged."""
    stopping._now = stopping._State()
    for number in stopping.SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    logging.root.handlers.clear()


def _streams(start: Start, files: list[Path], slave: int | None) -> None:
    """Standard input, output and error, as Python makes them at its start."""
    if slave is not None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        file = os.open(os.devnull, os.O_RDONLY) if number == 0 else os.open(files[number - 1], os.O_WRONLY | os.O_CREAT)
        wanted = start.streams.get(number, file if slave is None else slave)
        if wanted is None:
            os.close(number)
        else:
            os.dup2(wanted, number)
    modes = {"stdin": "r", "stdout": "w", "stderr": "w"}
    for number, (name, mode) in enumerate(modes.items()):
        closed = number in start.streams and start.streams[number] is None
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = None if closed else open(number, mode, encoding=start.encoding, errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def _set_clock(shift: float) -> None:
    right, real = time.time, datetime.datetime

    class Shifted(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + datetime.timedelta(seconds=shift)

    time.time = lambda: right() + shift
    datetime.datetime = provenance.datetime = Shifted  # type: ignore[misc]


def _stopping(folder: str, touches: list[int]) -> Callable[[], int]:
    """Lets this process stop before these touches of a file below a folder. Returns how to get their number so far."""
    count = 0

    def touched(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in TOUCHES and isinstance(arguments[0], str | os.PathLike) and str(arguments[0]).startswith(folder):
            count += 1
            if count in touches:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(touched)
    return lambda: count
