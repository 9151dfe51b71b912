"""Workers and ranks that are forked from this process, in the place of new ones, whose imports take six seconds each.

Tests of how a process begins start new ones: those of `test_reproduce_command`, `test_run_ranks` and `test_wheel`.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from torch import multiprocessing

from diffmamba.runs.engine import LocalWorkers
from tests.end_to_end.stopped_calls import Call, Start, as_new


class Forked:
    """A command of ours in a forked process, for who expects a `subprocess.Popen`.

    Args:
        start: how it begins.
        notes: a folder for what it says.
    """

    def __init__(self, start: Start, notes: Path) -> None:
        self.pid = Call(start, [], notes).pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int | None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedWorkers(LocalWorkers):
    """Forked workers of a sweep. Each ends, as others do, when nobody holds the other end of its standard input."""

    def __init__(self, plan: Path, shares: Sequence[Mapping[str, str]], notes: Path) -> None:
        self.notes, self.inputs = notes, list[IO[bytes]]()
        super().__init__(plan, shares)

    def _started(self, index: int) -> Any:
        reading, writing = os.pipe()
        self.inputs.append(os.fdopen(writing, "wb"))
        with self.log(index).open("ab") as output:
            streams: dict[int, int | None] = {0: reading, 1: output.fileno(), 2: output.fileno()}
            start = Start([str(self.plan)], "runs.worker", Path.cwd(), {**self.shares[index]}, streams=streams)
            start.not_held = [file.fileno() for file in self.inputs]
            forked = Forked(start, self.notes)
        os.close(reading)
        return forked


def forked_ranks(function: Callable[..., None], args: Any, nprocs: int, **settings: Any) -> Any:
    """For `torch.multiprocessing.start_processes`."""

    def begun(*arguments: Any) -> None:
        as_new()
        function(*arguments)

    return multiprocessing.start_processes(begun, args, nprocs, **settings | {"start_method": "fork"})
