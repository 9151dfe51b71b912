"""What a job of Slurm calls, and how it is queued again when it is warned: see `slurm`."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diffmamba.runs.stopping import INTERRUPTED

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

VERDICT_SECONDS = 600.0  # after SIGTERM, for Slurm to kill the job or to queue it again


@dataclass(frozen=True)
class Turn:
    """What a job calls: does works of a plan until none is left.

    Args:
        plan: the folder of the plan.
        environment: variables of this job alone.
    """

    plan: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self) -> int:
        """The exit status. Does not return where Slurm is to queue the job again."""
        os.environ.update(self.environment)
        from submitit import JobEnvironment

        here = JobEnvironment().cluster == "local"
        if here:
            os.setsid()  # Ctrl-C in the terminal of the sweep does not reach it
        warning = JobEnvironment._usr_sig()
        requeue = signal.getsignal(warning)  # submitit's own, which says what is to be done again, and has it queued
        with _heard() as heard:
            from diffmamba.exit_status import guarded
            from diffmamba.runs.worker import work

            status = guarded(lambda: work(self.plan, wait=False))
        if status != INTERRUPTED:
            return status
        if warning in heard and callable(requeue):
            requeue(warning, None)
        elif signal.SIGTERM in heard and not here:
            signal.signal(warning, requeue)
            time.sleep(VERDICT_SECONDS)  # a job that ended by itself would not be queued again
        return status

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit is to start in the place of an interrupted job: the same. The run store holds the rest."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)


@contextmanager
def _heard() -> Iterator[set[int]]:
    """The signals that came, whoever handled them; known when the block has ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    numbers: set[int] = set()
    try:
        yield numbers
    finally:
        signal.set_wakeup_fd(before)
        with suppress(BlockingIOError):
            numbers.update(os.read(reading, 4096))
        os.close(reading)
        os.close(writing)
