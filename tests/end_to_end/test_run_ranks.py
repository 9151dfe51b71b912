"""A run on several devices is the run on one: the same steps, one record, and the end of one rank is the end of all."""

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from diffmamba.data.streams import IGNORED
from diffmamba.runs import RunStore, processes
from diffmamba.tasks import LanguageModelling
from tests.end_to_end.stopped_calls import Call, Start

TWO = ("trainer.devices=2", "trainer.strategy=ddp")
OF_TASK = ("SLURM_PROCID", "SLURM_LOCALID")
LOGGED = "trainer.log_every_n_steps=1"


def losses(world, record):
    """The training loss of every step, as the run has logged it, in one session or more."""
    logs = sorted(world.run(record).directory.glob("csv/metrics.csv"))
    rows = [row for log in logs for row in csv.DictReader(log.read_text().splitlines()) if row["train/loss"]]
    return list({int(row["step"]): float(row["train/loss"]) for row in rows}.values())


def assert_same_run(world, one, other):
    assert other["status"] == one["status"] == "finished", other["error"]
    assert len(losses(world, one)) == 12
    assert losses(world, other) == pytest.approx(losses(world, one), rel=1e-5)
    for mine, its in zip(other["evaluations"], one["evaluations"], strict=True):
        assert mine == pytest.approx(its, rel=1e-5)
    assert other["parameters"] == one["parameters"]
    weights = [torch.load(world.run(run).last_checkpoint, weights_only=True)["state_dict"] for run in (other, one)]
    torch.testing.assert_close(*map(dict, weights), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def alone(new_world):
    world = new_world("alone")
    return world, world.train(LOGGED, "scale.eval_windows=5")


def again(world, name, *settings):
    return world.train(LOGGED, "scale.eval_windows=5", f"runs={world.folder / name}", *settings)


class SomeTargets(LanguageModelling):
    """Trains on the windows that begin with every second symbol of the alphabet, so ranks have unequal targets."""

    def loss(self, batch, split):
        inputs, targets = batch
        left_out = (inputs[:, :1] % 2 == 0) if split == "train" else torch.tensor(False)
        return super().loss((inputs, targets.masked_fill(left_out, IGNORED)), split)


MASKED = f"task._target_={__name__}.SomeTargets"


@pytest.fixture(scope="module")
def masked(alone):
    return again(alone[0], "masked", MASKED)


def test_weights_divided_among_two_processes_train_as_whole_ones(alone, masked):
    """Also with unequal numbers of targets, and of windows to evaluate: of 5, one rank has one more than the other."""
    divided = again(alone[0], "fsdp", MASKED, TWO[0], "trainer.strategy=fsdp")
    assert_same_run(alone[0], masked, divided)
    assert divided["hardware"]["devices"] == 2
    assert divided["id"] == masked["id"] != alone[1]["id"]


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_train_as_the_whole_batch(alone, parts):
    world, record = alone
    assert_same_run(world, record, again(world, f"parts{parts}", f"trainer.accumulate_grad_batches={parts}"))


def test_two_ranks_of_torchrun_go_on_with_a_run_of_one_process(alone, masked):
    """They take the steps that one process would have taken."""
    world, _ = alone
    settings = (LOGGED, "scale.eval_windows=5", f"runs={world.folder / 'moved'}", MASKED)
    world.interrupted(5, *settings)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "diffmamba.train"]
    command = [*torchrun, *world.words(*settings, *TWO)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" after 12 steps") == 1
    assert "goes on from the last checkpoint, step 4" in done.stdout
    (moved,) = RunStore(world.folder / "moved").records().values()
    assert [entry["step"] for entry in moved["evaluations"]] == [4, 8, 12]
    assert_same_run(world, masked, moved)
    assert moved["id"] == masked["id"]


def test_two_tasks_of_srun_are_the_ranks_of_a_run(alone, tmp_path):
    """As srun starts them: each says in its environment which one it is, and nobody says where to meet."""
    world, record = alone
    settings = (LOGGED, "scale.eval_windows=5", f"runs={world.folder / 'srun'}", *TWO)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost"}
    job |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}
    tasks = [
        Call(Start(world.words(*settings), environment={**job, **dict.fromkeys(OF_TASK, task)}), [], tmp_path)
        for task in ("0", "1")
    ]
    assert [task.wait() for task in tasks] == [False, False]
    assert [task.status for task in tasks] == [0, 0], [task.said for task in tasks]
    assert [task.said.count(" after 12 steps") for task in tasks] == [1, 0]
    (found,) = RunStore(world.folder / "srun").records().values()
    assert_same_run(world, record, found)


def test_a_script_in_an_allocation_of_several_tasks_is_one_process(world, command, monkeypatch):
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "LOCAL_RANK": "0"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    outcome = command("train", world.words("trainer.strategy=ddp"))
    assert outcome.status == 0, outcome
    (record,) = world.store.records().values()
    assert (record["status"], record["hardware"]["devices"]) == ("finished", 1)


def test_a_rank_that_torchrun_starts_waits_for_the_first_one(world, monkeypatch):
    """What the first rank decides, without a second process: that it is asked, and that its answer is taken."""
    asked = []
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "_connect", lambda: asked.append(processes.rank()))
    answer = {"status": "finished", "id": 7}
    monkeypatch.setattr(processes.distributed, "broadcast_object_list", lambda asked, src: asked.__setitem__(0, answer))
    assert world.train() == answer
    assert asked == [1]
    assert not world.store.directory.exists()


def test_failing_rank_is_recorded_and_ends_the_others(world, forked_ranks):
    record = world.train(*TWO, "optimizer.learning_rate=1e30", "optimizer.warmup_steps=0")
    assert (record["status"], record["error"]["type"]) == ("failed", "NonFiniteLossError")
    assert record["error"]["step"] > 0


def test_ctrl_c_ends_all_ranks_after_one_step_which_drew_different_dropout(world, command, until, forked_ranks):
    def strike():
        try:
            until(lambda: list(world.store.directory.glob("*/progress.json")))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    striker, rare = threading.Thread(target=strike), ("scale.evaluate_every=100000", "checkpoint.every_minutes=null")
    striker.start()
    outcome = command("train", world.words(*TWO, "scale.steps=100000", *rare, "scale.dropout=0.5"))
    striker.join()
    assert outcome.status == 130, outcome
    assert "a training from its last checkpoint" in outcome.err
    assert multiprocessing.active_children() == []
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    saved = torch.load(world.run(record).last_checkpoint, weights_only=True)["callbacks"]
    (states,) = (state["ranks"] for name, state in saved.items() if name.startswith("RandomState"))
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])
