"""`diffmamba runs` on a run that was trained."""

import json

import pandas as pd


def test_a_trained_run_is_listed_shown_drawn_and_exported(story, command, tmp_path):
    world, record = story
    store, run_id = f"runs={world.store.directory}", record["id"]
    last = record["evaluations"][-1]
    listed = json.loads(command("runs", ["list", store, "format=json", f"id={run_id}"]).out)
    assert [(row["id"], row["status"], row["model"]) for row in listed] == [(run_id, "finished", "diff_mamba")]
    assert listed[0]["test/ppl"] == last["test/ppl"]
    assert f"{last['test/ppl']:.3f}" in command("runs", ["list", store]).out
    shown = command("runs", ["show", store, run_id[:5]]).out
    assert "scale.eval_windows=null" in shown
    assert "scale.steps=12" in shown
    assert "as they are now" in shown
    assert "checkpoints/last.ckpt" in shown
    curve = json.loads(command("runs", ["curves", store, run_id, "metric=val/ppl", "format=json"]).out)
    assert [(row["step"], row["value"]) for row in curve] == [(e["step"], e["val/ppl"]) for e in record["evaluations"]]
    out = tmp_path / "all.csv"
    assert command("runs", ["export", store, f"out={out}"]).status == 0
    table = pd.read_csv(out, index_col="id")
    assert table["test/ppl"][run_id] == last["test/ppl"]
    assert table["scale.d_model"][run_id] == 32


def test_runs_are_told_apart_by_what_was_set(world, command):
    first = world.train("optimizer.learning_rate=1e-3", "scale.steps=4")
    second = world.train("optimizer.learning_rate=2e-3", "scale.steps=4")
    store = f"runs={world.store.directory}"
    header, *rows = command("runs", ["list", store]).out.split("\n\n")[1].splitlines()
    assert header.split() == ["id", "status", "learning_rate", "test/ppl", "seconds", "when"]
    assert [row.split()[:3] for row in sorted(rows)] == sorted(
        [first["id"], "finished", "0.001"] if record is first else [second["id"], "finished", "0.002"]
        for record in (first, second)
    )
    told = command("runs", ["diff", store, first["id"], second["id"]]).out
    settings = told[told.index("settings") : told.index("results")].split("\n\n")[0].splitlines()[1:]
    assert [line.split() for line in settings] == [["optimizer.learning_rate", "0.001", "0.002"]]
