"""What arrives at W&B: the unmodified client talks to a server of ours that keeps what it is sent."""

import os
import shutil
import sys

import pytest
import wandb
from click.testing import CliRunner
from wandb.cli.cli import cli

from diffmamba.runs import wandb_run
from diffmamba.runs.loggers import ROWS
from diffmamba.runs.rows import Rows
from tests.wandb_server import KEY, WandbServer

LOGGED = ("logger=default", "trainer.log_every_n_steps=1")
TIMED = ("train/tokens_per_second", "seconds", "memory_gb", "_timestamp", "_runtime", "_step")


@pytest.fixture
def server(world, monkeypatch):
    """A server that this process is logged in to. W&B's own files are below the world's folder."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    with WandbServer() as serving:
        for name, value in serving.environment(world.folder / "home").items():
            if name != "HOME":  # where the compiled operators are
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("WANDB_SILENT", "true")
        monkeypatch.chdir(world.folder)  # where `wandb sync` keeps its log
        wandb.teardown()  # it keeps the settings of the runs before
        yield serving
        wandb.teardown()


def sent(server):
    """The rows of the only run, without those of its clock, with the step as the store counts it."""
    (run,) = server.kept.runs.values()
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    rows = [{name: value for name, value in row.items() if name not in TIMED} for row in run.history]
    return [{"step": row.pop("trainer/global_step"), **row} for row in rows]


def rows_of(run):
    return Rows(run.directory / ROWS).read()


def in_store(world, record):
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows_of(world.run(record))]


def warnings(caplog):
    return [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]


def sync(world, *options):
    """The `wandb sync` that the page tells of, as its command does it."""
    wandb.teardown()
    sessions = sorted(filter(os.path.isdir, world.store.directory.glob("*/wandb/*run-*")))
    done = CliRunner().invoke(cli, ["sync", *options, *map(str, sessions)], catch_exceptions=False)
    assert done.exit_code == 0


def test_wandb_has_the_run_its_rows_and_its_checkpoints(world, server, caplog):
    record = world.train(*LOGGED, "logger.wandb.log_model=true", 'group="a/b <c>"', 'name="Größe & <b>"')
    ((project, run_id), run), *others = server.kept.runs.items()
    assert not others
    assert (project, run_id) == ("diffmamba", wandb_run.wandb_id(world.run(record)))
    assert (run.state, run.exit_code, run.job_type) == ("finished", 0, "training")
    assert (run.group, run.display_name) == ("a/b <c>", "Größe & <b>")
    assert run.tags == ["diff_mamba", "text", "smoke"]
    assert run.config["optimizer"]["learning_rate"] == record["config"]["optimizer"]["learning_rate"]
    assert sent(server) == in_store(world, record)
    last = record["evaluations"][-1]
    assert {name: run.summary[name] for name in last if name.startswith(("val/", "test/"))} == {
        name: value for name, value in last.items() if name.startswith(("val/", "test/"))
    }
    best = min(record["evaluations"], key=lambda entry: entry["val/loss"])
    assert run.summary["best/val/loss"] == best["val/loss"]
    axes = {entry["1"] for entry in run.metrics if "1" in entry}
    assert {"tokens", "seconds", "trainer/global_step"} <= axes
    for artifact, name, entry in zip(server.kept.artifacts, ("best", "last"), (best, last), strict=True):
        assert artifact.committed
        assert {name} <= set(artifact.aliases) <= {name, "latest"}
        assert artifact.metadata["step"] == entry["step"]
        assert server.kept.storage[artifact.files[f"{name}.ckpt"]] == world.run(record).checkpoint(name).read_bytes()
    assert server.kept.unknown == []
    assert warnings(caplog) == []


def test_sessions_offline_are_one_run_after_sync(world, server, monkeypatch):
    """One was uploaded before the run went on, one was not, and the last one ended the run."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [*LOGGED, "logger.wandb.log_model=true", "runs=runs"]
    world.interrupted(3, *words)
    world.interrupted(6, *words)
    sync(world)
    in_between = len(sent(server))
    assert in_between == 6 + 1
    world.interrupted(9, *words)
    record = world.train(*words)
    (world.folder / "elsewhere").mkdir()
    monkeypatch.chdir(world.folder / "elsewhere")
    sync(world)
    record["config"]["runs"] = str(world.store.directory)
    last = world.run(record).checkpoint("last").read_bytes()
    assert server.kept.storage[server.kept.artifacts[-1].files["last.ckpt"]] == last
    assert sent(server) == in_store(world, record)
    assert len(sent(server)) > in_between
    (run,) = server.kept.runs.values()
    assert (run.sent_lines, run.state) == (len(run.history), "finished")
    assert run.summary["status"] == "finished"


