"""The kill test: a sweep that is killed hard, at random and at the worst moments, and started again until it is done.

    python -m tests.end_to_end.kills cells=200 workers=4 kills=20 seed=0

The same grid is worked off twice: undisturbed into store A, and into store B with kills. Then B must hold what A
holds: every result, once, equal bit for bit, and nothing else. A callback keeps a diary of every step that was trained,
which shows that no run was trained by two processes at the same time.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from diffmamba.runs.store import WELL
from tests.end_to_end.kill_grid import Grid
from tests.end_to_end.kill_judge import Figures, compare, one_at_a_time

KINDS = ("worker", "parent", "both", "checkpoint", "record")
"""Who is killed: a worker, the sweep itself, all of them; or who is writing a checkpoint, or a record, just then."""
WRITTEN = {"checkpoint": ("last.ckpt", "best.ckpt"), "record": ("result.json", "rows.csv")}
AIM_SECONDS = 20.0  # for somebody to write what is aimed at
LIFE_SECONDS = 120.0  # for processes that outlive the sweep
POLL_SECONDS = 0.1


class Process(Protocol):
    """A started command."""

    pid: int

    def poll(self) -> int | None: ...


Start = Callable[[list[str], Path], Process]
"""Starts `diffmamba sweep` with these words, in this folder."""


def command(words: list[str], folder: Path) -> Process:
    """The command as a user starts it. What it says goes into the folder's `said.txt`."""
    with (folder / "said.txt").open("ab") as said:
        line = [sys.executable, "-m", "diffmamba.sweep", *words]
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        return subprocess.Popen(line, cwd=folder, start_new_session=True, **streams)


class Killer:
    """Kills processes of a sweep that works into a store.

    The workers that the sweep starts are found by their standard output, a log in the store. So those are found too
    that outlive it.
    """

    def __init__(self, store: Path, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.done: set[Path] = set()

    def workers(self, parent: int) -> list[int]:
        """The processes that the sweep, or an earlier one, has started."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(directory / "fd" / "1").startswith(f"{self.store}/") and _lives(directory):
                    found.append(int(directory.name))
            except OSError:  # it has ended
                continue
        return [pid for pid in found if pid != parent]

    def results(self) -> int:
        """How many results there are."""
        for path in self.store.glob("*/result.json"):
            if path not in self.done and any(f'"status": "{status}"' in path.read_text() for status in WELL):
                self.done.add(path)
        return len(self.done)

    def strike(self, kind: str, parent: int) -> str | None:
        """Kills; says whom. None where there is nobody to kill."""
        workers = self.workers(parent)
        if kind in WRITTEN and (writer := self._writer(WRITTEN[kind], parent)):
            return kind if _kill([writer]) else None
        if kind in ("parent", "both"):
            return kind if _kill([parent, *(workers if kind == "both" else ())]) else None
        return "worker" if workers and _kill([self.chance.choice(workers)]) else None

    def _writer(self, names: Sequence[str], parent: int) -> int | None:
        """Waits for a process that has the new version of such a file open."""
        deadline = time.monotonic() + AIM_SECONDS
        while time.monotonic() < deadline and (workers := self.workers(parent)):
            for _ in range(50):
                for pid in workers:
                    if any(_is_new(path, names) for path in _open_files(pid)):
                        return pid
        return None


def _lives(directory: Path) -> bool:
    return (directory / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def _open_files(pid: int) -> Iterator[str]:
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            yield os.readlink(entry.path)
    except OSError:
        return


def _is_new(path: str, names: Sequence[str]) -> bool:
    """Whether it is the file beside one of these that will take its place."""
    name = path.rpartition("/")[2]
    return name.endswith(".new") and name.startswith(tuple(f".{name}." for name in names))


def _kill(pids: Sequence[int]) -> bool:
    killed = False
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed = True
        except ProcessLookupError:
            continue
    return killed


def undisturbed(grid: Grid, start: Start = command) -> float:
    """Works the grid off into store A. Returns the seconds that it took."""
    began = time.monotonic()
    process = start(grid.words("A"), grid.folder)
    while (status := process.poll()) is None:
        time.sleep(POLL_SECONDS)
    assert status == 0, f"the undisturbed sweep ended with status {status}; see {grid.folder / 'said.txt'}"
    return time.monotonic() - began


def disturbed(grid: Grid, kinds: Sequence[str], seed: int, figures: Figures, start: Start = command) -> None:
    """Works the grid off into store B. The kills are spread over its results; after each start the next may come."""
    killer, began = Killer(grid.folder / "B", seed), time.monotonic()
    due = [index * grid.cells // (len(kinds) + 1) for index in range(1, len(kinds) + 1)]
    left = list(zip(due, kinds, strict=True))
    while True:
        figures.starts += 1
        assert figures.starts <= 2 * len(kinds) + 3, (
            f"the sweep does not come to an end; see {grid.folder / 'said.txt'}"
        )
        process = start(grid.words("B"), grid.folder)
        while (status := process.poll()) is None:
            time.sleep(POLL_SECONDS)
            if left and killer.results() >= left[0][0]:
                time.sleep(killer.chance.uniform(0, figures.undisturbed_seconds / grid.cells))
                if process.poll() is None and (struck := killer.strike(left[0][1], process.pid)):
                    left.pop(0)
                    figures.kills[struck] += 1
        if status == 0:
            break
    figures.disturbed_seconds = time.monotonic() - began
    deadline = time.monotonic() + LIFE_SECONDS
    while survivors := killer.workers(process.pid):
        assert time.monotonic() < deadline, f"processes outlive the sweep: {survivors}"
        time.sleep(POLL_SECONDS)
    assert not left, f"the sweep was done before these kills: {left}"


def main(words: Sequence[str]) -> int:
    """The kill test by hand."""
    settings = {"cells": 200, "workers": 4, "kills": 20, "seed": 0}
    settings |= {name: int(value) for name, _, value in (word.partition("=") for word in words)}
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    print(f"in {folder}", flush=True)
    grid, figures, chance = (
        Grid(folder, settings["cells"], settings["workers"]),
        Figures(),
        random.Random(settings["seed"]),
    )
    grid.write()
    figures.undisturbed_seconds = undisturbed(grid)
    kinds = [KINDS[index % len(KINDS)] for index in range(settings["kills"])]
    chance.shuffle(kinds)
    disturbed(grid, kinds, settings["seed"], figures)
    compare(grid, figures)
    one_at_a_time(grid, figures)
    print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
