"""`python -m diffmamba.train`, as a user meets it: one clear line for whatever is wrong."""

import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffmamba import train
from diffmamba.runs import RunStore
from diffmamba.tasks import LanguageModelling

NOISE = ("Traceback", "Error executing", "Warning", "WARNING", "HYDRA_FULL_ERROR")


def is_quiet(outcome: Any) -> bool:
    return not any(word in outcome.out + outcome.err for word in NOISE)


def test_run_ends_with_its_figures_and_is_not_trained_twice(world: Any, command: Callable[..., Any]) -> None:
    first = command(train.main, world.words())
    assert first.status == 0
    (record,) = world.store.records().values()
    last = record["evaluations"][-1]
    (line,) = [line for line in first.out.splitlines() if record["id"] in line]
    assert f"test PPL {last['test/ppl']:.3f}" in line
    assert f"val PPL {last['val/ppl']:.3f}" in line
    assert "12 steps" in line
    assert is_quiet(first)
    again = command(train.main, world.words())
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines() == [f"finished at {record['finished']}, not trained again", line]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file"),
        (b"", "is empty"),
        (b"caf\xe9 " * 400, "UTF-8"),
        (b"too short", "data.batch_size"),
    ],
)
def test_text_that_cannot_be_used_is_one_line(
    world: Any, command: Callable[..., Any], content: bytes | None, says: str
) -> None:
    path = world.folder / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    outcome = command(train.main, world.words(f"data.path={path}"))
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out == ""
    assert world.store.records() == {}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("model=diff_mambo", ("model/diff_mambo", "diff_mamba", "naive_diff", "mamba_grouped")),
        ("scale=tiny", ("scale/tiny", "smoke", "small", "paper")),
        ("data=text9", ("data/text9", "pydoc8", "text")),
        ("scale.stepz=3", ("scale.stepz",)),
        ("lerning_rate=3", ("lerning_rate",)),
        ("data.symbols=letters", ("data.symbols", "text8", "bytes", "words")),
        ("scale.d_model=30", ("30",)),
    ],
)
def test_misspelt_setting_is_named(
    world: Any, command: Callable[..., Any], setting: str, says: tuple[str, ...]
) -> None:
    outcome = command(train.main, world.words(setting))
    assert outcome.status != 0
    assert all(word in outcome.err for word in says)
    assert "Traceback" not in outcome.err
    assert world.store.records() == {}


def test_text_without_a_path_is_told_so(world: Any, command: Callable[..., Any]) -> None:
    outcome = command(train.main, [word for word in world.words() if not word.startswith("data.path=")])
    assert outcome.status == 2
    assert "data.path" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_ctrl_c_says_how_to_go_on(world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original = LanguageModelling.training_step

    def struck(task: LanguageModelling, batch: Any, index: int) -> Any:
        if task.global_step == 6:
            signal.raise_signal(signal.SIGINT)
        return original(task, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck)
        outcome = command(train.main, world.words())
    assert outcome.status == 130
    assert outcome.err.splitlines()[-1] == "interrupted; the same command resumes from the last checkpoint"
    assert is_quiet(outcome)
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    assert command(train.main, world.words()).status == 0
    assert world.run(record).read()["status"] == "finished"


def test_taken_run_is_told_so(world: Any, command: Callable[..., Any]) -> None:
    record = world.train()
    world.run(record).write(record | {"status": "running"})
    with world.run(record).claim():
        outcome = command(train.main, world.words())
    assert "is being trained by another process" in outcome.out + outcome.err
    assert is_quiet(outcome)
    assert world.run(record).read()["status"] == "running"


@pytest.mark.parametrize("steps", [8, 1])
def test_diverged_run_is_one_line(world: Any, command: Callable[..., Any], steps: int) -> None:
    """After one step only the evaluation sees what became of the weights."""
    words = world.words(
        "scale.learning_rate=1e30", "scale.warmup_steps=0", f"scale.steps={steps}", "scale.evaluate_every=1"
    )
    outcome = command(train.main, words)
    (record,) = world.store.records().values()
    assert outcome.err.startswith(f"error: run {record['id']} failed at step 1: ")
    assert len(outcome.err.splitlines()) == 1
    assert "retry_failed=true" in outcome.err


@pytest.mark.filterwarnings("ignore:'diffmamba.train' found in sys.modules:RuntimeWarning")
def test_multirun_goes_on_after_a_failed_cell_and_ends_with_status_1(world: Any, command: Callable[..., Any]) -> None:
    words = world.words("optimizer.learning_rate=1e30,1e-2", "optimizer.warmup_steps=0", "scale.length=16,0", "seed=5")
    outcome = command(lambda: runpy.run_module("diffmamba.train", run_name="__main__"), ["-m", *words])
    assert outcome.status == 1
    statuses = {r["config"]["optimizer"]["learning_rate"]: r["status"] for r in world.store.records().values()}
    assert statuses == {1e30: "failed", 1e-2: "finished"}
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(outcome.err.splitlines()) == 3  # one diverged, and two settings that cannot be
    assert "failed at step 1" in errors[0]
    assert "data.length" in errors[1]
    assert "test PPL" in outcome.out
    assert is_quiet(outcome)


def test_run_store_and_paths_are_where_the_user_stands(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Path = world.folder / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    assert command(train.main, world.words("runs=mine", "data.path=../story.txt")).status == 0
    assert len(RunStore(place / "mine").records()) == 1
    assert [path.name for path in place.iterdir()] == ["mine"]
