"""What fails is told, and a failure that says nothing of the work is not for ever."""

import pytest

from diffmamba.runs import training
from diffmamba.runs.execution import has_ended
from diffmamba.runs.plan import expand
from diffmamba.runs.store import SWEEP
from diffmamba.tasks import LanguageModelling

GRID = ("model=mamba", "model.outer_norm=false", "model.lambda_form=scalar")


def failing(monkeypatch, place, name, error):
    """Lets a function fail for as long as the patch holds. Returns the list of its calls."""
    calls = []

    def fail(*_, **__):
        calls.append(name)
        raise error

    monkeypatch.setattr(place, name, fail)
    return calls


EARLY = {
    "no memory": (training, "build_task", MemoryError("no memory")),
    "an error of the disk": (training, "hardware", OSError(5, "Input/output error")),
    "in the first step": (LanguageModelling, "training_step", RuntimeError("CUDA out of memory")),
}


@pytest.mark.parametrize(("place", "name", "error"), EARLY.values(), ids=EARLY.keys())
def test_a_failure_before_the_first_step_is_not_for_ever(world, command, place, name, error):
    with pytest.MonkeyPatch.context() as patched:
        failing(patched, place, name, error)
        outcome = command("train", world.words())
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)
    assert "the same command tries it again" in outcome.err
    (record,) = world.store.records().values()
    assert (record["status"], record["error"]["step"]) == ("failed", 0)
    outcome = command("train", world.words())
    assert (outcome.status, outcome.err) == (0, "")
    (again,) = world.store.records().values()
    assert (again["id"], again["status"], again["error"]) == (record["id"], "finished", None)


def test_a_measurement_that_failed_is_taken_again(world, monkeypatch):
    trained = world.train()
    words = ("weights=run", f"weights.run={trained['id']}")
    with monkeypatch.context() as patched:
        failing(patched, type(world.work(*words, root="measure").measure), "rows", OSError(5, "Input/output error"))
        assert world.measure(*words)["status"] == "failed"
    assert world.measure(*words)["status"] == "finished"


@pytest.mark.parametrize(
    ("error", "tries"), [(MemoryError("no memory"), 3), (OSError(28, "No space left"), 3), (ValueError("wrong"), 1)]
)
def test_in_one_sweep_only_failures_of_the_machine_are_tried_again_with_a_limit(world, monkeypatch, error, tries):
    with monkeypatch.context() as patched:
        calls = failing(patched, training, "build_task", error)
        assert world.train()["status"] == "failed"
        monkeypatch.setenv(SWEEP, "a")
        for settings in [(), (), (), (), ("retry=failed",)]:
            assert world.train(*settings)["status"] == "failed"
        assert len(calls) == 1 + tries  # a failure of an earlier call counts for nothing
        monkeypatch.setenv(SWEEP, "b")
        world.train("retries=0")
        world.train("retries=0")
        assert len(calls) == 2 + tries
        monkeypatch.delenv(SWEEP)
        world.train()
        assert len(calls) == 3 + tries
    assert world.train()["status"] == "finished"


def test_a_training_that_a_callback_stopped_has_ended(world, command):
    record = world.train()
    stopped = record | {"status": "stopped", "stopped": {"step": 8, "by": "EarlyStopping"}}
    stopped |= {"progress": {"step": 8, "steps": 12}, "evaluations": record["evaluations"][:2]}
    world.run(record).write(stopped)
    assert has_ended(world.work("retry=failed"), stopped)
    before = world.contents()
    outcome = command("train", world.words())
    assert (outcome.status, outcome.err) == (0, "")
    assert "after 8 steps, stopped at step 8 of 12 by EarlyStopping" in outcome.out
    assert world.contents() == before
    by_name = world.measure("weights=run", f"weights.run={record['id']}")
    assert by_name["status"] == "finished"
    assert world.measure("weights=trained")["id"] == by_name["id"]


def test_a_run_without_evaluation_ends_no_sweep(world, command, worker_here):
    words = world.words(*GRID, "seed=0,1", "threads=1")
    (first, _) = expand("table2", words)
    record = world.train("experiments=table2", *GRID, "seed=0", "group=table2")
    assert record["id"] == first.id
    world.run(record).write(record | {"evaluations": [], "tokens_per_second": None})
    assert "not evaluated" in command("train", world.words("experiments=table2", *GRID, "seed=0")).out
    outcome = command("sweep", ["sweep=table2", "workers=1", *words])
    assert (outcome.status, outcome.err) == (0, "")
    assert "2 of 2 runs are finished" in outcome.out


def test_lines_of_a_sweep_say_what_varies(world, command, worker_here):
    rates = world.words(*GRID, "seed=0", "optimizer.learning_rate=0.01,0.02")
    outcome = command("sweep", ["sweep=table2", "workers=1", *rates])
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line for line in " ".join(outcome.out.split()).split("/2 ") if "test PPL" in line]
    assert ["optimizer.learning_rate=0.01: " in lines[0], "optimizer.learning_rate=0.02: " in lines[1]] == [True, True]
