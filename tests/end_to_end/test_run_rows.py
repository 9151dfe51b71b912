"""Every row of a training is logged once, whatever interrupted it: the rows are those of the uninterrupted run."""

import csv
import json
import os

import pytest
from test_run_loggers import values, wandb_run  # noqa: F401

from diffmamba.runs.rows import Rows
from diffmamba.tasks import LanguageModelling

LOGGED = ("logger=default", "trainer.log_every_n_steps=1", "scale.steps=24", "scale.dropout=0.2")
TIMED = ("train/tokens_per_second", "seconds", "memory_gb", "_timestamp", "_runtime", "_step")


def kill(world, step, forked):
    training_step = LanguageModelling.training_step

    def killed(task, batch, index):
        if task.global_step == step:
            os._exit(9)
        return training_step(task, batch, index)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", killed)
        assert forked("train", world.words(*LOGGED), environment={"WANDB_SERVICE": None}).status == 9


def in_csv(world, record):
    (file,) = world.run(record).directory.rglob("*.csv")
    assert file.relative_to(world.run(record).directory).as_posix() == "csv/metrics.csv"
    rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file.open())]
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows]


def in_wandb(world, record):
    rows = [dict(row) for row in wandb_run(world.run(record).directory).history]
    for row in rows:
        row["step"] = row.pop("trainer/global_step")
    kept = [{name: value for name, value in row.items() if name not in TIMED} for row in rows]
    return sorted(kept, key=lambda row: (row["step"], "val/loss" in row))


@pytest.fixture(scope="module")
def whole(new_world):
    world = new_world("whole")
    record = world.train(*LOGGED)
    return world, record, in_csv(world, record)


def test_rows_are_of_every_step_and_every_evaluation(whole):
    world, record, rows = whole
    assert in_wandb(world, record) == rows
    training = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in training] == list(range(24))
    assert [row["epoch"] for row in training] == [step // 10 for step in range(24)]
    evaluations = [row for row in rows if "val/loss" in row]
    assert [row["step"] for row in evaluations] == [3, 7, 11, 15, 19, 23]
    assert [row["val/loss"] for row in evaluations] == [entry["val/loss"] for entry in record["evaluations"]]
    assert len(rows) == 24 + 6


@pytest.mark.parametrize("strikes", [(2,), (10,), (9, 14), (11, 11, 12, 23)])
def test_rows_of_an_interrupted_run_are_those_of_the_whole_one(whole, world, strikes):
    for step in strikes:
        world.interrupted(step, *LOGGED)
    record = world.train(*LOGGED)
    assert in_csv(world, record) == whole[2]
    assert in_wandb(world, record) == whole[2]


def test_rows_of_a_killed_run_are_those_of_the_whole_one(whole, world, forked):
    kill(world, 6, forked)
    kill(world, 15, forked)
    record = world.train(*LOGGED)
    assert in_csv(world, record) == whole[2]
    assert in_wandb(world, record) == whole[2]


def test_the_learning_rate_of_a_row_is_that_of_its_step(whole):
    """Two steps of warm-up, then the cosine over 24."""
    world, _, rows = whole
    optimizer = world.work(*LOGGED).optimizer
    from diffmamba.tasks.optimization import warmup_cosine

    expected = [optimizer.learning_rate * warmup_cosine(step, 2, 24) for step in range(24)]
    found = [row["train/learning_rate"] for row in rows if "train/loss" in row]
    assert found == pytest.approx(expected)


def test_the_step_that_a_run_goes_on_from_is_that_of_its_checkpoint(world, caplog):
    record = world.interrupted(10)
    run = world.run(record)
    later = {**record["evaluations"][-1], "step": 11}
    run.write(run.read() | {"evaluations": [*record["evaluations"], later]})  # as after a kill before the checkpoint
    with caplog.at_level("INFO"):
        world.train()
    assert "goes on from the last checkpoint, step 8" in caplog.text


def test_a_line_that_a_killed_process_left_unfinished_is_dropped(tmp_path):
    rows = Rows(tmp_path / "metrics.csv")
    for step in range(3):
        rows.add({"step": step, "loss": step / 3}, lasting=False)
    with rows.path.open("a") as file:
        file.write("0.333")
    again = Rows(rows.path)
    assert again.go_on(2) == {(2, frozenset({"step", "loss"}))}
    again.add({"step": 2, "loss": 0.5, "val": 1.0}, lasting=True)
    lines = list(csv.DictReader(rows.path.open()))
    assert [json.loads(line["loss"]) for line in lines] == [0.0, 1 / 3, 0.5]
    assert [line["val"] for line in lines] == ["", "", "1.0"]


def test_a_run_whose_rows_cannot_be_written_goes_on(world, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Rows, "add", full)
    assert world.train("trainer.log_every_n_steps=1")["status"] == "finished"
    assert caplog.text.count("No space left on device") == 1
    assert LanguageModelling.version == 1
