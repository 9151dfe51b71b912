"""`diffmamba runs show`, `diff`, `curves` and `export` on records that were never trained."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from shelves import Shelf

from diffmamba.browse import plain
from diffmamba.browse.places import joined, places
from diffmamba.configuration import composed
from diffmamba.runs.execution import work_of
from diffmamba.runs.index import flat
from tests.outcome import Outcome

Runs = Callable[..., Outcome]
TRACE = (
    "Traceback (most recent call last):\n" + "".join(f'  File "a.py", line {i}\n' for i in range(40)) + "MemoryError: x"
)


def test_failed_run(shelf: Shelf, runs: Runs) -> None:
    error = {"message": "it ran out", "type": "OutOfMemoryError", "kind": "memory", "where": "ssd.py:7", "step": 6}
    shelf.put("t1", ppl=None, status="failed", error=error | {"traceback": TRACE, "again": False})
    told = runs("show", "t1").out
    assert told.startswith("t1  failed: memory\n")
    assert "memory OutOfMemoryError: it ran out (at step 6, ssd.py:7)" in told
    assert "line 39" in told
    assert "line 20" not in told
    assert "retry=failed tries it again from the beginning" in told
    shelf.checkpoint("t1")
    assert "retry=failed tries it again from its last checkpoint" in runs("show", "t1").out


def test_what_a_run_is_related_to(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1", settings={"name": "model=mamba, lr=1e-3"})
    shelf.checkpoint("t1", 2_500_000)
    shelf.put("t2", settings={"weights.run": "t1"}, weights={"kind": "OfRun", "run": "t1", "checkpoint": "best"})
    shelf.put("t1.before-1", ppl=9.0)
    told = runs("show", "t1").out
    assert "model=mamba, lr=1e-3" in told
    assert "t2 (training)" in told
    assert "t1.before-1" in told
    assert "2.5 MB            checkpoints/last.ckpt" in told
    assert "run t1, checkpoint best" in runs("show", "t2").out
    assert "9.000" in runs("show", "t1.before-1").out


def test_settings_that_differ_from_the_plain_ones(shelf: Shelf, runs: Runs) -> None:
    """What another setting brings along is not told."""
    settings = {"scale.steps": 7, "budget.steps": 7, "optimizer.learning_rate": 0.5, "model.outer_norm": False}
    shelf.put("t1", settings=settings)
    line = next(line for line in runs("show", "t1").out.splitlines() if line.startswith("settings"))
    given = line.split()[1:]
    assert given == [
        *("model=mamba", "data=pydoc8", "scale=smoke", "seed=0", "scale.steps=7", "optimizer.learning_rate=0.5")
    ]


def test_settings_of_another_version(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1", settings={"model.name": "forgotten", "model.width": 3})
    told = runs("show", "t1")
    assert told.status == 0
    assert "model=forgotten data=pydoc8 scale=smoke seed=0\n" in told.out
    assert "width=3" in told.out


@pytest.mark.parametrize(
    "asked",
    [
        "model=mamba data=mad/noisy_in_context_recall scale=smoke experiments=mad seed=1 published.best_of=val "
        "optimizer.weight_decay=0.1 data.length=64 data.noise=0.6",
        "model=mamba data=pydoc8 scale=smoke experiments=table1 seed=0 published.depth=deep model.dropout=0.2",
    ],
)
def test_the_words_shown_make_the_same_run_again(shelf: Shelf, runs: Runs, asked: str) -> None:
    """Also of a data file in a folder, and of an experiment; and no word more than it takes."""
    config = composed(asked.split())
    path = shelf.put("t1")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config}))
    line = next(line for line in runs("show", "t1").out.splitlines() if line.startswith("settings"))
    words = line.split()[1:]
    assert sorted(words) == sorted(asked.split())
    assert work_of(composed(words)).identity() == work_of(config).identity()


def test_what_follows_another_setting_of_the_same_group_is_no_difference() -> None:
    """Also where runs before had another value there."""
    for length in (64, 128):
        words = ["data=mad/compression", f"data.length={length}"]
        settings = dict(pair for key, part in composed(words).items() for pair in flat(key, part))
        assert plain.differing(settings) == {"data.length": length}


def test_accuracy_by_place(shelf: Shelf, runs: Runs) -> None:
    """Neighbours are joined where there are many, with about as many answers in each; each answer counts once."""
    gaps = {"at": [1, 3, 7], "accuracy": [1.0, 0.5, 0.25], "count": [8, 4, 0]}
    many = {"at": [*range(40)], "accuracy": [0.0] * 20 + [1.0] * 20, "count": [3] + [1] * 39}
    shelf.put("t1", details={"test": {"gap": gaps, "position": many, "class": "?"}})
    shelf.put("t2", details=[1])
    rows = [line.split(maxsplit=3) for line in runs("show", "t1").out.splitlines()]
    said = {row[2]: row[3] for row in rows if row[:2] == ["right", "by"]}
    assert said["gap"] == "1: 1.000, 3: 0.500"
    assert said["position"].startswith("0–2: 0.000, ")
    assert said["position"].endswith("35–39: 1.000")
    assert "right by" not in runs("show", "t2").out
    found = places(shelf.store.run("t1").load() or {}, "position")
    for most in (1, 7, 39):
        groups = joined(found, most)
        assert len(groups) <= most
        assert sum(one.answers for one in groups) == 42
        assert sum(one.answers * one.right for one in groups) == pytest.approx(20)


def test_measurement(shelf: Shelf, runs: Runs) -> None:
    measure = {"name": "Perplexity", "headline": "ppl", "metrics": {"ppl": {"digits": 2}}}
    weights = {"run": "t1"}
    shelf.put("m1", ppl=None, kind="measurement", measure=measure, values={"ppl": 3.14159}, weights=weights)
    (shelf.directory / "m1/rows.csv").write_text("measure,value,position\n" + "loss,1.5,7\n" * 30)
    told = runs("show", "m1").out
    assert "Perplexity of pydoc8" in told
    assert "3.14\n" in told
    assert "12 of 30 rows; all: " in told
    (shelf.directory / "m1/rows.csv").write_bytes(b"\xff\xfe")
    assert "cannot be read" in runs("show", "m1").out


def test_damaged_run(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1").write_text('{"cut')
    shelf.checkpoint("t1")
    told = runs("show", "t1")
    assert told.status == 0
    assert "its record cannot be read" in told.out
    assert "goes on from its checkpoint" in told.out
    assert "checkpoints/last.ckpt" in told.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show", "runs show takes one id"),
        ("show t1 t2", "runs show takes one id"),
        ("show t", "t is the beginning of 2 runs: t1, t2"),
        ("show x", "x is no run in"),
        ("show t1.before-9", "t1.before-9 is no run in"),
        ("diff t1", "runs diff takes two ids or more"),
        ("diff t1 t1", "t1 is asked for twice"),
        ("diff t1 t2 all=true", "runs diff takes two ids or more"),
        ("curves", "no run to draw"),
        ("curves t1 metric=test/pp", "t1 has no test/pp; use one of test/ppl, test/loss"),
        ("curves m1", "m1 is a measurement, which has no steps"),
        ("export out=/no/where.csv", "there is no directory /no"),
        ("export curves=2", "curves=2 must be true or false"),
    ],
)
def test_wrong_words_are_one_line(shelf: Shelf, runs: Runs, words: str, said: str) -> None:
    shelf.put("t1")
    shelf.put("t2")
    shelf.put("m1", kind="measurement", measure={"name": "PPL"}, values={}, weights={})
    assert said in runs(*words.split()).refusal()


def test_what_differs(shelf: Shelf, runs: Runs) -> None:
    sources = {"python": "3.11", "digests": {"diffmamba.mixers.mamba": "aaa", "diffmamba.errors": "bbb"}}
    other = {"python": "3.11", "digests": {"diffmamba.mixers.mamba": "ccc", "diffmamba.errors": "bbb", "mine": "d"}}
    shelf.put("t1", sources=sources, settings={"model.mixers": [{"dropout": 0.0}], "group": "one"})
    changed = {"model.dropout": 0.1, "model.mixers": [{"dropout": 0.1}], "group": "two", "model.layer": ["ffn"]}
    shelf.put("t2", ppl=4.0, sources=other, settings=changed, versions={"torch": "3"})
    told = runs("diff", "t1", "t2").out
    rows = [line.split() for line in told.splitlines() if line]
    assert ["model.dropout", "0", "0.1"] in rows
    assert ["model.layer", "–", "[ffn]"] in rows
    assert ["diffmamba.mixers.mamba", "aaa", "ccc"] in rows
    assert ["versions.torch", "2", "3"] in rows
    assert ["test/ppl", "5.000", "4.000"] in rows
    assert not [
        row for row in rows if row[0] in ("mine", "diffmamba.errors", "group", "seed", "model.mixers.0.dropout")
    ]


def test_nothing_differs(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1")
    shelf.put("t2", ppl=4.0)
    told = runs("diff", "t1", "t2").out
    assert "do not differ" in told
    assert ["test/ppl", "5.000", "4.000"] in [line.split() for line in told.splitlines()]


def test_curves(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1")
    shelf.put("t2", ppl=3.0)
    logged = shelf.directory / "t1/csv/metrics.csv"
    logged.parent.mkdir()
    logged.write_text("step,train/loss,val/loss\n3,2.5,\n3,,9.9\n5,1.5,\n6,1.")  # a line cut short is no row
    told = json.loads(runs("curves", "t1", "metric=test/ppl,train/loss", "format=json").out)
    assert [(row["metric"], row["step"], row["value"]) for row in told] == [
        *(("test/ppl", 4, 6.0), ("test/ppl", 8, 5.0), ("train/loss", 4, 2.5), ("train/loss", 6, 1.5))
    ]
    rows = list(csv.DictReader(StringIO(runs("curves", "id=t*", "format=csv").out)))
    assert [(row["id"], row["value"]) for row in rows] == [("t1", "6.0"), ("t1", "5.0"), ("t2", "4.0"), ("t2", "3.0")]
    drawn = runs("curves", "t1", "t2").out
    assert "\x1b" not in drawn
    assert "test/ppl over steps" in drawn
    assert {"a", "b"} <= {sign for line in drawn.splitlines() if "│" in line for sign in line}
    assert drawn.splitlines()[-1].split() == [
        "b",
        "t2",
        *drawn.splitlines()[-1].split()[2:-4],
        "4.000",
        "3.000",
        "4.000",
        "3.000",
    ]


def test_curve_of_a_run_that_was_not_evaluated(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1", ppl=None)
    told = runs("curves", "t1")
    assert told.status == 0
    assert told.out.splitlines()[-1].split()[-1] == "–"


def test_export_has_everything_and_pandas_reads_it(shelf: Shelf, runs: Runs, tmp_path: Path) -> None:
    shelf.put("t1", ppl=4.123456789012345, settings={"model.layer": ["mixer", "ffn"], "optimizer.betas": [0.9, 0.99]})
    shelf.put(
        "t2", ppl=None, status="failed", error={"message": 'a "b", c\nd', "kind": "code"}, git={"revision": "abc"}
    )
    out = tmp_path / "all.csv"
    assert runs("export", f"out={out}").out == f"2 rows of 2 runs in {out}\n"
    table = pd.read_csv(out, index_col="id")
    assert list(table.index) == ["t1", "t2"]
    assert table["test/ppl"]["t1"] == 4.123456789012345
    assert json.loads(table["optimizer.betas"]["t1"]) == [0.9, 0.99]
    assert json.loads(table["model.layer"]["t1"]) == ["mixer", "ffn"]
    assert table["optimizer.learning_rate"]["t2"] == 0.001
    assert table["error.message"]["t2"] == 'a "b", c\nd'
    assert (table["git.revision"]["t2"], table["versions.torch"]["t1"], table["hardware.host"]["t1"]) == (
        "abc",
        2,
        "here",
    )
    rows = json.loads(runs("export", "format=json", "id=t1").out)
    assert rows[0]["optimizer.betas"] == [0.9, 0.99]


def test_export_of_curves(shelf: Shelf, runs: Runs, tmp_path: Path) -> None:
    shelf.put("t1")
    shelf.put("t2", ppl=None)
    out = tmp_path / "curves.csv"
    runs("export", "curves=true", f"out={out}")
    told = pd.read_csv(out).pivot(index="step", columns="metric", values="value")
    assert told["test/ppl"].to_dict() == {4: 6.0, 8: 5.0}
    assert told["test/loss"][4] == 2.0


def test_export_of_nothing(shelf: Shelf, runs: Runs) -> None:
    assert runs("export").out == "\n"
    assert runs("export", "format=json").out == "[]\n"
