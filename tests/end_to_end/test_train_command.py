"""`diffmamba train`, as a user meets it: what it says of runs that end well, fail, are interrupted or taken."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffmamba.runs import RunStore
from diffmamba.tasks import LanguageModelling


def test_run_ends_with_its_figures_and_is_not_trained_twice(world: Any, command: Callable[..., Any]) -> None:
    first = command("train", world.words())
    assert (first.status, first.quiet) == (0, True)
    (record,) = world.store.records().values()
    last = record["evaluations"][-1]
    (line,) = [line for line in first.out.splitlines() if record["id"] in line]
    assert f"test PPL {last['test/ppl']:.3f}, val PPL {last['val/ppl']:.3f} after 12 steps, " in line
    again = command("train", world.words())
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines() == [f"finished at {record['finished']}, not trained again", line]


def test_ctrl_c_says_how_to_go_on(world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original = LanguageModelling.training_step

    def struck(task: LanguageModelling, batch: Any, index: int) -> Any:
        if task.global_step == 6:
            signal.raise_signal(signal.SIGINT)
        return original(task, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck)
        outcome = command("train", world.words())
    assert outcome.status == 130
    assert outcome.err.splitlines()[-1] == "interrupted; the same command resumes from the last checkpoint"
    assert outcome.quiet
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    assert command("train", world.words()).status == 0
    assert world.run(record).read()["status"] == "finished"


def test_taken_run_is_told_so(world: Any, command: Callable[..., Any]) -> None:
    record = world.train()
    world.run(record).write(record | {"status": "running"})
    with world.run(record).claim():
        outcome = command("train", world.words())
    assert "is worked on by another process" in outcome.out + outcome.err
    assert outcome.quiet
    assert world.run(record).read()["status"] == "running"


@pytest.mark.parametrize("steps", [8, 1])
def test_diverged_run_is_one_line(world: Any, command: Callable[..., Any], steps: int) -> None:
    """After one step only the evaluation sees what became of the weights."""
    words = world.words(
        "scale.learning_rate=1e30", "scale.warmup_steps=0", f"scale.steps={steps}", "scale.evaluate_every=1"
    )
    outcome = command("train", words)
    (record,) = world.store.records().values()
    assert outcome.err.startswith(f"error: run {record['id']} failed at step 1: ")
    assert len(outcome.err.splitlines()) == 1
    assert "retry_failed=true" in outcome.err


def test_multirun_goes_on_after_a_failed_cell_and_ends_with_status_1(world: Any, command: Callable[..., Any]) -> None:
    words = world.words("optimizer.learning_rate=1e30,1e-2", "optimizer.warmup_steps=0", "scale.length=16,0", "seed=5")
    outcome = command("train", ["-m", *words])
    assert (outcome.status, outcome.quiet) == (1, True)
    statuses = {r["config"]["optimizer"]["learning_rate"]: r["status"] for r in world.store.records().values()}
    assert statuses == {1e30: "failed", 1e-2: "finished"}
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(outcome.err.splitlines()) == 3  # one diverged, and two settings that cannot be
    assert "failed at step 1" in errors[0]
    assert "data.length" in errors[1]
    assert "test PPL" in outcome.out


def test_run_store_and_paths_are_where_the_user_stands(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Path = world.folder / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    assert command("train", world.words("runs=mine", "data.path=../story.txt")).status == 0
    assert len(RunStore(place / "mine").records()) == 1
    assert [path.name for path in place.iterdir()] == ["mine"]
