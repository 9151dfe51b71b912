"""Workers on the plan of a sweep, in this process: what is done, passed by, tried again, and given up."""

import os
import shutil
from contextlib import ExitStack

import pytest
import torch

from diffmamba.errors import SettingError
from diffmamba.runs import queue, sources, sweeping, training, worker
from diffmamba.runs.plan import expand
from diffmamba.runs.store import SWEEP
from diffmamba.tasks.task import NonFiniteLossError

GRID = ("model=mamba", "model.outer_norm=false", "model.lambda_form=scalar")
MEASURED = ("measure=perplexity", "weights=trained")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """No pauses, and no sweep around a test."""
    monkeypatch.setattr(worker, "PAUSE_SECONDS", (0.0,))
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    monkeypatch.setenv(SWEEP, "none")


@pytest.fixture
def plan(world):
    """Makes the plan of what is left of a grid."""

    def build(*words):
        planned = expand("table2", world.words(*GRID, "seed=0,1", *words))
        left = sweeping.pending(planned, sweeping.records(planned))
        return planned, queue.new(world.store.directory, "table2", left, sweeping.names(planned)).folder

    return build


def broken(patched, error, times=10**6, when=lambda work: True):
    """Lets `build_task` fail so many times, for some works. Returns the seeds it was called for."""
    real, calls = training.build_task, []

    def build_task(work):
        calls.append(work.seed)
        if when(work) and len([seed for seed in calls if seed == work.seed]) <= times:
            raise error
        return real(work)

    patched.setattr(training, "build_task", build_task)
    return calls


def statuses(world, planned):
    found = {item.id: world.store.run(item.id).read() for item in planned}
    return [(r["status"], (r["error"] or {}).get("kind")) if r else None for r in found.values()]


def test_a_worker_does_every_work_and_names_no_two_alike(world, plan):
    planned, folder = plan(*MEASURED)
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None)] * 4
    names = [world.store.run(item.id).read()["config"]["name"] for item in planned]
    assert len(set(names)) == 4
    assert all("seed" in name for name in names)
    before = world.contents()
    assert worker.work(folder) == 0
    assert world.contents() == before


def test_what_needs_a_failed_work_fails_with_its_reason_and_is_done_by_the_next_sweep(world, plan, monkeypatch):
    with monkeypatch.context() as patched:
        broken(patched, ValueError("no such thing"), when=lambda work: work.seed == 0)
        planned, folder = plan(*MEASURED)
        assert worker.work(folder) == 0
    told = dict(zip([(item.work.kind, item.config["seed"]) for item in planned], statuses(world, planned), strict=True))
    assert told["training", 0] == ("failed", "code")
    assert told["measurement", 0] == ("failed", "needs")
    assert told["training", 1] == told["measurement", 1] == ("finished", None)
    (reason,) = [
        r["error"]["message"] for r in world.store.records().values() if r["kind"] == "measurement" and r["error"]
    ]
    assert "no such thing" in reason
    planned, folder = plan(*MEASURED)
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None)] * 4


def test_a_training_that_went_away_since_the_plan_is_done_for_what_needs_it(world, plan):
    first = world.train("experiments=table2", *GRID, "seed=0")
    planned, folder = plan(*MEASURED, "seed=0")
    assert len(queue.Queue(folder).entries()) == 1
    shutil.rmtree(world.directory(first))
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None)] * 2


def test_a_work_whose_weights_went_away_since_the_plan_keeps_no_other_from_being_done(world, plan, capsys):
    first = world.train("experiments=table2", *GRID, "seed=5")
    planned, folder = plan("measure=perplexity", "weights=run", f"weights.run={first['id']}", "measure.window=8,16")
    assert len(planned) == 2
    shutil.rmtree(world.directory(first))
    assert worker.work(folder) == worker.FAILED
    assert capsys.readouterr().out.count("error: ") == 2


