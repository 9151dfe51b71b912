"""W&B's own `wandb sweep` and `wandb agent`: their runs are works of our store, and W&B shows each of them."""

import os
import sys

import wandb
from click.testing import CliRunner
from wandb.cli.cli import cli

from tests import wandb_sweeps
from tests.outcome import outcome_of
from tests.wandb_server import WandbServer

assert wandb_sweeps  # what the server answers


def test_an_agent_trains_what_the_store_lacks_and_shows_what_it_has(world, monkeypatch):
    monkeypatch.chdir(world.folder)
    fixed = ["seed=0", "model=mamba", "model.outer_norm=false", "logger=default", "scale.steps=4"]
    words = world.words("scale.evaluate_every=2", *fixed)  # two cells, since λ has two forms, and one work
    specified = outcome_of("wandb_sweep", "sweep=table2", *words)
    assert specified.status == 0, specified.err
    with WandbServer() as server:
        for name, value in server.environment(world.folder).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        (file,) = (world.folder / "reports" / "sweeps").iterdir()
        for words_of_wandb in (["sweep", str(file)], ["agent", "tester/diffmamba/sweep0"]):
            wandb.teardown()  # it keeps the settings of the tests before
            ended = CliRunner().invoke(cli, words_of_wandb, catch_exceptions=False)
            assert ended.exit_code == 0, ended.output
        ((run_id, record),) = world.store.records().items()

        # another agent, which is given the same cell: as `wandb agent` starts it, but in this process
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
        monkeypatch.setenv("WANDB_RUN_ID", "again")
        (world.folder / "given.yaml").write_text("wandb_version: 1\noptimizer.weight_decay: {value: 0.1}\n")
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(world.folder / "given.yaml"))
        wandb.teardown()  # it keeps the settings of the tests before
        again = outcome_of("train", "sweeps=table2", "hydra.mode=RUN", "model.lambda_form=reparam", *words)
        wandb.teardown()
    assert again.status == 0, again.err
    assert server.kept.unknown == []
    assert world.store.records() == {run_id: record}  # it was not trained again
    trained, shown = server.kept.runs.values()
    assert (trained.id, trained.sweep, shown.id) == ("sweep0-run0", "sweep0", "again")
    assert trained.config["cell"] == trained.display_name == "model.lambda_form=scalar"
    assert shown.display_name == "optimizer.weight_decay=0.1"
    for run in (trained, shown):
        assert run.config["run"] == run_id
        assert run.config["model"]["name"] == "mamba"  # our settings, which the sweep's own parameter does not hide
        assert (run.exit_code, run.group) == (0, "table2")
        assert run.summary["test/ppl"] == record["evaluations"][-1]["test/ppl"]
        rows = [row["test/ppl"] for row in run.history if "test/ppl" in row]
        assert rows == [entry["test/ppl"] for entry in record["evaluations"]]
