"""The kill test: a sweep that is killed hard, at random and at the worst moments, and started again until it is done.

    python -m tests.end_to_end.kills cells=200 workers=4 kills=20 seed=0

The same grid is worked off twice: undisturbed into store A, and into store B with kills. Then B must hold what A
holds: every result, once, equal bit for bit, and nothing else. A callback keeps a diary of every step that was trained,
which shows that no run was trained by two processes at the same time.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import yaml

from diffmamba.runs.store import WELL
from tests.end_to_end.conftest import SMALL, english

KINDS = ("worker", "parent", "both", "checkpoint", "record")
"""Who is killed: a worker, the sweep itself, all of them; or who is writing a checkpoint, or a record, just then."""
WRITTEN = {"checkpoint": ("last.ckpt", "best.ckpt"), "record": ("result.json", "rows.csv")}
AIM_SECONDS = 20.0  # for somebody to write what is aimed at
LIFE_SECONDS = 120.0  # for processes that outlive the sweep
POLL_SECONDS = 0.1
OF_ITS_LIFE = ("progress.json", "lock")
"""Files of a run that tell of its processes, not of its result."""
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "plain": {"scale": {"steps": 6}},
    "longer": {"scale": {"steps": 8}},
    "vanilla": {"defaults": [{"override /model": "mamba"}], "scale": {"steps": 6}},
    "measured": {
        "defaults": [{"override /measure": "perplexity"}, {"override /weights": "trained"}],
        "scale": {"steps": 6},
    },
}
"""What the cells of one seed are. The measurement needs the training of `plain`."""
DIARY = '''"""A diary of every training: who does which step of which run, and when."""

import os
import time

import lightning as L


class Diary(L.Callback):
    def write(self, trainer, what):
        run = next(callback.run for callback in trainer.callbacks if hasattr(callback, "run"))
        line = f"{run.id} {os.getpid()} {time.monotonic()} {what}\\n"
        with open(f"{run.directory.parent}.diary", "ab", buffering=0) as file:
            file.write(line.encode())

    def on_train_start(self, trainer, pl_module):
        self.write(trainer, "start")

    def on_train_batch_end(self, trainer, *_):
        self.write(trainer, "step")
        time.sleep(0.05)  # so that there is time to be killed

    def on_train_end(self, trainer, pl_module):
        self.write(trainer, "end")
'''


class Process(Protocol):
    """A started command."""

    pid: int

    def poll(self) -> int | None: ...


Start = Callable[[list[str], Path, dict[str, str]], Process]
"""Starts `diffmamba sweep` with these words, in this folder, with this environment."""


def command(words: list[str], folder: Path, environment: dict[str, str]) -> Process:
    """The command as a user starts it. What it says goes into the folder's `said.txt`."""
    with (folder / "said.txt").open("ab") as said:
        line = [sys.executable, "-m", "diffmamba.sweep", *words]
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        return subprocess.Popen(line, cwd=folder, env=os.environ | environment, start_new_session=True, **streams)