def test_failures_of_the_machine_are_tried_again_and_then_end_well(world, plan, monkeypatch):
    calls = broken(monkeypatch, OSError(5, "Input/output error"), times=1)
    planned, folder = plan()
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None)] * 2
    assert sorted(calls) == [0, 0, 1, 1]
    assert {r["session"]["attempt"] for r in world.store.records().values()} == {2}


def test_a_work_is_tried_again_as_often_as_said(world, plan, monkeypatch):
    calls = broken(monkeypatch, ConnectionError("gone"), when=lambda work: work.seed == 1)
    planned, folder = plan("retries=1")
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None), ("failed", "connection")]
    assert sorted(calls) == [0, 1, 1]


@pytest.mark.parametrize(("error", "kind"), [(NonFiniteLossError("nan"), "diverged"), (KeyError("x"), "code")])
def test_failures_of_the_work_are_not_tried_again_in_a_sweep(world, plan, monkeypatch, error, kind):
    calls = broken(monkeypatch, error)
    planned, folder = plan()
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("failed", kind)] * 2
    assert calls == [0, 1]


def test_a_worker_gives_up_where_the_machine_fails_it_time_and_again(world, plan, monkeypatch, capsys):
    calls = broken(monkeypatch, OSError(28, "No space left on device"))
    planned, folder = plan("seed=0,1,2,3,4,5", "retries=0")
    assert worker.work(folder) == worker.FAILED
    assert len(calls) == worker.TROUBLES
    assert "error: " in capsys.readouterr().out
    assert statuses(world, planned).count(None) == 6 - worker.TROUBLES


def test_works_that_need_too_much_memory_keep_no_worker_from_the_others(world, plan, monkeypatch):
    broken(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), when=lambda work: work.seed < 3)
    planned, folder = plan("seed=0,1,2,3")
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("failed", "memory")] * 3 + [("finished", None)]


@pytest.mark.parametrize("error", [SettingError("no such run"), RuntimeError("of no known kind")])
@pytest.mark.parametrize(("where", "recorded"), [("admit", True), ("work_of", False)])
def test_a_work_that_cannot_begin_keeps_no_worker_from_the_others(
    world, plan, monkeypatch, capsys, error, where, recorded
):
    place = training if where == "admit" else worker
    real = getattr(place, where)

    def struck(work, *rest):
        if (work["seed"] if isinstance(work, dict) else work.seed) == 0:
            raise error
        return real(work, *rest)

    planned, folder = plan()
    monkeypatch.setattr(place, where, struck)
    assert worker.work(folder) == (0 if recorded else worker.FAILED)
    kind = "settings" if isinstance(error, SettingError) else "code"
    assert statuses(world, planned) == [("failed", kind) if recorded else None, ("finished", None)]
    assert str(error) in capsys.readouterr().out


def test_what_needs_a_failed_work_waits_for_its_next_try(world, plan, monkeypatch):
    with monkeypatch.context() as patched:
        broken(patched, NonFiniteLossError("nan"))
        planned, folder = plan(*MEASURED, "seed=0")
        assert worker.work(folder) == 0
    assert statuses(world, planned) == [("failed", "diverged"), ("failed", "needs")]
    planned, folder = plan(*MEASURED, "seed=0", "retry=failed")
    training, real = world.store.run(planned[0].id), type(world.store.run("t")).is_taken
    looks = []

    def is_taken(run):  # at the first look another worker is about to begin the training
        looks.append(run.id)
        return (run.id == training.id and looks.count(run.id) == 1) or real(run)

    monkeypatch.setattr(type(training), "is_taken", is_taken)
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("finished", None)] * 2


def test_two_sweeps_that_fail_at_the_same_work_both_end(world, plan, monkeypatch):
    broken(monkeypatch, ConnectionError("gone"))
    words = (*MEASURED, "seed=0", "retries=0")
    planned, folder = plan(*words)
    other, real, looks = plan(*words)[1], worker.Worker._is_over, []

    def is_over(self, entry):
        if entry.needs:
            looks.append(self)
            assert len(looks) < 9, "it waits for ever"
            if len(looks) == 1:
                worker.work(other)  # fails at the training after this sweep has given it up
        return real(self, entry)

    monkeypatch.setattr(worker.Worker, "_is_over", is_over)
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("failed", "connection"), ("failed", "needs")]


