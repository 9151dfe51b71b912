"""Whether a sweep that was killed came to what it would have come to, and at what cost."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.end_to_end.kill_grid import Grid

OF_ITS_LIFE = ("progress.json", "lock")
"""Files of a run that tell of its processes, not of its result."""


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
