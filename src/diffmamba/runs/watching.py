"""What a sweep shows while its workers work: a bar, and a line for each work that ends. It reads the run store only."""

import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diffmamba.runs.admission import has_ended
from diffmamba.runs.engine import Workers
from diffmamba.runs.form import Record
from diffmamba.runs.plan import Planned
from diffmamba.runs.store import Run, RunStore
from diffmamba.runs.summary import ending

POLL_SECONDS = 0.5
SHARE = 20  # a look at the store takes at most this part of the time
Stamp = tuple[int, int, int]
"""What tells whether a file was replaced: its inode, its size and the time of its last change."""


class Watch:
    """Follows the works of a plan that are left to do. Only records that were replaced since the last look are read."""

    def __init__(self, left: Sequence[Planned], count: int, names: Mapping[str, str], title: str, console: Console):
        store = RunStore(left[0].work.settings["runs"])
        self.runs = {item.id: store.run(item.id) for item in left}
        self.works = {item.id: item.work for item in left}
        self.names = names
        self.total = count
        self.done = self.total - len(self.runs)
        self.under_way: set[str] = set()
        self._stamps: dict[str, Stamp | None] = dict.fromkeys(self.runs)  # what ended meanwhile is told first
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("run {task.fields[done]} of {task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=600,
        )
        self.task = self.progress.add_task(title, total=self.total, completed=self.done, done=self.done)

    def follow(self, workers: Workers) -> None:
        """Looks on until no worker is left, and has those replaced that died while there is work."""
        with self.progress:
            alive = True
            while alive:
                alive = workers.alive() > 0
                began = time.monotonic()
                for run_id, record in self._ended(workers):
                    self.done += 1
                    self._say(f"{self.done}/{self.total} {ending(record, self.names[run_id])}")
                share = sum(self.runs[run_id].share_done() for run_id in self.under_way)
                self.progress.update(self.task, completed=self.done + share, done=self.done)
                if self.runs:
                    if died := workers.renew():
                        self._say(f"{died} worker{'s' * (died > 1)} died; new ones go on with the works")
                    alive = workers.alive() > 0
                else:
                    workers.end()
                time.sleep(max(POLL_SECONDS, SHARE * (time.monotonic() - began)) if alive else 0)

    def _say(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _ended(self, workers: Workers) -> Iterator[tuple[str, Record]]:
        """The works that have ended since the last look, with their records. Tells the workers of every change."""
        for run_id, run in list(self.runs.items()):
            stamp = _stamp(run)
            if stamp == self._stamps[run_id]:
                continue
            try:
                record = run.read()
                has_it_ended = record is not None and has_ended(self.works[run_id], record)
            except OSError:  # read with the next look
                continue
            self._stamps[run_id] = stamp
            self.under_way.discard(run_id)
            workers.progressed()
            if record is None:
                continue
            if has_it_ended:
                del self.runs[run_id]
                yield run_id, record
            elif record["status"] == "running":
                self.under_way.add(run_id)


def _stamp(run: Run) -> Stamp | None:
    try:
        found = run.result.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
