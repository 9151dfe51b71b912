"""`python -m diffmamba.runs.worker PLAN`: a process that does the works of a plan, one after the other.

It walks over the plan, claims a work by its lease in the run store, does it, and goes on to the next. What others hold
it passes by, and looks at again later: if they die, it takes over. So any number of workers, in terminals and on
machines that share the store, do each work once. Imports and compiled operators stay from work to work.

It ends when every work of the plan has ended, or when it is told to stop: by a signal, or because the process that
started it is gone. A training under way then writes its checkpoint first.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch

from diffmamba.errors import SettingError
from diffmamba.exit_status import guarded
from diffmamba.runs import stopping
from diffmamba.runs.admission import has_ended
from diffmamba.runs.execution import execute, record_failure, work_of
from diffmamba.runs.failures import LostError, NeedsError, begun, in_sweep
from diffmamba.runs.form import TRANSIENT
from diffmamba.runs.queue import Entry, Queue
from diffmamba.runs.store import WELL, RunStore, RunTakenError
from diffmamba.runs.summary import summary
from diffmamba.runs.work import Work

POLL_SECONDS = 1.0  # between looks at works that others hold
PATIENCE_SECONDS = 120.0  # of a worker that does not wait: longer than a lease of a dead worker lasts
TROUBLES = 3  # failures of the machine in a row, after which a worker gives up
OF_EVERY_WORK = ("disk", "connection")  # kinds of failures that the next work is likely to meet too
PAUSE_SECONDS = (1.0, 5.0, 20.0)  # before the next try, after so many of them
FAILED = 1  # exit status


def main() -> None:
    """The entry point of a process. It stops when its standard input ends, which the starting process holds."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path.append(os.getcwd())  # a user's own models and tasks
    sys.exit(guarded(lambda: work(Path(sys.argv[1]))))


def work(plan: Path, wait: bool = True) -> int:
    """Does works of the plan in this folder until none is left. Returns the exit status.

    Works that others hold are waited for, because these may die. Without `wait` the worker ends when they have shown
    that they live. Raises KeyboardInterrupt where it was told to stop.
    """
    queue = Queue(plan)
    with in_sweep(queue.token), stopping.listening():
        return Worker(queue, wait).run()


class Worker:
    """Takes works from a plan, as long as there are any."""

    def __init__(self, queue: Queue, wait: bool):
        self.queue = queue
        self.wait = wait
        self.left: set[str] = set()  # works of the plan that this worker has not seen the end of
        self.tries: Counter[str] = Counter()
        self.troubles: list[str] = []  # works that the machine has failed, since one ended well
        self.status = 0

    def run(self) -> int:
        """The exit status: 0, or `FAILED` where the log says something that no record does."""
        left, since = self.queue.entries(), time.monotonic()
        self.left = {entry.id for entry in left}
        while left:
            rest = [entry for entry in left if not self._look(entry)]
            if rest and self._gives_up():
                print("error: the works fail because of this machine, so the worker ends; mend it and run it again")
                return FAILED
            if len(rest) == len(left):
                if not self.wait and time.monotonic() - since > PATIENCE_SECONDS:
                    print(f"{len(rest)} works are under way elsewhere")
                    return self.status
                time.sleep(POLL_SECONDS)
            else:
                since = time.monotonic()
            left = rest
        return self.status

    def _gives_up(self) -> bool:
        """Whether it is the machine that is to be mended: it has failed several works, one after the other."""
        return len(self.troubles) >= TROUBLES and len(set(self.troubles)) > 1

    def _look(self, entry: Entry) -> bool:
        """Whether a work is over for this worker, if need be by doing it now. False: it is to be looked at again.

        A work whose failure cannot be recorded is over too, so that all others are done.
        """
        if self._gives_up():
            return False
        try:
            over = self._is_over(entry)
        except RunTakenError:
            return False
        except OSError as error:  # nothing could be recorded
            where = f": {error.filename}" if error.filename else ""
            print(f"error: {entry.name}: {error.strerror or error}{where}", flush=True)
            over = self._failed_by_machine(entry, "disk")
            self.status = FAILED if over else self.status
        except Exception as error:  # what it is made of has gone: its weights, its data
            if not isinstance(error, SettingError):
                traceback.print_exc(file=sys.stdout)
            print(f"error: {entry.name}: {error}", flush=True)
            over, self.status = True, FAILED
        if over:
            self.left.discard(entry.id)
        return over

    def _is_over(self, entry: Entry) -> bool:
        settings = self.queue.settings(entry)
        store, retries = RunStore(settings["runs"]), settings["retries"]
        run = store.run(entry.id)
        if run.is_taken():
            return False
        work, record = work_of(settings), run.read()
        if has_ended(work, record):
            return True
        for needed in entry.needs:
            other = store.run(needed).read()
            if other is not None and other["status"] in WELL:
                continue
            if needed in self.left or store.run(needed).is_taken():
                return False
            if other is not None and other["status"] == "failed":
                record_failure(work, NeedsError(f"run {needed}, which this needs, failed: {other['error']['message']}"))
                return True
        attempt = begun(run, record)["attempt"]
        if record is not None and record["status"] == "running" and attempt > 1 + retries:
            record_failure(work, LostError(f"its worker died {attempt - 1} times without writing another checkpoint"))
            return True
        return self._do(entry, work)

    def _do(self, entry: Entry, work: Work) -> bool:
        """Does a work. False where it failed because of the machine, and is to be tried again."""
        print(f"{entry.name} (run {entry.id})", flush=True)
        try:
            record = execute(work, progress_bar=False, wait=False)
        except (RunTakenError, OSError):
            raise
        except Exception as error:  # before it began
            record = record_failure(work, error)
        print(summary(record, Path(work.settings["runs"])), flush=True)
        if record["status"] == "failed" and _gpu_is_lost():
            os.kill(os.getpid(), signal.SIGKILL)  # every later work would fail here; another worker takes this place
        if record["status"] == "failed" and record["error"]["kind"] in TRANSIENT:
            return self._failed_by_machine(entry, record["error"]["kind"]) or has_ended(work, record)
        if record["status"] != "failed":
            self.troubles.clear()
        return True

    def _failed_by_machine(self, entry: Entry, kind: str) -> bool:
        """Whether this worker has tried often enough. If others may fail too, it waits a moment, longer each time."""
        self.tries[entry.id] += 1
        if kind in OF_EVERY_WORK:
            time.sleep(PAUSE_SECONDS[min(len(self.troubles), len(PAUSE_SECONDS) - 1)])
            self.troubles.append(entry.id)
        return self.tries[entry.id] > self.queue.settings(entry)["retries"]


def _gpu_is_lost() -> bool:
    """Whether an error has left this process without its CUDA device, as an illegal memory access does."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _end_with_parent() -> None:
    """Tells this process to stop when nobody holds the other end of its standard input any more."""
    with suppress(OSError):  # not through sys.stdin, whose lock Python needs when it ends
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
