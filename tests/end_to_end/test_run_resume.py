"""A run that was interrupted and started again equals the one that was not, bit for bit."""

import json
import random
import shutil
import subprocess
import sys
from functools import cache

import pytest
import torch

from diffmamba import atomic
from diffmamba.tasks import LanguageModelling

TIMED = ("training_seconds", "seconds_before")

SETTINGS = {  # an epoch of the world's text has 10 batches
    "evaluations beside the epoch's end": ("scale.evaluate_every=4", "scale.steps=24"),
    "evaluations at the epoch's end": ("scale.evaluate_every=5", "scale.steps=25"),
    "evaluations once an epoch": ("scale.evaluate_every=null", "scale.steps=null", "scale.epochs=2"),
    "evaluations that do not divide the run": ("scale.evaluate_every=7", "scale.steps=24"),
    "gradients of two parts": ("scale.evaluate_every=4", "scale.steps=12", "trainer.accumulate_grad_batches=2"),
}
BESIDE = "evaluations beside the epoch's end"
STRIKES = [
    (BESIDE, (4,)),  # nothing done since the checkpoint
    (BESIDE, (10,)),  # the first step of an epoch
    (BESIDE, (2, 9, 9, 23)),  # time and again, first without any checkpoint
    ("evaluations at the epoch's end", (10,)),  # the checkpoint is that of the epoch's last step
    ("evaluations at the epoch's end", (12, 20)),
    ("evaluations once an epoch", (10, 19)),
    ("evaluations that do not divide the run", (23,)),
    ("gradients of two parts", (3, 5, 11)),
]
DROPOUT = "scale.dropout=0.3"


