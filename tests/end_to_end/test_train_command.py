"""`diffmamba train`, as a user meets it: what it says of runs that end well, fail, are interrupted or taken."""

import math
import signal
from importlib import import_module

import pytest
from hydra.core.utils import run_job

from diffmamba.runs import RunStore
from diffmamba.runs.summary import objective
from diffmamba.tasks import LanguageModelling


def test_run_ends_with_its_figures_and_is_not_trained_twice(world, command):
    first = command("train", world.words())
    assert (first.status, first.quiet) == (0, True)
    (record,) = world.store.records().values()
    last = record["evaluations"][-1]
    (line,) = [line for line in first.out.splitlines() if record["id"] in line]
    assert f"test PPL {last['test/ppl']:.3f}, val PPL {last['val/ppl']:.3f} after 12 steps, " in line
    again = command("train", world.words())
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines() == [f"finished at {record['finished']}, not trained again", line]


def test_ctrl_c_says_how_to_go_on(world, command, monkeypatch):
    original = LanguageModelling.training_step

    def struck(task, batch, index):
        if task.global_step == 6:
            signal.raise_signal(signal.SIGINT)
        return original(task, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", struck)
        outcome = command("train", world.words())
    assert (outcome.status, outcome.quiet) == (130, True)
    assert outcome.err.splitlines()[-1] == "interrupted; the same command goes on, a training from its last checkpoint"
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    assert command("train", world.words()).status == 0
    assert world.run(record).read()["status"] == "finished"


def test_taken_run_is_told_so(world, command):
    record = world.train()
    world.run(record).write(record | {"status": "running"})
    with world.run(record).claim():
        outcome = command("train", world.words())
    assert "is worked on by another process" in outcome.out + outcome.err
    assert outcome.quiet
    assert world.run(record).read()["status"] == "running"


@pytest.mark.parametrize("steps", [8, 1])
def test_diverged_run_is_one_line(world, command, steps):
    """After one step only the evaluation sees what became of the weights."""
    settings = ("scale.learning_rate=1e30", "scale.warmup_steps=0", f"scale.steps={steps}", "scale.evaluate_every=1")
    outcome = command("train", world.words(*settings))
    (record,) = world.store.records().values()
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: run {record['id']} failed at step 1: ")
    assert "retry=failed" in line


def test_multirun_goes_on_after_a_failed_cell_and_ends_with_status_1(world, command):
    words = world.words("optimizer.learning_rate=1e30,1e-2", "optimizer.warmup_steps=0", "seed=5")
    outcome = command("train", ["-m", *words])
    assert (outcome.status, outcome.quiet) == (1, True)
    statuses = {r["config"]["optimizer"]["learning_rate"]: r["status"] for r in world.store.records().values()}
    assert statuses == {1e30: "failed", 1e-2: "finished"}
    (diverged,) = outcome.err.splitlines()
    assert "failed at step 1" in diverged
    assert "test PPL" in outcome.out


UNION = """# @package _global_
grid: rates
grids:
  rates: [{seed: 0}, {seed: 0, optimizer.learning_rate: "1e30,1e-2"}]
  wrong: [{seed: 0}, {model.headdim: 31}]
"""


@pytest.fixture
def union(world, monkeypatch):
    """A sweep that is a union of two small grids."""
    (world.folder / "own" / "sweeps").mkdir(parents=True)
    (world.folder / "own" / "sweeps" / "union.yaml").write_text(UNION)
    monkeypatch.setenv("DIFFMAMBA_CONF", str(world.folder / "own"))


def test_a_union_of_grids_is_one_multirun_of_all_its_items(world, command, union):
    words = world.words("sweeps=union", "model=mamba", "optimizer.warmup_steps=0")
    line = command("train", [*words, "grid=wrong"]).refusal()
    assert "headdim" in line
    assert "(in 1 of 2 cells, first model.headdim=31)" in line
    assert not world.store.directory.exists()
    outcome = command("train", words)
    assert (outcome.status, outcome.quiet) == (1, True)  # since one fails; the one after it is trained
    records = world.store.records().values()
    assert {(one["config"]["name"], one["status"]) for one in records} == {
        ("seed=0", "finished"),
        ("seed=0, optimizer.learning_rate=1e+30", "failed"),
        ("seed=0, optimizer.learning_rate=0.01", "finished"),
    }
    assert not any({"grid", "grids"} & set(one["config"]) for one in records)


TWO_SEEDS = "seed=0,1"
ONE_NORM = ("model.outer_norm=false", "model.lambda_form=scalar")
GRIDS = {
    "a cell that cannot be composed": ([TWO_SEEDS, "model=mamba,diff_mambo"], ["diff_mambo"]),
    "a part that cannot be built": ([TWO_SEEDS, "scale.steps=12,0"], ["scale.steps=0"]),
    "a network that cannot be built": ([TWO_SEEDS, "model.headdim=32,31"], ["headdim"]),
    "data that are too short": ([TWO_SEEDS, "data.batch_size=8,9000"], ["data.batch_size"]),
    "several": (
        ["model=mamba,diff_mambo", "model.headdim=32,31", "trainer.precision=32-true,9"],
        ["diff_mambo", "headdim", "trainer.precision=9"],
    ),
}


@pytest.mark.parametrize("name", ["train", "sweep"])
@pytest.mark.parametrize(("settings", "says"), GRIDS.values(), ids=GRIDS.keys())
def test_every_wrong_cell_of_a_grid_is_told_once_before_anything_is_trained(world, command, name, settings, says):
    words = ["-m", *world.words(*settings)]
    if name == "sweep":
        words = ["sweep=table2", *words[1:], "seed=0", "model=mamba", *ONE_NORM, *settings]
    outcome = command(name, words)
    assert (outcome.status, outcome.out, outcome.quiet) == (2, "", True)
    lines = outcome.err.splitlines()
    assert len(lines) == len(says)
    for text in says:
        (line,) = [line for line in lines if text in line.partition(" (in ")[0]]
        assert line.startswith("error: ")
        assert " cells, first " in line
        assert name == "sweep" or len(says) > 1 or " (in 2 of 4 cells, first " in line
    assert not world.store.directory.exists()


def test_what_is_wrong_with_every_cell_is_one_line(world, command):
    line = command("train", ["-m", *world.words("trainer.precision=9", TWO_SEEDS)]).refusal()
    assert "trainer.precision=9 must be one of 32-true" in line
    assert "cells" not in line


def test_a_grid_without_cells_is_refused(world, command):
    for name, words in (("train", ["-m"]), ("sweep", ["sweep=table2"])):
        assert "seed=range(3,3) has no values" in command(name, [*words, *world.words("seed=range(3,3)")]).refusal()


def test_run_store_and_paths_are_where_the_user_stands(world, command, monkeypatch):
    place = world.folder / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    assert command("train", world.words("runs=mine", "data.path=../story.txt")).status == 0
    assert len(RunStore(place / "mine").records()) == 1
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_a_grid_returns_the_headline_of_each_cell_as_a_number(world, command, monkeypatch):
    """What a sweeper such as Optuna is given: that of the val split, and the worst there is for a cell that failed."""
    returned = []

    def observed(*arguments, **named):
        job = run_job(*arguments, **named)
        returned.append(job.return_value)
        return job

    monkeypatch.setattr(import_module("hydra._internal.core_plugins.basic_launcher"), "run_job", observed)
    command("train", ["-m", *world.words("seed=0,1")])
    records = world.store.records()
    assert sorted(returned) == sorted(record["evaluations"][-1]["val/ppl"] for record in records.values())
    record = next(iter(records.values()))
    assert objective(record | {"status": "failed"}) == math.inf
    assert objective(record | {"evaluations": []}) is None


def test_one_run_of_a_sweep_has_what_its_file_says(world, command):
    one = ["sweeps=table2", "hydra.mode=RUN", "model=mamba", "model.outer_norm=true", "seed=42"]
    assert command("train", [*world.words(), *one]).status == 0
    (record,) = world.store.records().values()
    config = record["config"]
    assert (config["group"], config["model"]["name"], config["model"]["outer_norm"], config["seed"]) == (
        *("table2", "mamba"),
        *(True, 42),
    )


def test_one_run_of_a_sweep_takes_one_value_of_each_setting(world, command):
    line = command("train", [*world.words(), "sweeps=table2", "hydra.mode=RUN", "seed=0,1"]).refusal()
    assert "seed=0,1 has several values" in line
    assert not world.store.directory.exists()
