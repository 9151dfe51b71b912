"""A small sweep that is killed while it writes, whole, and while it trains, comes to what it would have come to."""

from pathlib import Path

import pytest

from diffmamba.runs.execution import execute
from diffmamba.runs.plan import expand
from tests.end_to_end import kills
from tests.end_to_end.forked import Forked
from tests.end_to_end.kill_grid import Grid
from tests.end_to_end.kill_judge import Figures, compare, one_at_a_time
from tests.end_to_end.stopped_calls import Start


def start(words: list[str], folder: Path) -> Forked:
    """`diffmamba sweep` in a process forked from this one, as its workers are."""
    return Forked(Start(words, "sweep", folder, {"DIFFMAMBA_CONF": str(folder / "conf")}), folder)


def test_a_sweep_that_is_killed_comes_to_what_it_would_have_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_workers: None
) -> None:
    grid, figures = Grid(tmp_path, cells=8, workers=2), Figures()
    grid.write()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep, *words = grid.words("A")
    for item in expand(sweep.partition("=")[2], [word for word in words if not word.startswith("workers=")]):
        execute(item.work, progress_bar=False)
    kills.disturbed(grid, ("checkpoint", "both"), seed=0, figures=figures, start=start)
    compare(grid, figures)
    one_at_a_time(grid, figures)
    assert figures.kills.total() == 2
    assert figures.results == 8
