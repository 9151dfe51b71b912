"""What loggers keep of a run: the CSV file, and the offline W&B run read back from its own file."""

import csv
import json
import os
import time
from types import SimpleNamespace

import pytest
import wandb
from lightning.pytorch.loggers import Logger
from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

from diffmamba import resolvers
from diffmamba.runs import job
from diffmamba.runs.wandb_shown import PARTS

HEADER_BYTES = 7  # of a .wandb file: ":W&B", a magic number, the version
BLOCK_BYTES = 32768


def figures(entry):
    return {f"{split}/{name}": entry[f"{split}/{name}"] for split in ("val", "test") for name in ("loss", "ppl", "bpc")}


def messages(file):
    """The entries of a .wandb file, in LevelDB's log format: blocks of pieces, each with checksum, length and kind."""
    content, position, pending = file.read_bytes(), HEADER_BYTES, b""
    while position < len(content):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < 7:  # no room for another piece's head
            position += left
            continue
        size = int.from_bytes(content[position + 4 : position + 6], "little")
        if position + 7 + size > len(content):
            return  # still being written
        kind = content[position + 6]  # 1 whole, 2 first, 3 middle, 4 last piece of an entry
        pending += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):
            yield WandbRecord.FromString(pending)
            pending = b""


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read(file, found):
    """Adds what a file says, the last word on each key; returns whether the file is complete."""
    complete = False
    for record in messages(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.name, found.group, found.tags = record.run.display_name, record.run.run_group, list(record.run.tags)
            found.config |= values(record.run.config.update)
            found.id, found.job_type = record.run.run_id, record.run.job_type
        elif kind == "config":
            found.config |= values(record.config.update)
        elif kind == "metric" and record.metric.name:  # not one for all names of a kind
            found.axes.append(record.metric.name)
        elif kind == "history":
            found.history.append(values(record.history.item))
        elif kind == "summary":
            found.summary |= values(record.summary.update)
        elif kind == "exit":
            found.exit_code, complete = record.exit.exit_code, True
    return complete


def wandb_run(directory):
    """The run's sessions together, once W&B's own process, which is a little late, has written their last words."""
    for _ in range(100):
        found = SimpleNamespace(config={}, axes=[], history=[], summary={}, exit_code=None)
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


def plain(value):
    """Without the words that only Hydra reads."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key != "_partial_"}
    return [plain(part) for part in value] if isinstance(value, list) else value


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
        assert found.config[part] == plain(shown)
    assert not found.config.keys() & {"logger", "runs", "retries", "checkpoint", "name"}  # which tell nothing of a run
    assert found.job_type == "training"
    assert set(found.axes) == {"tokens", "seconds", "epoch", "trainer/global_step"}
    assert found.exit_code == 0


def test_wandb_and_csv_hold_the_figures_of_the_record(logged):
    world, record = logged
    found = wandb_run(world.run(record).directory)
    (file,) = world.run(record).directory.glob("csv/metrics.csv")
    rows = [{key: float(text) for key, text in row.items() if text} for row in csv.DictReader(file.open())]
    for history in (found.history, rows):
        evaluations = [entry for entry in history if "test/ppl" in entry]
        assert [figures(entry) for entry in evaluations] == [figures(entry) for entry in record["evaluations"]]
        training = [entry for entry in history if "train/loss" in entry]
        assert len(training) == 24 // 2
        assert training[-1]["train/loss"] < training[0]["train/loss"]
        assert all(entry["train/tokens_per_second"] > 0 for entry in training)
    assert all(entry["trainer/global_step"] > 0 for entry in found.history if "epoch" in entry)
    assert figures(found.summary) == figures(record["evaluations"][-1])
    assert found.summary["parameters"] == record["parameters"]["total"]
    for split, name in (("val", "loss"), ("test", "ppl")):
        best = min(entry[f"{split}/{name}"] for entry in record["evaluations"])
        assert found.summary[f"best/{split}/{name}"] == best
    for key in ("status", "tokens_per_second", "corpus", "git"):
        assert found.summary[key] == record[key]


def test_resumed_run_logs_every_evaluation(world):
    world.interrupted(10, "logger=default")
    record = world.train("logger=default")
    directory = world.run(record).directory
    steps = {entry["step"] - 1 for entry in record["evaluations"]}  # loggers count from 0
    rows = [row for file in directory.glob("csv/metrics.csv") for row in csv.DictReader(file.open())]
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


@pytest.mark.parametrize(
    ("variables", "host", "offline"),
    [
        ({}, None, True),
        ({}, "example.org", True),
        ({}, "damaged", True),
        ({}, "api.wandb.ai", False),  # after a login
        ({"WANDB_BASE_URL": "https://wandb.example.org:8080/"}, "api.wandb.ai", True),
        ({"WANDB_BASE_URL": "https://wandb.example.org:8080/"}, "wandb.example.org", False),
        ({"WANDB_API_KEY": "0" * 40}, None, False),
        ({"WANDB_API_KEY": ""}, None, True),
        ({"WANDB_MODE": "offline"}, "api.wandb.ai", True),
        *(({"WANDB_MODE": mode}, None, False) for mode in ("online", "disabled")),
    ],
)
def test_wandb_is_offline_without_credentials(tmp_path, monkeypatch, variables, host, offline):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    if host:
        entry = "machine" if host == "damaged" else f"machine {host}\n login user\n password {'0' * 40}\n"
        (tmp_path / ".netrc").write_text(entry)
        (tmp_path / ".netrc").chmod(0o600)
    assert resolvers.wandb_offline() == offline


class Fails(Logger):
    """A logger that fails at one of its tasks."""

    def __init__(self, save_dir: str, at: str):
        self.at = at
        self._fail("start")

    def _fail(self, at: str) -> None:
        if self.at == at:
            raise RuntimeError(f"no connection\nat its {at}")

    name = version = ""

    def log_hyperparams(self, *_):
        self._fail("settings")

    def log_metrics(self, *_):
        self._fail("row")

    def save(self):
        self._fail("save")

    def after_save_checkpoint(self, *_):
        self._fail("checkpoint")

    def finalize(self, status):
        self._fail("end")


@pytest.mark.parametrize("at", ["start", "settings", "row", "save", "checkpoint", "end"])
def test_a_logger_that_fails_is_one_line_and_the_run_goes_on(world, caplog, at):
    words = [f"+logger.own._target_={__name__}.Fails", f"+logger.own.at={at}", "trainer.log_every_n_steps=1"]
    record = world.train(*words)
    assert (record["status"], record["progress"]["step"]) == ("finished", 12)
    told = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert told == [f"the logger own failed, the run goes on without it: no connection at its {at}"]
    rows = list(csv.DictReader((world.run(record).directory / "csv" / "metrics.csv").open()))
    assert len(rows) == 12 + 3


def test_labels_are_texts_that_wandb_takes(world):
    long = "m" * 200
    words = ["group=2024", f"model.name={long}", "scale.name=7", "logger.wandb.project=2025", "logger=default"]
    record = world.train(*words)
    found = wandb_run(world.run(record).directory)
    assert record["status"] == "finished"
    assert (found.group, found.tags) == ("2024", [long[:64], "text", "7"])
    assert found.name == long[:128]


@pytest.fixture
def online(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()  # it keeps the settings of the runs before


def test_a_key_without_a_network_is_an_offline_run_that_says_so(world, monkeypatch, caplog, online):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{job.free_port()}")
    started = time.monotonic()
    record = world.train("logger=default", "logger.wandb.offline=false")
    took = time.monotonic() - started
    assert record["status"] == "finished"
    assert took < 30
    assert caplog.text.count(f"wandb sync {world.run(record).directory}") == 1
    found = wandb_run(world.run(record).directory)
    assert [figures(entry) for entry in found.history if "test/ppl" in entry] == [
        figures(entry) for entry in record["evaluations"]
    ]
