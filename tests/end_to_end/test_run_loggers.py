"""What loggers keep of a run: the CSV file, and the offline W&B run read back from its own file."""

import csv
import json
import netrc
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

from diffmamba import configuration
from diffmamba.runs.loggers import PARTS

HEADER_BYTES = 7  # of a .wandb file: ":W&B", a magic number, the version
BLOCK_BYTES = 32768
EVALUATED = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "ppl", "bpc")}


@dataclass
class WandbRun:
    """What a .wandb file says, the last word on each key."""

    name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def messages(file):
    """The entries of a .wandb file, in LevelDB's log format: blocks of pieces, each with checksum, length and kind."""
    content, position, pending = file.read_bytes(), HEADER_BYTES, b""
    while position < len(content):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < 7:  # no room for another piece's head
            position += left
            continue
        size = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]  # 1 whole, 2 first, 3 middle, 4 last piece of an entry
        pending += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):
            yield pending
            pending = b""


def key(item):
    return item.key or "/".join(item.nested_key)


def read(file, found):
    """Adds what a file says; returns whether the file is complete."""
    complete = False
    for message in messages(file):
        record = WandbRecord.FromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.name, found.group = record.run.display_name, record.run.run_group
            found.tags = list(record.run.tags)
            found.config |= {key(item): json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "config":
            found.config |= {key(item): json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            found.history.append({key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            found.summary |= {key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            found.exit_code, complete = record.exit.exit_code, True
    return complete


def wandb_run(directory):
    """The run's sessions together, once W&B's own process, which is a little late, has written their last words."""
    for _ in range(100):
        found = WandbRun()
        complete = [read(file, found) for file in sorted(directory.glob("wandb/offline-run-*/*.wandb"))]
        if all(complete):
            return found
        time.sleep(0.1)
    raise AssertionError(f"a W&B file in {directory} has no end")


@pytest.fixture(scope="module")
def logged(new_world):
    world = new_world("logged")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        settings = ("logger=default", "group=trial", "seed=3", "scale.steps=24", "trainer.log_every_n_steps=2")
        return world, world.train(*settings)


def test_wandb_run_says_what_it_is(logged):
    world, record = logged
    found = wandb_run(world.run(record).directory)
    assert found.name == "diff_mamba-text-smoke-seed3"
    assert found.group == "trial"
    assert found.tags == ["diff_mamba", "text", "smoke"]
    assert found.config["seed"] == 3
    assert found.config["run"] == record["id"]
    assert found.config["parameters"] == record["parameters"]["total"]
    for part in ("model", "data", "optimizer", "scale"):
        shown = {key: value for key, value in record["config"][part].items() if key not in PARTS}
        assert found.config[part] == shown
    assert found.exit_code == 0


def test_wandb_history_is_that_of_the_record(logged):
    world, record = logged
    history = wandb_run(world.run(record).directory).history
    evaluations = [entry for entry in history if "test/ppl" in entry]
    assert [{key: entry[key] for key in EVALUATED} for entry in evaluations] == [
        {key: entry[key] for key in EVALUATED} for entry in record["evaluations"]
    ]
    training = [entry for entry in history if "train/loss" in entry]
    assert len(training) == 24 // 2
    assert training[-1]["train/loss"] < training[0]["train/loss"]
    assert all(entry["train/tokens_per_second"] > 0 for entry in training)
    assert all(entry["trainer/global_step"] > 0 for entry in history if "epoch" in entry)


def test_wandb_summary_is_the_final_state(logged):
    world, record = logged
    summary = wandb_run(world.run(record).directory).summary
    assert {key: summary[key] for key in EVALUATED} == {key: record["evaluations"][-1][key] for key in EVALUATED}
    assert summary["status"] == "finished"
    assert summary["total"] == record["parameters"]["total"]
    assert summary["tokens_per_second"] == record["tokens_per_second"]
    assert summary["corpus"] == record["corpus"]
    assert summary["git"] == record["git"]


def test_csv_holds_the_same_figures(logged):
    world, record = logged
    (file,) = world.run(record).directory.glob("csv/*/metrics.csv")
    rows = list(csv.DictReader(file.open()))
    evaluations = [row for row in rows if row["test/ppl"]]
    assert [{key: float(row[key]) for key in EVALUATED} for row in evaluations] == [
        {key: entry[key] for key in EVALUATED} for entry in record["evaluations"]
    ]
    training = [row for row in rows if row["train/loss"]]
    assert len(training) == 24 // 2
    assert all(float(row["train/tokens_per_second"]) > 0 for row in training)


def test_resumed_run_logs_every_evaluation(world, interrupt_at):
    interrupt_at(10)
    with pytest.raises(KeyboardInterrupt):
        world.train("logger=default")
    interrupt_at(None)
    record = world.train("logger=default")
    directory = world.run(record).directory
    steps = {entry["step"] - 1 for entry in record["evaluations"]}  # loggers count from 0
    rows = [row for file in directory.glob("csv/*/metrics.csv") for row in csv.DictReader(file.open())]
    assert {int(row["step"]) for row in rows if row["test/ppl"]} == steps
    found = wandb_run(directory)
    assert {entry["trainer/global_step"] for entry in found.history if "test/ppl" in entry} == steps
    assert found.summary["status"] == "finished"
    assert found.exit_code == 0


def test_failed_run_is_a_failed_wandb_run(world):
    record = world.train("logger=default", "scale.learning_rate=1e30", "scale.warmup_steps=0")
    assert record["status"] == "failed"
    found = wandb_run(world.run(record).directory)
    assert found.summary["status"] == "failed"
    assert found.exit_code == 1


@pytest.fixture
def without_credentials(tmp_path, monkeypatch):
    """A user without W&B credentials; returns where the netrc would be."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".netrc"


def write_netrc(path, host):
    path.write_text(f"machine {host}\n login user\n password {'0' * 40}\n")
    path.chmod(0o600)
    assert netrc.netrc(str(path)).authenticators(host) is not None


def test_wandb_is_offline_without_credentials(without_credentials):
    assert configuration.wandb_offline()
    write_netrc(without_credentials, "example.org")
    assert configuration.wandb_offline()
    without_credentials.write_text("machine")  # damaged
    assert configuration.wandb_offline()


def test_wandb_is_online_with_a_key(without_credentials, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert not configuration.wandb_offline()
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert configuration.wandb_offline()


def test_wandb_is_online_after_a_login(without_credentials, monkeypatch):
    write_netrc(without_credentials, "api.wandb.ai")
    assert not configuration.wandb_offline()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert configuration.wandb_offline()
    write_netrc(without_credentials, "wandb.example.org")
    assert not configuration.wandb_offline()


@pytest.mark.parametrize(("mode", "offline"), [("offline", True), ("online", False), ("disabled", False)])
def test_wandb_mode_decides_if_set(without_credentials, monkeypatch, mode, offline):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert configuration.wandb_offline() == offline