def test_a_result_that_was_to_be_made_anew_is_kept_where_that_fails(world, plan, monkeypatch):
    planned, folder = plan(*MEASURED, "seed=0")
    assert worker.work(folder) == 0
    measurement = planned[1].id
    value = world.store.run(measurement).read()["values"]
    monkeypatch.setattr(sources, "changed", lambda record: ["models"])
    broken(monkeypatch, ValueError("no such thing"))
    planned, folder = plan(*MEASURED, "seed=0", "force=true")
    assert worker.work(folder) == 0
    assert statuses(world, planned) == [("failed", "code"), ("failed", "needs")]
    assert world.store.run(f"{measurement}.before-1").read()["values"] == value


def test_a_run_that_kills_its_workers_is_given_up(world, plan, monkeypatch):
    planned, folder = plan()
    first = world.store.run(planned[0].id)
    calls = broken(monkeypatch, SystemError("never called"), when=lambda work: False)
    token = queue.Queue(folder).token
    record = world.train("experiments=table2", *GRID, "seed=0") | {"status": "running", "finished": None}
    for attempt, called in [(2, [0]), (3, [])]:
        stamp = first.last_checkpoint.stat().st_mtime_ns
        calls.clear()
        first.write(record | {"session": {"sweep": token, "attempt": attempt, "checkpoint": stamp}})
        assert worker.work(folder) == 0
        assert [seed for seed in calls if seed == 0] == called
    assert statuses(world, planned) == [("failed", "lost"), ("finished", None)]


def test_what_another_process_holds_is_passed_by_and_done_when_that_lets_go(world, plan, monkeypatch):
    planned, folder = plan()
    first, done = world.store.run(planned[0].id), []
    real = worker.execute

    def observed(work, **settings):
        done.append(work.seed)
        claim.close()  # after the other work has begun
        return real(work, **settings)

    monkeypatch.setattr(worker, "execute", observed)
    with ExitStack() as claim:
        claim.enter_context(first.claim())
        monkeypatch.setattr(type(first), "is_taken", lambda run: run.id == first.id and not done)
        assert worker.work(folder) == 0
    assert done == [1, 0]
    assert statuses(world, planned) == [("finished", None)] * 2


def test_a_dry_sweep_tells_the_plan_and_writes_nothing(world, command):
    words = ["sweep=table2", "dry=true", "workers=2", *world.words(*GRID, *MEASURED, "seed=0,1")]
    command("sweep", words)  # prepares the text
    before = world.contents()
    outcome = command("sweep", words)
    assert (outcome.status, outcome.err) == (0, "")
    assert "4 of 4 runs to do" in outcome.out
    assert "no forecast" in outcome.out
    assert world.contents() == before
    world.train("experiments=table2", *GRID, "seed=0")
    outcome = command("sweep", words)
    assert "3 of 4 runs to do" in outcome.out
    assert "with 2 at a time about" in outcome.out
    assert ", after t" in outcome.out  # what a measurement needs


def test_the_sweep_command_says_at_its_end_what_failed_and_why(world, command):
    """With jobs on this machine, which end well though their works fail."""
    words = world.words(*GRID, "seed=0,1", "optimizer.learning_rate=1e30")
    outcome = command("sweep", ["sweep=table2", "workers=1", "launcher=slurm_local", *words])
    assert outcome.status == 1, outcome
    assert "error: job" not in outcome.out + outcome.err
    assert list((world.store.directory / ".sweep").iterdir()) == []
    assert "2 failed: a loss was not finite; retry=failed tries them again" in outcome.out
    assert "0 of 2 runs are finished" in outcome.out
    assert os.environ[SWEEP] == "none"
    again = command("sweep", ["sweep=table2", "workers=1", *words])
    assert again.status == 1
    assert "2 failed: a loss was not finite; retry=failed tries them again" in again.out  # nothing was done, or hidden
