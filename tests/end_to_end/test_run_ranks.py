"""A run on several devices is the run on one: the same steps, one record, and the end of one rank is the end of all."""

import csv
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from diffmamba import ranks
from diffmamba.build import check
from diffmamba.errors import SettingError
from diffmamba.run import run
from diffmamba.runs import Record, RunStore

TWO = ("trainer.devices=2", "trainer.strategy=ddp")
LOGGED = "trainer.log_every_n_steps=1"


def losses(world: Any, record: Record) -> list[float]:
    """The training loss of every step, as the run has logged it."""
    (log,) = world.run(record).directory.glob("csv/*/metrics.csv")
    with log.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def weights(world: Any, record: Record) -> dict[str, torch.Tensor]:
    return torch.load(world.run(record).last_checkpoint, weights_only=True)["state_dict"]


def assert_same_run(world: Any, one: Record, other: Record) -> None:
    assert other["status"] == one["status"] == "finished", other["error"]
    assert len(losses(world, one)) == 12
    assert losses(world, other) == pytest.approx(losses(world, one), rel=1e-5)
    for mine, its in zip(other["evaluations"], one["evaluations"], strict=True):
        assert mine == pytest.approx(its, rel=1e-5)
    assert other["parameters"] == one["parameters"]
    theirs = weights(world, one)
    for name, weight in weights(world, other).items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(new_world: Any) -> tuple[Any, Record]:
    world = new_world("alone")
    return world, world.train(LOGGED, "scale.eval_windows=5")


def again(world: Any, name: str, *settings: str) -> Record:
    return world.train(LOGGED, "scale.eval_windows=5", f"runs={world.folder / name}", *settings)


def test_two_processes_train_as_one(alone: tuple[Any, Record]) -> None:
    world, record = alone
    divided = again(world, "ddp", *TWO)  # 5 windows to evaluate: one rank has one more than the other
    assert_same_run(world, record, divided)
    assert divided["hardware"]["devices"] == 2
    assert divided["id"] == record["id"]


def test_weights_divided_among_two_processes_train_as_whole_ones(alone: tuple[Any, Record]) -> None:
    world, record = alone
    assert_same_run(world, record, again(world, "fsdp", "trainer.devices=2", "trainer.strategy=fsdp"))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_train_as_the_whole_batch(alone: tuple[Any, Record], parts: int) -> None:
    world, record = alone
    assert_same_run(world, record, again(world, f"parts{parts}", f"trainer.accumulate_grad_batches={parts}"))


def test_ranks_of_torchrun_go_on_with_a_run_of_one_process(alone: tuple[Any, Record], interrupt_at: Any) -> None:
    world, record = alone
    interrupt_at(9)
    with pytest.raises(KeyboardInterrupt):
        again(world, "moved")
    interrupt_at(None)
    words = world.words(LOGGED, "scale.eval_windows=5", f"runs={world.folder / 'moved'}", *TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "diffmamba.train", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test PPL") == 1
    assert "goes on from the last checkpoint, step 8" in done.stdout
    (moved,) = RunStore(world.folder / "moved").records().values()
    assert (moved["id"], moved["status"]) == (record["id"], "finished")
    assert [entry["step"] for entry in moved["evaluations"]] == [4, 8, 12]
    for mine, its in zip(moved["evaluations"], record["evaluations"], strict=True):
        assert mine == pytest.approx(its, rel=1e-5)


def test_a_rank_that_torchrun_starts_waits_for_the_first_one(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first rank decides, without a second process: that it is asked, and that its answer is taken."""
    asked: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(ranks, "_connect", lambda: asked.append(ranks.rank()))
    monkeypatch.setattr(
        ranks.distributed, "broadcast_object_list", lambda answer, src: answer.__setitem__(0, {"id": 7})
    )
    assert run(world.config(), progress_bar=False) == {"id": 7}
    assert asked == [1]
    assert not world.store.directory.exists()


def test_failing_rank_is_recorded_and_ends_the_others(world: Any) -> None:
    record = world.train(*TWO, "optimizer.learning_rate=1e30", "optimizer.warmup_steps=0")
    assert record["status"] == "failed"
    assert record["error"]["type"] == "NonFiniteLossError"
    assert record["error"]["step"] > 0


def test_ctrl_c_ends_all_ranks_which_drew_different_dropout(world: Any) -> None:
    endless = world.words(*TWO, "scale.steps=100000", "scale.dropout=0.5")
    command = [sys.executable, "-m", "diffmamba.train", *endless]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        (record,) = world.store.records().values() or (None,)
        if record and record["evaluations"]:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=90)  # closes only when every process that shares it has ended
    assert process.returncode == 130, said
    assert "resumes from the last checkpoint" in said
    (record,) = world.store.records().values()
    assert record["status"] == "interrupted"
    saved = torch.load(world.run(record).last_checkpoint, weights_only=True)["callbacks"]
    (states,) = (state["ranks"] for name, state in saved.items() if name.startswith("RandomState"))
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("trainer.devices=3",), r"data\.batch_size is 8.*3 ranks; 6 would do"),
        (("trainer.accumulate_grad_batches=3",), r"data\.batch_size is 8.*3 accumulated parts"),
        (("trainer.accumulate_grad_batches=0",), r"trainer\.accumulate_grad_batches=0 must"),
        (("trainer.devices=0",), r"trainer\.devices=0 must"),
        (("trainer.devices=two",), r"trainer\.devices=two must"),
        (("trainer.strategy=dp",), r"trainer\.strategy=dp is not known; use one of auto, ddp, fsdp"),
        (("trainer.num_nodes=2",), r"trainer\.num_nodes=2 needs .*torchrun or srun"),
    ],
)
def test_division_that_cannot_work(world: Any, settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        check(world.config(*settings))


def test_ranks_of_torchrun_and_srun_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = {"devices": 4, "num_nodes": 2, "accelerator": "cpu"}
    config = {"trainer": trainer}
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a job of one task: it starts its own
    assert (ranks.started_elsewhere(), ranks.rank()) == (False, 0)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert (ranks.started_elsewhere(), ranks.rank(), ranks.world_size(config)) == (True, 3, 8)
    with pytest.raises(SettingError, match=r"takes 1 processes, but 8 were started"):
        ranks.world_size({"trainer": trainer | {"devices": 1, "num_nodes": 1}})
    monkeypatch.delenv("SLURM_NTASKS")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "5")
    assert (ranks.started_elsewhere(), ranks.rank()) == (True, 5)
