"""Checkpoints by time, the last few kept, and what is damaged, killed or full costs no more than a step or two."""

import os
import signal
import sys
import tempfile
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs import checkpoints
from diffmamba.runs.checkpoint_files import read_whole
from diffmamba.runs.execution import execute
from diffmamba.tasks import LanguageModelling
from tests.end_to_end.whole_runs import BESIDE, left_behind, words


@pytest.fixture(scope="module")
def undisturbed(new_world):
    world = new_world("undisturbed")
    return cache(lambda name: left_behind(world, world.train(*words(name))))


@pytest.mark.parametrize(("minutes", "written"), [("3", [3, 5, 5, 8, 10, 10, 12, 12]), ("null", [5, 10, 12])])
def test_checkpoints_by_time(world, monkeypatch, minutes, written):
    """Every step takes a minute. Half of the time is enough where an evaluation follows, which may be long."""
    clock, steps = SimpleNamespace(now=0.0), []
    original, replacing = LanguageModelling.training_step, atomic.replacing

    def step(task, batch, index):
        clock.now += 60
        return original(task, batch, index)

    def replaced(path, *before):
        if path.name == "last.ckpt":
            steps.append(round(clock.now / 60))
        return replacing(path, *before)

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


def test_a_damaged_best_checkpoint_disturbs_no_training(world, undisturbed):
    """Here every later evaluation is better."""
    run = interrupted(world)
    cut_short(run.checkpoint("best"))
    assert left_behind(world, world.train(*words(BESIDE))) == undisturbed(BESIDE)


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
