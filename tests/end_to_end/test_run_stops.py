"""A training that is asked to stop ends after its step, and goes on bit for bit from any step."""

import os
import signal
from functools import cache

import pytest
import torch

from diffmamba.runs import stopping
from diffmamba.runs.checkpoint_files import read_whole
from diffmamba.runs.execution import execute
from diffmamba.runs.job import free_port
from diffmamba.tasks import LanguageModelling
from tests.end_to_end.whole_runs import BESIDE, SETTINGS, left_behind, words


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


def test_a_training_from_given_weights_goes_on_bit_for_bit(new_world, asked):
    """Its own checkpoint counts, not the weights that it began with."""
    world = new_world("given")
    start = world.train("scale.steps=2", "scale.evaluate_every=2", f"runs={world.folder / 'start'}")
    given = ("weights=run", f"weights.run={world.folder / 'start' / start['id']}", "scale.steps=4", "seed=1")
    given = ("trainer.log_every_n_steps=1", *given)
    whole = left_behind(world, world.train(*given, f"runs={world.folder / 'whole'}"))
    asked(every=1)
    record, stops = with_stops(world, *given)
    assert stops == [1, 2, 3, 4]
    assert left_behind(world, record) == whole


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

    def struck(content, *arguments, **named):
        if isinstance(content, dict) and content.get("global_step") == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        save(content, *arguments, **named)

    monkeypatch.setattr(torch, "save", struck)
    with stopping.listening():
        assert execute(world.work(), progress_bar=False)["status"] == "finished"
        assert stopping.requested() == signal.SIGTERM
