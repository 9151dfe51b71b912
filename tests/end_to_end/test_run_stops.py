"""A training that is asked to stop ends after its step, and goes on bit for bit from any step."""

import csv
import json
import os
import signal
from functools import cache

import lightning as L
import pytest
import torch

from diffmamba.runs import stopping
from diffmamba.runs.execution import execute
from diffmamba.tasks import LanguageModelling

TIMED = (
    "training_seconds",
    "seconds_before",
    "train/tokens_per_second",
    "dirpath",
    "best_model_path",
    "last_model_path",
)
KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "callbacks", "LanguageModellingData", "loops")


class Counted(L.Callback):
    """Counts every hook that a callback may have, in its state."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def state_dict(self):
        return dict(self.counts)

    def load_state_dict(self, state):
        self.counts = dict(state)


def _counting(name):
    def hook(callback, *_):
        callback.counts[name] = callback.counts.get(name, 0) + 1

    return hook


for _when in ("epoch_start", "epoch_end", "batch_start", "batch_end"):
    for _what in ("train", "validation"):
        if (_name := f"on_{_what}_{_when}") not in ("on_validation_batch_start", "on_validation_batch_end"):
            setattr(Counted, _name, _counting(_name))
Counted.on_validation_start, Counted.on_validation_end = _counting("start"), _counting("end")

EARLY = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, mode: max, patience: 1}"
COUNTED = f"+callbacks.counted={{_target_: {__name__}.Counted}}"
SETTINGS = {  # an epoch of the world's text has 10 steps
    "evaluations beside the epoch's end": ("scale.evaluate_every=4", "scale.steps=22"),
    "evaluations at the epoch's end": ("scale.evaluate_every=5", "scale.steps=12"),
    "gradients of two parts": ("scale.evaluate_every=3", "scale.steps=11", "trainer.accumulate_grad_batches=2"),
    "epochs of one step": ("scale.evaluate_every=2", "scale.steps=5", "scale.batch_size=32", "scale.length=24"),
    "ended early": (
        "scale.evaluate_every=3",
        "scale.steps=22",
        "scale.learning_rate=0.05",
        f"+callbacks.early={EARLY}",
    ),
}


def left_behind(world, record):
    """All of a run that no clock has written, to the last bit."""
    run = world.run(record)
    kept = {key: record[key] for key in ("status", "error", "progress", "parameters", "evaluations")}
    kept["stopped"] = record.get("stopped")
    for name in ("last", "best"):
        content = torch.load(run.checkpoint(name), weights_only=True)
        kept[name] = {key: content[key] for key in KEPT}
    with (run.directory / "csv/metrics.csv").open() as file:
        kept["rows"] = list(csv.DictReader(file))
    kept["files"] = sorted(path.name for path in run.last_checkpoint.parent.iterdir())
    return json.loads(json.dumps(_without_times(kept), default=lambda tensor: tensor.numpy().tobytes().hex()))


def _without_times(node):
    if isinstance(node, dict):
        return {key: _without_times(value) for key, value in node.items() if key not in (*TIMED, "best_k_models")}
    return [_without_times(value) for value in node] if isinstance(node, list) else node


def words(name):
    return ("scale.dropout=0.3", "trainer.log_every_n_steps=1", COUNTED, *SETTINGS[name])


@pytest.fixture(scope="module")
def undisturbed(new_world):
    world = new_world("undisturbed")
    return cache(lambda name: left_behind(world, world.train(*words(name))))


@pytest.fixture
def asked(monkeypatch):
    """Sends this process a signal in the first part of every so many steps."""

    def ask(every, number=signal.SIGTERM):
        sent, original = set(), LanguageModelling.training_step

        def step(task, batch, index):
            loss = original(task, batch, index)
            if task.global_step % every == every - 1 and task.global_step not in sent:
                sent.add(task.global_step)
                os.kill(os.getpid(), number)
            return loss

        monkeypatch.setattr(LanguageModelling, "training_step", step)
        return sent

    return ask


def with_stops(world, *settings):
    """Trains a work until it has ended, however often it is asked to stop, and says after which steps it did."""
    work, stops = world.work(*settings), []
    while True:
        try:
            with stopping.listening():
                return execute(work, progress_bar=False), stops
        except KeyboardInterrupt:
            (record,) = world.store.records().values()
            assert (world.run(record).read()["status"], record["error"]) == ("interrupted", None)
            stops.append(torch.load(world.run(record).last_checkpoint, weights_only=True)["global_step"])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_is_stopped_after_every_step_ends_as_if_nothing_had_happened(
    world, asked, undisturbed, capfd, name
):
    sent = asked(every=1)
    record, stops = with_stops(world, *words(name))
    assert stops == [step + 1 for step in sorted(sent)]
    assert len(stops) == record["progress"]["step"]
    assert record["status"] == ("stopped" if name == "ended early" else "finished")
    import diffs; diffs.show(left_behind(world, record), undisturbed(name))
    assert left_behind(world, record) == undisturbed(name)
    assert capfd.readouterr().err.count(stopping.SAID) == len(stops)
