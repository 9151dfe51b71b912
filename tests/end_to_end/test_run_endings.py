"""A training is finished after its whole budget, evaluated there; if it ended otherwise, its record says how."""

import pytest
import torch
from lightning.pytorch import Callback

from diffmamba.errors import SettingError
from diffmamba.tasks import LanguageModelling

STOP = (
    "callbacks=early_stopping",
    *("callbacks.early_stopping.patience=1", "scale.steps=24", "callbacks.early_stopping.min_delta=100"),
)
"""No evaluation is better by 100 than the one before, so the second is the last."""


class Ends(Callback):
    """Ends a training at a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop |= trainer.global_step >= self.step


class Counts(Callback):
    """Counts steps, and keeps the count with the checkpoint."""

    seen = 0

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *_):
        self.steps += 1
        Counts.seen = self.steps

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def callback(kind, *arguments):
    return [f"+callbacks.own._target_={__name__}.{kind.__name__}", *(f"+callbacks.own.{word}" for word in arguments)]


def test_a_run_that_early_stopping_ends_is_stopped(world, command):
    outcome = command("train", world.words(*STOP))
    assert (outcome.status, outcome.err) == (0, "")
    (record,) = world.store.records().values()
    assert (record["status"], record["stopped"]) == ("stopped", {"step": 8, "by": "EarlyStopping"})
    assert (record["progress"], record["error"]) == ({"step": 8, "steps": 24}, None)
    assert [entry["step"] for entry in record["evaluations"]] == [4, 8]
    assert record["finished"] is not None
    assert torch.load(world.run(record).last_checkpoint, weights_only=True)["global_step"] == 8


def test_a_stopped_run_is_never_trained_again(world, monkeypatch):
    record = world.train(*STOP)
    before = world.contents()
    monkeypatch.setattr(LanguageModelling, "training_step", None)  # would fail if anything were trained
    assert world.train(*STOP) == world.train(*STOP, "retry=failed") == record
    assert world.contents() == before


def test_callbacks_go_on_where_they_were(world):
    """The wait of early stopping, also if its end was not recorded any more; and the state of one's own."""
    whole = world.train(*STOP, f"runs={world.folder}/whole")
    world.interrupted(6, *STOP)
    record = world.train(*STOP)
    for key in ("status", "stopped", "evaluations", "progress"):
        assert record[key] == whole[key]
    run = world.run(record)
    run.write(record | {"status": "running", "finished": None, "stopped": None, "evaluations": []})
    again = world.train(*STOP)
    for key in ("status", "stopped", "evaluations", "progress"):
        assert again[key] == whole[key]
    world.interrupted(7, *callback(Counts))
    assert world.train(*callback(Counts))["status"] == "finished"
    assert Counts.seen == 12


def test_the_callback_that_ended_a_run_is_named(world):
    record = world.train(*STOP, *callback(Ends, "step=6"))
    assert (record["status"], record["stopped"]) == ("stopped", {"step": 6, "by": "Ends"})
    assert [entry["step"] for entry in record["evaluations"]] == [4, 6]


def test_a_callback_that_does_not_end_a_run_leaves_it_finished(world):
    record = world.train("callbacks=early_stopping", *callback(Ends, "step=12"))
    assert record["status"] == "finished"
    assert "stopped" not in record


def ends_without_a_word(task, batch, index):
    task.trainer.should_stop |= task.global_step == 5
    return original(task, batch, index)


def evaluates_one_window(task, batch, index):
    task.trainer.fit_loop.epoch_loop.val_loop._max_batches = [1, 1]
    return original(task, batch, index)


original = LanguageModelling.training_step


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (ends_without_a_word, "ended at step 6 of 12, and its last whole evaluation is of step 6"),
        (evaluates_one_window, "ended at step 12 of 12, and its last whole evaluation is of step 0"),
    ],
)
def test_whatever_else_returns_early_is_failed(world, monkeypatch, step, says):
    monkeypatch.setattr(LanguageModelling, "training_step", step)
    record = world.train()
    assert (record["status"], record["error"]["type"]) == ("failed", "EndedEarlyError")
    assert says in record["error"]["message"]


def test_callbacks_name_a_run_and_none_of_them_leaves_its_name(world):
    plain = world.work().identity()
    assert world.work("callbacks=none").identity() == plain
    one, two = callback(Ends, "step=6"), callback(Ends, "step=7")
    stop = "callbacks=early_stopping"
    names = [world.work(*words).identity() for words in ([], [stop], one, two, [stop, *one])]
    assert len({*names}) == len(names)
    same = world.work(stop, "callbacks.early_stopping.patience=3", "+callbacks.early_stopping.strict=true").identity()
    assert same == names[1]  # their defaults


def test_the_order_of_callbacks_counts(world):
    nodes = [f"{name}: {{_target_: {__name__}.Ends, step: {step}}}" for name, step in (("a", 6), ("b", 7))]
    names = [world.work(f"+callbacks={{{', '.join(order)}}}").identity() for order in (nodes, nodes[::-1])]
    assert names[0] != names[1]


def test_a_callback_that_monitors_nothing_is_refused_before_anything_is_written(world):
    with pytest.raises(
        SettingError, match=r"^callbacks\.early_stopping\.monitor=val/los is not known; use one of val/"
    ):
        world.train("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/los")
    assert not world.store.directory.exists()


class Shortens(Callback):
    """Changes what Lightning knows of the budget."""

    def on_train_start(self, trainer, pl_module):
        trainer.fit_loop.epoch_loop.max_steps = 8


def test_a_budget_that_a_callback_has_shortened_is_not_finished(world):
    target = f"{Shortens.__module__}.{Shortens.__qualname__}"
    record = world.train(f"+callbacks.shortens._target_={target}")
    assert (record["status"], record["progress"]) == ("failed", {"step": 8, "steps": 12})
