"""A training that is asked to stop ends after its step, and goes on bit for bit from any step."""

import csv
import json
import os
import signal
import sys
import tempfile
from functools import cache
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs import checkpoints, stopping
from diffmamba.runs.checkpoint_files import read_whole
from diffmamba.runs.execution import execute
from diffmamba.runs.job import free_port
from diffmamba.tasks import LanguageModelling

TIMED = ("training_seconds", "seconds_before", "train/tokens_per_second")
PLACES = ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path", "best_k_models")
KEPT = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "global_step",
    "epoch",
    "callbacks",
    "LanguageModellingData",
    "loops",
)


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
        return {key: _without_times(value) for key, value in node.items() if key not in (*TIMED, *PLACES)}
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
            stops.append(read_whole(world.run(record).last_checkpoint)["global_step"])
            assert record["progress"]["step"] == stops[-1]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_is_stopped_after_every_step_ends_as_if_nothing_had_happened(
    world, asked, undisturbed, capfd, name
):
    sent = asked(every=1)
    record, stops = with_stops(world, *words(name))
    assert stops == [step + 1 for step in sorted(sent)]
    assert len(stops) == record["progress"]["step"]
    assert record["status"] == ("stopped" if name == "ended early" else "finished")
    assert left_behind(world, record) == undisturbed(name)
    assert capfd.readouterr().err.count(stopping.SAID) == len(stops)


def in_two_ranks(world, *settings):
    """The exit statuses of two ranks of one training, each a process forked from this one."""
    work, pids = world.work(*settings, "trainer.devices=2", "trainer.strategy=ddp"), []
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for rank in ("0", "1"):
        if (pid := os.fork()) == 0:
            status = 1
            try:
                signal.alarm(120)  # ends one that waits for the other forever
                os.environ |= job | {"RANK": rank, "LOCAL_RANK": rank}
                with stopping.listening():
                    execute(work, progress_bar=False)
                status = 0
            except KeyboardInterrupt:
                status = stopping.INTERRUPTED
            finally:
                os._exit(status)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def test_two_ranks_of_which_one_is_asked_to_stop_end_after_the_same_step(new_world, monkeypatch):
    settings, original = (*words("gradients of two parts"), "scale.steps=8"), LanguageModelling.training_step
    whole, stopped = new_world("whole"), new_world("stopped")
    assert in_two_ranks(whole, *settings) == [0, 0]

    def step(task, batch, index):
        if (task.global_step, os.environ["RANK"]) in {(1, "1"), (5, "0")} and index % 2:
            os.kill(os.getpid(), signal.SIGUSR2)
        return original(task, batch, index)

    monkeypatch.setattr(LanguageModelling, "training_step", step)
    for done in (2, 6):  # an evaluation is due after the sixth step
        assert in_two_ranks(stopped, *settings) == [stopping.INTERRUPTED] * 2
        (record,) = stopped.store.records().values()
        assert (record["status"], record["progress"]["step"]) == ("interrupted", done)
    assert in_two_ranks(stopped, *settings) == [0, 0]
    left = [left_behind(world, *world.store.records().values()) for world in (stopped, whole)]
    assert left[0] == left[1]


BESIDE = "evaluations beside the epoch's end"


@pytest.mark.parametrize(("minutes", "written"), [("3", [3, 5, 5, 8, 10, 10, 12, 12]), ("null", [5, 10, 12])])
def test_checkpoints_by_time(world, monkeypatch, minutes, written):
    """Every step takes a minute. Half of the time is enough where an evaluation follows, which may be long."""
    clock, steps = SimpleNamespace(now=0.0), []
    original, replacing = LanguageModelling.training_step, atomic.replacing

    def step(task, batch, index):
        clock.now += 60
        return original(task, batch, index)

    def replaced(path):
        if path.name == "last.ckpt":
            steps.append(round(clock.now / 60))
        return replacing(path)

    monkeypatch.setattr(LanguageModelling, "training_step", step)
    monkeypatch.setattr(atomic, "replacing", replaced)
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # nothing goes through the system's temporary folder
    world.train(f"checkpoint.every_minutes={minutes}", "scale.evaluate_every=5")
    assert steps == written


def interrupted(world, *settings):
    """A run whose last three checkpoints are of the steps 7, 8 (the evaluation's) and 9."""
    often = ("checkpoint.every_minutes=1e-9", *words(BESIDE), *settings)
    return world.run(world.interrupted(9, *often))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def one_bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGE = [cut_short, one_bit_flipped, empty]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(world, undisturbed, caplog, damage):
    run = interrupted(world)
    assert sorted(path.name for path in run.last_checkpoint.parent.iterdir()) == [
        "best.ckpt",
        "last.1.ckpt",
        "last.ckpt",
    ]
    damage(run.last_checkpoint)
    content = run.last_checkpoint.read_bytes()
    with caplog.at_level("INFO"):
        record = world.train(*words(BESIDE))
    (line,) = [line for line in caplog.messages if "the run goes on from the checkpoint before it" in line]
    assert line.startswith(f"{run.last_checkpoint} is damaged, and is now last.ckpt.damaged-1;")
    assert "goes on from the last checkpoint, step 8" in caplog.text
    aside = run.last_checkpoint.with_name("last.ckpt.damaged-1")
    assert aside.read_bytes() == content
    aside.unlink()
    assert left_behind(world, record) == undisturbed(BESIDE)


