"""What is said of a run never fails, whatever its record lacks; and no two runs of a sweep look the same."""

from pathlib import Path

import pytest

from diffmamba.runs.summary import ending, summary, title, titles

CONFIG = {
    "data": {"name": "pydoc8"},
    "model": {"name": "mamba", "n_layers": 2, "outer_norm": False, "lambda_form": "scalar", "mixers": []},
    "seed": 3,
}
METRICS = {"headline": "test/ppl", "metrics": {"ppl": {"label": "PPL", "digits": 3}}}
WHOLE = {
    "id": "t1",
    "kind": "training",
    "status": "finished",
    "config": CONFIG,
    "task": METRICS,
    "evaluations": [{"step": 12, "test/ppl": 7.25, "val/ppl": 8.5}],
    "progress": {"step": 12, "steps": 12},
    "parameters": {"total": 1234},
    "wall_seconds": 61.2,
    "tokens_per_second": 4321.0,
}
MEASURED = {
    "id": "m1",
    "kind": "measurement",
    "status": "finished",
    "config": CONFIG,
    "measure": {"name": "Perplexity", "headline": "ppl", "metrics": {"ppl": {"label": "PPL", "digits": 2}}},
    "values": {"ppl": 7.25},
    "wall_seconds": 3.0,
}


def test_a_whole_record():
    line = "runs/t1: test PPL 7.250, val PPL 8.500 after 12 steps, 1,234 parameters, 61 s, 4,321 symbols/s"
    assert summary(WHOLE, Path("runs")) == line
    assert summary(MEASURED, Path("runs")) == "runs/m1: PPL 7.25, 3 s"
    assert ending(WHOLE, title(CONFIG)) == "pydoc8, 2 layers, mamba, seed 3: test PPL 7.250 in 61 s"


STOPPED = {"status": "stopped", "stopped": {"step": 60, "by": "EarlyStopping"}, "progress": {"step": 60, "steps": 100}}


def test_a_training_that_a_callback_stopped():
    record = WHOLE | STOPPED
    told = "stopped at step 60 of 100 by EarlyStopping"
    assert f"after 12 steps, {told}, 1,234 parameters" in summary(record, Path("runs"))
    assert ending(record, "a run") == f"a run: test PPL 7.250, {told} in 61 s"


@pytest.mark.parametrize(("step", "advice"), [(0, "the same command tries it again"), (5, "retry=failed goes on")])
def test_a_failed_training(step, advice):
    record = WHOLE | {"status": "failed", "error": {"message": "no memory", "step": step}}
    assert f"error: run t1 failed at step {step}: no memory (traceback in " in summary(record, Path("runs"))
    assert advice in summary(record, Path("runs"))
    assert ending(record, "a run") == "a run: failed: no memory (run t1)"


LACKING = {"evaluations": [], "evaluation": [{"step": 3}], "number": [{"step": 3, "test/ppl": None}]}


@pytest.mark.parametrize("evaluations", LACKING.values(), ids=LACKING.keys())
def test_a_run_without_evaluation(evaluations):
    assert "not evaluated" in summary(WHOLE | {"evaluations": evaluations}, Path("runs"))
    assert "not evaluated" in ending(WHOLE | {"evaluations": evaluations}, "a run")


@pytest.mark.parametrize("status", ["finished", "stopped", "interrupted", "running"])
@pytest.mark.parametrize("record", [WHOLE | STOPPED, MEASURED], ids=["training", "measurement"])
def test_any_part_may_be_missing(record, status):
    required = {"id", "kind", "status", "config", "measure", "values"}
    for name in record.keys() - required:
        for lacking in ({k: v for k, v in record.items() if k != name}, record | {name: None}):
            if name == "wall_seconds" and lacking.get(name, 0) is None:
                continue  # the form of a record refuses it
            assert summary(lacking | {"status": status}, Path("runs"))
            assert ending(lacking | {"status": status}, "a run")
    for name in ("measure", "values") if record["kind"] == "measurement" else ():
        assert "not evaluated" in summary(record | {name: {}}, Path("runs"))


@pytest.mark.parametrize("metrics", [None, [], {"ppl": None}, {"ppl": {"label": "PPL", "digits": "many"}}])
def test_a_metric_that_is_not_described(metrics):
    record = WHOLE | {"task": {"headline": "test/ppl", "metrics": metrics}}
    assert ending(record, "a run") == "a run: test ppl 7.25 in 61 s"


def test_titles_tell_what_varies_only_where_they_must():
    other = CONFIG | {"seed": 4}
    assert titles([("a", CONFIG, "", "seed=3"), ("b", other, "", "seed=4")]) == {
        "a": "pydoc8, 2 layers, mamba, seed 3",
        "b": "pydoc8, 2 layers, mamba, seed 4",
    }
    same = [("a", CONFIG, "", "rate=1"), ("b", CONFIG, "", "rate=2"), ("c", CONFIG, "Perplexity", "rate=2")]
    assert titles(same) == {
        "a": "pydoc8, 2 layers, mamba, seed 3, rate=1",
        "b": "pydoc8, 2 layers, mamba, seed 3, rate=2",
        "c": "Perplexity of pydoc8, 2 layers, mamba, seed 3",
    }
    assert title({"data": {}, "model": {"mixers": None}}) == "model"