@dataclass(frozen=True)
class Grid:
    """A user's folder with a text, a configuration directory, and a sweep of tiny cells."""

    folder: Path
    cells: int
    workers: int

    def write(self) -> None:
        each = len(EXPERIMENTS)
        assert self.cells % each == 0, f"cells={self.cells} must be a multiple of {each}"
        (self.folder / "story.txt").write_text(english(330))
        (self.folder / "diary.py").write_text(DIARY)
        params = {"experiments": ",".join(EXPERIMENTS), "seed": ",".join(map(str, range(self.cells // each)))}
        sweep = {"group": "killed", "hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}
        files = {"sweeps/killed": sweep, "callbacks/diary": {"diary": {"_target_": "diary.Diary"}}}
        files |= {f"experiments/{name}": content for name, content in EXPERIMENTS.items()}
        for name, content in files.items():
            path = self.folder / "conf" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            header = "" if name.startswith("callbacks/") else "# @package _global_\n"
            path.write_text(header + yaml.safe_dump(content, sort_keys=False))

    def words(self, store: str) -> list[str]:
        """The words of the sweep into one of the stores."""
        small = [word for word in SMALL if not word.startswith(("scale.steps", "scale.evaluate_every"))]
        return [
            *("sweep=killed", f"workers={self.workers}", f"runs={self.folder / store}", "callbacks=diary"),
            *("data=text", f"data.path={self.folder / 'story.txt'}", f"data.directory={self.folder / 'data'}"),
            *("trainer=cpu", "logger=csv", "threads=1", *small, "scale.evaluate_every=2"),
        ]


@dataclass
class Figures:
    """What the kill test came to."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    undisturbed_seconds: float = 0.0
    disturbed_seconds: float = 0.0
    results: int = 0
    steps: int = 0
    steps_again: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        ratio = self.disturbed_seconds / self.undisturbed_seconds if self.undisturbed_seconds else float("nan")
        return (
            f"{self.results} results, each once, equal to the undisturbed ones\n"
            f"{self.kills.total()} kills ({kinds}), {self.starts - 1} restarts\n"
            f"{self.disturbed_seconds:.0f} s against {self.undisturbed_seconds:.0f} s undisturbed: {ratio:.2f} times\n"
            f"{self.steps} steps trained, {self.steps_again} of them a second time"
        )


class Killer:
    """Kills processes of a sweep that works into a store.

    The processes that the sweep starts are found by a mark in their environment, which they inherit. So those are found
    too that outlive it.
    """

    def __init__(self, store: Path, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.done: set[Path] = set()

    @property
    def environment(self) -> dict[str, str]:
        return {"KILLS_MARK": self.mark}

    def workers(self, parent: int) -> list[int]:
        """The Python processes that the sweep, or an earlier one, has started."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"KILLS_MARK={self.mark}".encode() in (directory / "environ").read_bytes().split(b"\0")
                if marked and "python" in (directory / "exe").resolve().name and _lives(directory):
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
    process = start(grid.words("A"), grid.folder, {})
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
        process = start(grid.words("B"), grid.folder, killer.environment)
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


def compare(grid: Grid, figures: Figures) -> None:
    """Raises AssertionError unless store B holds what store A holds, and nothing else."""
    a, b = _records(grid.folder / "A"), _records(grid.folder / "B")
    assert len(a) == grid.cells, f"the grid has {grid.cells} cells, and the undisturbed store {len(a)} runs"
    assert a.keys() == b.keys(), f"runs of one store alone: {sorted(a.keys() ^ b.keys())}"
    for run_id, record in b.items():
        for key in ("status", "evaluations", "values", "config", "corpus"):
            ours, other = _without_store(record.get(key)), _without_store(a[run_id].get(key))
            assert ours == other, f"{run_id}: {key} is {ours}, and undisturbed {other}"
        for one, other in zip(_files(grid, "B", run_id), _files(grid, "A", run_id), strict=True):
            assert one.name == other.name, f"{run_id}: {one.name} is not what is there undisturbed: {other.name}"
            if one.name == "last.ckpt":
                assert _same_weights(one, other), f"{run_id}: other weights"
            elif one.name == "rows.csv":
                assert one.read_bytes() == other.read_bytes(), f"{run_id}: other rows"
    left = [path for path in (grid.folder / "B").rglob("*") if path.name.endswith(".new")]
    left += [path for path in (grid.folder / "B").iterdir() if "." in path.name.strip(".")]
    assert not left, f"left over: {left}"
    figures.results = len(b)


def _records(store: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in store.glob("*/result.json")}


def _without_store(value: Any) -> Any:
    """Without the place of the store and the name in the sweep, in which the two may differ."""
    return {k: v for k, v in value.items() if k not in ("runs", "name")} if isinstance(value, dict) else value


def _files(grid: Grid, store: str, run_id: str) -> list[Path]:
    """The files of a run that are of its result."""
    found = (path for path in (grid.folder / store / run_id).rglob("*") if path.is_file())
    return sorted(path for path in found if path.name not in OF_ITS_LIFE and "csv" not in path.parts)


def _same_weights(one: Path, other: Path) -> bool:
    first, second = (torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Stay(NamedTuple):
    """A process at work on a run: from its start to its last sign of life."""

    pid: str
    first: float
    last: float
    steps: int
    ended: bool


def stays(diary: Path) -> dict[str, list[Stay]]:
    """Who worked on which run, by run, in the order of the starts."""
    found: dict[str, dict[tuple[str, int], Stay]] = {}
    begun: Counter[tuple[str, str]] = Counter()
    for line in diary.read_text().splitlines():
        run_id, pid, when, what = line.split()
        begun[run_id, pid] += what == "start"
        of_run, key = found.setdefault(run_id, {}), (pid, begun[run_id, pid])
        stay = of_run.get(key, Stay(pid, float(when), float(when), 0, False))
        of_run[key] = Stay(pid, stay.first, float(when), stay.steps + (what == "step"), what == "end")
    return {run_id: sorted(of_run.values(), key=lambda stay: stay.first) for run_id, of_run in found.items()}


def one_at_a_time(grid: Grid, figures: Figures) -> None:
    """Raises AssertionError if two processes worked on a run at one time, or if one was trained after its end."""
    of_a, of_b = (stays(grid.folder / f"{store}.diary") for store in ("A", "B"))
    for run_id, of_run in of_b.items():
        for one, other in pairwise(of_run):
            assert one.last <= other.first, f"{run_id} was trained by two at one time: {one} and {other}"
            assert not (one.ended and other.steps), f"{run_id} was trained again after its end: {one} and {other}"
    steps = [sum(stay.steps for of_run in of_store.values() for stay in of_run) for of_store in (of_a, of_b)]
    figures.steps, figures.steps_again = steps[1], steps[1] - steps[0]


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