def trained(world, *settings):
    """All that a finished run leaves behind and that no clock has written, to the last bit."""
    record = world.train(DROPOUT, *settings)
    checkpoint = torch.load(world.run(record).last_checkpoint, weights_only=True)
    kept = {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")}
    for name, state in checkpoint["callbacks"].items():
        if "ModelCheckpoint" not in name:  # holds the store's path
            kept[name] = {key: value for key, value in state.items() if key not in TIMED}
    kept["data"] = checkpoint["LanguageModellingData"]
    kept |= {key: record[key] for key in ("status", "error", "progress", "parameters", "evaluations")}
    return json.loads(json.dumps(kept, default=lambda tensor: tensor.numpy().tobytes().hex()))


@pytest.fixture(scope="module")
def uninterrupted(new_world):
    """What each of the settings leaves behind if nothing happens."""
    world = new_world("uninterrupted")
    return cache(lambda name: trained(world, *SETTINGS[name]))


@pytest.mark.parametrize(("name", "strikes"), STRIKES)
def test_interrupted_run_ends_as_if_nothing_had_happened(world, name, strikes, uninterrupted):
    for step in strikes:
        record = world.interrupted(step, DROPOUT, *SETTINGS[name])
        assert (record["status"], record["error"]) == ("interrupted", None)
        assert world.run(record).read()["status"] == "interrupted"
        assert all(evaluation["step"] <= step for evaluation in record["evaluations"])
    resumed = trained(world, *SETTINGS[name])
    assert resumed["status"] == "finished"
    assert resumed == uninterrupted(name)


def test_resumed_run_trains_only_what_is_left(world, monkeypatch):
    world.interrupted(10)
    steps, training_step = [], LanguageModelling.training_step
    noted = lambda task, *batch: steps.append(task.global_step) or training_step(task, *batch)  # noqa: E731
    monkeypatch.setattr(LanguageModelling, "training_step", noted)
    assert world.train()["status"] == "finished"
    assert steps == [8, 9, 10, 11]


def test_interruption_while_evaluating_loses_only_that_evaluation(world, uninterrupted, monkeypatch):
    original = LanguageModelling.validation_step

    def interrupted(task, *batch):
        if task.global_step == 12:
            raise KeyboardInterrupt
        original(task, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelling, "validation_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.train(DROPOUT, *SETTINGS[BESIDE])
    (record,) = world.store.records().values()
    assert [evaluation["step"] for evaluation in record["evaluations"]] == [4, 8]
    assert trained(world, *SETTINGS[BESIDE]) == uninterrupted(BESIDE)


KILLED = """
import os, runpy
from diffmamba import atomic
from diffmamba.tasks import LanguageModelling

training_step = LanguageModelling.training_step

def killed(task, batch, index):
    if task.global_step == 17:
        os._exit(9)
    return training_step(task, batch, index)

LanguageModelling.training_step = killed
runpy.run_module("diffmamba.train", run_name="__main__", alter_sys=True)
"""


def test_killed_process_leaves_a_run_that_ends_as_if_nothing_had_happened(world, uninterrupted):
    words = world.words(DROPOUT, *SETTINGS[BESIDE], "logger=default")
    process = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, cwd=world.folder)
    assert process.returncode == 9
    assert process.stderr == ""  # neither Lightning nor W&B has anything to say
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    assert [evaluation["step"] for evaluation in record["evaluations"]] == [4, 8, 12, 16]
    assert trained(world, *SETTINGS[BESIDE]) == uninterrupted(BESIDE)


def test_seed_determines_the_result(world):
    first, again, other = trained(world), trained(world, f"runs={world.folder}/again"), trained(world, "seed=1")
    assert first == again
    assert first["state_dict"] != other["state_dict"]
    assert first["evaluations"] != other["evaluations"]


def rising(world):
    """A text on which the validation loss rises: the more is learnt of the start, the less is expected of the end."""
    letters = random.Random(0)
    start, end = ("".join(letters.choices(alphabet, k=k)) for alphabet, k in (("abcdef", 1350), ("uvwxyz", 150)))
    world.write_text(start + end)
    return ("scale.learning_rate=0.02", "scale.steps=24")


def test_a_run_whose_store_was_moved_keeps_its_best_checkpoint(world):
    settings = rising(world)
    whole = world.train(*settings, f"runs={world.folder}/whole")
    world.interrupted(18, *settings)
    shutil.move(world.store.directory, world.folder / "elsewhere")
    moved = world.train(*settings, f"runs={world.folder}/elsewhere")
    assert moved["evaluations"] == whole["evaluations"]
    losses = [entry["val/loss"] for entry in whole["evaluations"]]
    assert losses.index(min(losses)) < 3  # before it was moved
    steps = [torch.load(world.run(run).checkpoint("best"), weights_only=True)["global_step"] for run in (moved, whole)]
    assert steps == [whole["evaluations"][losses.index(min(losses))]["step"]] * 2


@pytest.mark.parametrize("part", ["loops", "LanguageModellingData", "RunRecorder", "RandomState"])
def test_a_checkpoint_without_a_state_is_not_gone_on_from(world, part):
    run = world.run(world.interrupted(9))
    content = torch.load(run.last_checkpoint, weights_only=True)
    del (content if part in content else content["callbacks"])[part]
    torch.save(content, run.last_checkpoint)
    record = world.train()
    assert (record["status"], record["error"]["type"]) == ("failed", "IncompleteCheckpointError")
    assert part in record["error"]["message"]
    assert record["error"]["step"] == 0


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_every_strategy_writes_its_checkpoints_beside_the_old_ones(world, monkeypatch, strategy):
    written, replacing = [], atomic.replacing
    monkeypatch.setattr(atomic, "replacing", lambda path, *more: written.append(path) or replacing(path, *more))
    record = world.train(f"trainer.strategy={strategy}")
    checkpoints = [path for path in written if path.suffix == ".ckpt"]
    assert {*checkpoints} == {world.run(record).checkpoint("last"), world.run(record).checkpoint("best")}
    assert checkpoints.count(world.run(record).last_checkpoint) == 3


def test_what_a_killed_writer_left_is_removed_when_the_run_goes_on(world):
    run = world.run(world.interrupted(9))
    leftovers = [run.directory / ".result.json.1a2b3c4d.new", run.directory / "checkpoints" / ".last.ckpt.0.new"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    assert world.train()["status"] == "finished"
    assert not any(leftover.exists() for leftover in leftovers)