def test_rows_that_wandb_did_not_take_come_with_the_next_session(world, server, monkeypatch, caplog):
    monkeypatch.setattr(wandb_run, "END_SECONDS", 1)
    away = server.misbehave("file_stream", status=503)
    world.interrupted(6, *LOGGED)
    assert sent(server) == []
    (told,) = warnings(caplog)
    assert "wandb sync --include-online" in told
    away.times = 0
    monkeypatch.setenv("WANDB_MODE", "online")  # in another process
    world.interrupted(9, *LOGGED)
    record = world.train(*LOGGED)
    assert sent(server) == in_store(world, record)
    (run,) = server.kept.runs.values()
    assert (run.sent_lines, run.state) == (len(run.history), "finished")


@pytest.mark.parametrize(
    ("where", "how", "offline"),
    [
        ("graphql", {"status": 401}, True),  # a wrong key
        ("", {"seconds": 3}, True),  # too slow
        ("file_stream", {"status": 401}, False),  # a key that was taken back
        ("file_stream", {"closes": True, "after": 1}, False),  # it went away in the middle
    ],
)
def test_wandb_that_fails_costs_a_line_and_the_run_is_kept(world, server, monkeypatch, caplog, where, how, offline):
    for name, seconds in {"ANSWER_SECONDS": 0.3, "START_SECONDS": 3, "END_SECONDS": 1}.items():
        monkeypatch.setattr(wandb_run, name, seconds)
    server.misbehave(where, **how)
    record = world.train(*LOGGED)
    assert record["status"] == "finished"
    (told,) = warnings(caplog)
    assert "wandb sync" in told
    assert KEY not in told
    session = world.run(record).directory / "wandb" / ("offline-run-*" if offline else "run-*")
    assert len(list(session.parent.glob(session.name))) == 1
    assert os.environ["WANDB_MODE"] != "online"  # so the next run of a sweep does not wait
    server.faults.clear()
    sync(world, *(() if offline else ("--include-online",)))
    assert sent(server) == in_store(world, record)


def test_wandb_that_is_disabled_is_not_there_and_nothing_is_said(world, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record = world.train(*LOGGED)
    assert (record["status"], warnings(caplog)) == ("finished", [])
    assert not (world.run(record).directory / "wandb").exists()


@pytest.mark.parametrize("trouble", ["a file in its place", "a full disk", "no wandb"])
def test_a_run_without_wandb_goes_on(world, monkeypatch, caplog, trouble):
    folder = world.store.directory / world.work(*LOGGED).identity() / "wandb"
    if trouble == "a file in its place":
        folder.parent.mkdir(parents=True)
        folder.touch()
    elif trouble == "a full disk":
        monkeypatch.setattr(wandb_run, "LEAST_BYTES", shutil.disk_usage("/tmp").total * 2)
    else:
        monkeypatch.setitem(sys.modules, "wandb", None)
    record = world.train(*LOGGED)
    assert record["status"] == "finished"
    (told,) = warnings(caplog)
    assert told.startswith("the logger wandb failed, the run goes on without it: ")
    assert len(rows_of(world.run(record))) == 12 + 3


def test_a_run_after_one_whose_logger_failed_is_its_own_and_checkpoints_not_taken_cost_a_line(
    world, server, monkeypatch, caplog
):
    real = wandb_run.WandbRun.log_metrics
    monkeypatch.setattr(wandb_run.WandbRun, "log_metrics", lambda *_: 1 / 0)
    world.train(*LOGGED)
    monkeypatch.setattr(wandb_run.WandbRun, "log_metrics", real)
    caplog.clear()
    server.misbehave("CreateArtifact", status=400)
    record = world.train(*LOGGED, "seed=1", "logger.wandb.log_model=true")
    assert record["status"] == "finished"
    (told,) = warnings(caplog)
    assert told.startswith("W&B did not take the checkpoints: ")
    assert len(server.kept.runs) == 2
    run = server.kept.runs["diffmamba", wandb_run.wandb_id(world.run(record))]
    assert (run.config["seed"], len(run.history)) == (1, 12 + 3)


def test_a_measurement_is_a_run_of_its_own_with_its_figures(world, server):
    record = world.measure("logger=default")
    jobs = {run.job_type: run for run in server.kept.runs.values()}
    assert set(jobs) == {"training", "measurement"}
    measured = jobs["measurement"]
    assert {name: measured.summary[name] for name in record["values"]} == record["values"]
    assert measured.config["weights"]["run"] == jobs["training"].config["run"]
    assert measured.summary["rows"]["nrows"] > 10
    assert server.kept.unknown == []
