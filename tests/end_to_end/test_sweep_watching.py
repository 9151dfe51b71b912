"""What a sweep's own process does: which works are left, what it sees of them, and what it leaves behind."""

from io import StringIO

import pytest
from rich.console import Console

from diffmamba.errors import SettingError
from diffmamba.runs import sweeping, watching
from diffmamba.runs.engine import Engine
from diffmamba.runs.plan import Planned, expand
from diffmamba.runs.store import Run

GRID = ("model=mamba", "model.outer_norm=false", "model.lambda_form=scalar")


class Idle:
    """Workers that live for a few looks and do nothing."""

    def __init__(self, looks):
        self.looks, self.heard, self.renewed = looks, 0, 0

    def alive(self):
        self.looks -= 1
        return int(self.looks > 0)

    def renew(self):
        self.renewed += 1

    def progressed(self):
        self.heard += 1

    def end(self):
        self.looks = 0


@pytest.fixture
def planned(world):
    return expand("table2", world.words(*GRID, "seed=0,1"))


def watch(planned, workers, monkeypatch):
    """What is told while these workers work."""
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.0)
    said = StringIO()
    names = sweeping.names(planned)
    watching.Watch(planned, len(planned), names, "table2", Console(file=said)).follow(workers)
    return said.getvalue()


def test_what_ended_before_the_first_look_is_told_and_no_worker_is_replaced_for_it(world, planned, monkeypatch):
    for seed in (0, 1):
        world.train("experiments=table2", *GRID, f"seed={seed}")
    workers = Idle(looks=50)
    told = watch(planned, workers, monkeypatch)
    assert "1/2 " in told
    assert "2/2 " in told
    assert (workers.renewed, workers.looks) == (0, 0)


def test_a_record_that_cannot_be_read_for_a_moment_ends_no_sweep(world, planned, monkeypatch):
    world.train("experiments=table2", *GRID, "seed=0")
    real, failures = Run.read, [OSError(5, "Input/output error")]
    monkeypatch.setattr(Run, "read", lambda run: real(run) if not failures else (_ for _ in ()).throw(failures.pop()))
    assert "1/2 " in watch(planned, Idle(looks=9), monkeypatch)


def test_workers_hear_of_every_record_that_changes_also_where_nothing_ends(world, planned, monkeypatch):
    world.interrupted(5, "experiments=table2", *GRID, "seed=0")
    workers = Idle(looks=9)
    assert "1/2 " not in watch(planned, workers, monkeypatch)
    assert workers.heard == 1
    assert workers.renewed


def test_what_is_needed_only_by_a_work_that_nobody_needs_is_not_done(monkeypatch):
    monkeypatch.setattr(sweeping, "has_ended", lambda work, record: record is not None)
    chain = [
        Planned("first", None, asked=False),
        Planned("middle", None, asked=False, needs=("first",)),
        Planned("last", None, needs=("middle",)),
    ]
    assert [item.id for item in sweeping.pending(chain, {})] == ["first", "middle", "last"]
    assert sweeping.pending(chain, {"last": {}}) == []


def test_a_sweep_whose_jobs_cannot_be_submitted_leaves_no_plan(world, planned, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingError, match="launcher=slurm needs"):
        sweeping.work_off("table2", planned, Engine("slurm"), Console(file=StringIO()))
    assert list((world.store.directory / ".sweep").iterdir()) == []