def test_a_missing_checkpoint_falls_back_to_the_one_before(world, caplog):
    run = interrupted(world)
    run.last_checkpoint.unlink()
    world.train(*words(BESIDE))
    assert f"{run.last_checkpoint} is missing; the run goes on from the checkpoint before it" in caplog.text


def test_where_no_checkpoint_can_be_read_nothing_is_renamed(world):
    run = interrupted(world, "checkpoint.keep=3")
    states = sorted(run.last_checkpoint.parent.glob("last*.ckpt"))
    assert [path.name for path in states] == ["last.1.ckpt", "last.2.ckpt", "last.ckpt"]
    for path in states:
        cut_short(path)
    contents = world.contents()
    with pytest.raises(SettingError, match=f"^{run.last_checkpoint} is not a readable checkpoint"):
        world.train(*words(BESIDE))
    assert world.contents() == contents


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_states_are_kept_while_a_run_is_under_way(world, keep):
    run = interrupted(world, f"checkpoint.keep={keep}")
    names = ["last.ckpt", "last.1.ckpt", "last.2.ckpt"]
    found = [read_whole(run.last_checkpoint.with_name(name))["global_step"] for name in names[:keep]]
    assert found == [9, 8, 8][:keep]  # before the evaluation of step 8 and after it
    assert len(list(run.last_checkpoint.parent.glob("last*.ckpt"))) == keep


def killed(world, touch, settings):
    """Trains in a process of its own, which kills itself before so many touches of a checkpoint's file.

    Returns whether it was killed.
    """
    work = world.work(*settings)
    if (pid := os.fork()) == 0:
        count = 0

        def touched(event, arguments):
            nonlocal count
            if event in ("open", "os.rename", "os.remove") and ".ckpt" in str(arguments[0]) and arguments[1] != "r":
                count += 1
                if count == touch:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(touched)
        try:
            execute(work, progress_bar=False)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_process_killed_before_any_write_or_rename_of_a_checkpoint_loses_nothing(world, undisturbed):
    settings = ("checkpoint.every_minutes=1e-9", "checkpoint.keep=3", *words("evaluations at the epoch's end"))
    touch, before = 1, 0
    while killed(world, touch, settings):
        touch += 1
        states = list(world.store.directory.glob("*/checkpoints/last*.ckpt"))
        newest = max((read_whole(path)["global_step"] for path in states), default=0)
        assert newest >= before
        before = newest
    assert touch > 10
    (record,) = world.store.records().values()
    assert left_behind(world, record) == undisturbed("evaluations at the epoch's end")


def test_a_full_disk_leaves_the_checkpoint_whole_and_nothing_else(world, monkeypatch):
    run, save = interrupted(world), torch.save

    def full(content, file):
        save({"half": torch.ones(1000)}, file)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        record = world.train("checkpoint.every_minutes=1e-9", *words(BESIDE))
    assert (record["status"], record["error"]["type"], record["error"]["again"]) == ("failed", "OSError", True)
    assert str(run.last_checkpoint) in record["error"]["message"]
    assert read_whole(run.last_checkpoint)["global_step"] == 9
    names = sorted(path.name for path in run.last_checkpoint.parent.iterdir())
    assert names == ["best.ckpt", "last.1.ckpt", "last.ckpt"]


def test_a_second_signal_stops_in_the_middle_of_a_step(world, monkeypatch):
    original = LanguageModelling.training_step

    def endless(task, batch, index):
        for number in (signal.SIGTERM, signal.SIGINT) if task.global_step == 5 else ():
            os.kill(os.getpid(), number)
        assert task.global_step < 6
        return original(task, batch, index)

    monkeypatch.setattr(LanguageModelling, "training_step", endless)
    monkeypatch.setattr(stopping, "ONE_PRESS_SECONDS", 0.0)
    with stopping.listening():
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            execute(world.work(), progress_bar=False)
        assert signal.getsignal(signal.SIGINT) == handler  # which Lightning has replaced
        with pytest.raises(KeyboardInterrupt):
            execute(world.work("seed=1"), progress_bar=False)  # nothing new begins
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    assert read_whole(world.run(record).last_checkpoint)["global_step"] == 4


def test_an_evaluation_is_stopped_at_once(world, undisturbed, monkeypatch):
    original, seen = LanguageModelling.validation_step, []

    def struck(task, *batch):
        seen.append(task.global_step)
        if seen[-1] == 8:
            os.kill(os.getpid(), signal.SIGUSR1)
        original(task, *batch)

    with monkeypatch.context() as patched, stopping.listening():
        patched.setattr(LanguageModelling, "validation_step", struck)
        with pytest.raises(KeyboardInterrupt):
            execute(world.work(*words(BESIDE)), progress_bar=False)
    assert seen.count(8) == 1 < seen.count(4)
    (record,) = world.store.records().values()
    assert [entry["step"] for entry in record["evaluations"]] == [4]
    assert left_behind(world, world.train(*words(BESIDE))) == undisturbed(BESIDE)


def test_a_training_that_has_ended_is_not_interrupted_any_more(world, monkeypatch):
    """The signal comes while the checkpoint of its last step is written."""
    save = torch.save

    def struck(content, file):
        if content["global_step"] == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        save(content, file)

    monkeypatch.setattr(torch, "save", struck)
    with stopping.listening():
        assert execute(world.work(), progress_bar=False)["status"] == "finished"
        assert stopping.requested() == signal.SIGTERM
