"""`diffmamba runs list`: which runs, in which order, with which columns."""

import csv
import json
import random
from collections.abc import Callable
from io import StringIO

import pytest
from shelves import Shelf

from diffmamba.browse import columns
from diffmamba.browse.fields import text, value
from diffmamba.runs.index import look
from tests.outcome import Outcome

Runs = Callable[..., Outcome]


@pytest.fixture
def several(shelf: Shelf) -> Shelf:
    shelf.put("ta1", ppl=5.0, settings={"optimizer.betas": [0.9, 0.99], "group": "mine"})
    shelf.put("ta2", ppl=6.0, settings={"model.name": "diff_mamba", "seed": 1}, started="2020-01-01T00:00:00+00:00")
    shelf.put("tb1", ppl=4.0, settings={"model.name": "diff_s6", "optimizer.learning_rate": 0.01, "seed": 2})
    error = {"message": "it ran out", "type": "OutOfMemoryError", "kind": "memory"}
    shelf.put("tb2", ppl=None, settings={"seed": 3}, status="failed", error=error)
    return shelf


def ids(outcome: Outcome) -> list[str]:
    return [row["id"] for row in json.loads(outcome.out)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("model=mamba", "ta1 tb2"),
        ("model=diff_*", "ta2 tb1"),
        ("model.name!=mamba", "ta2 tb1"),
        ("seed=0,2", "ta1 tb1"),
        ("seed=0 model=diff_*", ""),
        ("optimizer.learning_rate=1e-3", "ta1 ta2 tb2"),
        ("learning_rate>=1e-2", "tb1"),
        ("test/ppl<5.5", "ta1 tb1"),
        ("test/ppl>=5 test/ppl<=6", "ta1 ta2"),
        ("status=failed", "tb2"),
        ("status=failed,finished", "ta1 ta2 tb1 tb2"),
        ("error=memory", "tb2"),
        ("error=OutOfMemory*", "tb2"),
        ("error=null", "ta1 ta2 tb1"),
        ("group=mine", "ta1"),
        ("group=null", "ta2 tb1 tb2"),
        ("betas=[0.9,0.99]", "ta1"),
        ("host=here kind=training", "ta1 ta2 tb1 tb2"),
        ("id=tb*", "tb1 tb2"),
    ],
)
def test_words_choose_runs(several: Shelf, runs: Runs, words: str, expected: str) -> None:
    outcome = runs("list", "format=json", "sort=id", *words.split())
    assert outcome.status == 0
    assert ids(outcome) == expected.split()


def test_a_short_name_is_that_of_a_training_before_that_of_a_measure(several: Shelf, runs: Runs) -> None:
    several.put("tc1", settings={"measure.learning_rate": 0.1, "measure.rate": 3, "measured.rate": 4})
    assert ids(runs("list", "format=json", "learning_rate=0.1")) == []
    assert ids(runs("list", "format=json", "measure.learning_rate=0.1")) == ["tc1"]
    told = runs("list", "rate=3").refusal()
    assert "rate is the name of several settings: measure.rate, measured.rate; give one of these" in told


def test_age_is_that_of_the_end(shelf: Shelf, runs: Runs) -> None:
    shelf.put("old", finished="2020-01-01T00:00:00+00:00")
    shelf.put("new", started="2020-01-01T00:00:00+00:00", finished="2999-01-01T00:00:00+00:00")
    assert ids(runs("list", "format=json", "older=7d")) == ["old"]
    assert ids(runs("list", "format=json", "newer=2w")) == ["new"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("modle=mamba", "no run has modle; did you mean model?"),
        ("lerning_rate=1", "no run has lerning_rate; did you mean learning_rate?"),
        ("colums=model", "no run has colums; did you mean columns?"),
        ("columns=model,sed", "no run has sed; did you mean seed?"),
        ("sort=test/pl", "no run has test/pl; did you mean test/ppl?"),
        ("status=done", "status=done is no status; use one of"),
        ("older=7", "older=7 must be a time such as"),
        ("test/ppl<many", "test/ppl is a number, and 'many' is none"),
        ("limit=0", "limit=0 must be 1 or more"),
        ("format=xml", "format=xml must be table or json or csv"),
        ("ta1", "'ta1' is not a setting; write name=value, such as id=ta1*"),
        ("--all", "'--all' is not a setting"),
        ("runs=nowhere", "there is no run store at nowhere"),
    ],
)
def test_wrong_words_are_one_line(several: Shelf, runs: Runs, words: str, said: str) -> None:
    assert said in runs("list", *words.split()).refusal()


def test_order_and_limit(several: Shelf, runs: Runs) -> None:
    several.put("tc1", ppl=4.5, finished="2020-01-01T00:00:00+00:00")
    asked = ("list", "format=json")
    assert ids(runs(*asked, "sort=test/ppl")) == ["tb1", "tc1", "ta1", "ta2", "tb2"]  # without a value: last
    assert ids(runs(*asked, "sort=-test/ppl", "limit=2")) == ["ta2", "ta1"]
    assert ids(runs(*asked))[0] == "tc1"  # the most recent last
    assert ids(runs(*asked, "limit=1")) == ["tb2"]


def test_page(several: Shelf, runs: Runs) -> None:
    told = runs("list").out
    assert told.startswith(f"4 runs in {several.directory}: data pydoc8, scale smoke\n")
    header = told.split("\n\n")[1].splitlines()[0].split()
    assert header == ["id", "status", "model", "seed", "learning_rate", "betas", "test/ppl", "seconds", "when"]
    assert told.endswith("3 finished, 1 failed\n  memory: 1, such as tb2: it ran out\n")
    assert "failed: memory" in told


def test_columns_that_are_asked_for(several: Shelf, runs: Runs) -> None:
    told = runs("list", "columns=id,model,learning_rate,test/ppl", "sort=id")
    assert [row.split() for row in told.rows][:2] == [
        ["ta1", "mamba", "0.001", "5.000"],
        ["ta2", "diff_mamba", "0.001", "6.000"],
    ]


def test_csv_has_the_values_themselves(several: Shelf, runs: Runs) -> None:
    rows = list(csv.DictReader(StringIO(runs("list", "format=csv", "columns=id,status,test/ppl", "sort=id").out)))
    assert rows[0] == {"id": "ta1", "status": "finished", "test/ppl": "5.0"}
    assert rows[3] == {"id": "tb2", "status": "failed", "test/ppl": ""}


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_rows_fit_the_terminal(several: Shelf, runs: Runs, width: int) -> None:
    told = runs("list", width=width)
    rows = [row for row in told.rows if row.startswith("t")]
    assert len(rows) == 4
    assert max(map(len, rows)) <= width
    assert ("no room for" in told.out) == (width < 100)


def test_nothing_is_cut_in_a_pipe(shelf: Shelf, runs: Runs) -> None:
    names = ["x" * 150, "y" * 150]
    for number, name in enumerate(names):
        shelf.put(f"t{number}", settings={"model.name": name})
    assert all(name in runs("list").out for name in names)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_rows_look_the_same(shelf: Shelf, seed: int) -> None:
    """Whatever differs, and however settings follow from each other or repeat each other."""
    drawn, seen = random.Random(seed), set()
    names = ("model.name", "model.dropout", "model.network.size", "optimizer.learning_rate", "seed", "scale.name")
    for number in range(8):
        settings = {name: drawn.choice([1, 2, 3]) for name in drawn.sample(names, 4)}
        settings["scale.learning_rate"] = settings.get("optimizer.learning_rate")
        whole = {**dict.fromkeys(names, None), **settings}
        if str(whole) not in seen:
            seen.add(str(whole))
            shelf.put(f"t{number}", settings=settings)
    entries = list(look(shelf.store).entries.values())
    told = [tuple(text(value(entry, name)) for name in columns.telling(entries)) for entry in entries]
    assert len(set(told)) == len(entries)


def test_what_groups_are_made_into_counts_where_nothing_else_differs(shelf: Shelf) -> None:
    for size in (1, 2):
        shelf.put(f"t{size}", settings={"model.network.size": size})
    assert columns.telling([*look(shelf.store).entries.values()]) == ["model.network.size"]


def test_what_repeats_another_column_is_left_out(shelf: Shelf) -> None:
    for number, rate in enumerate((0.1, 0.2)):
        for model in ("mamba", "diff_mamba"):
            settings = {"optimizer.learning_rate": rate, "scale.learning_rate": rate, "model.name": model}
            settings |= {"model.outer_norm": model == "diff_mamba", "model.network.rate": rate}
            shelf.put(f"{model}{number}", settings=settings)
    assert columns.telling([*look(shelf.store).entries.values()]) == ["model.name", "optimizer.learning_rate"]


def test_stores_without_runs(shelf: Shelf, runs: Runs) -> None:
    assert runs("list").out == f"no runs in {shelf.directory}\n"
    assert runs("list", "model=mamba", "columns=anything").status == 0
    assert runs("list", "format=json").out == "[]\n"
    shelf.put("t1")
    assert runs("list", "seed=7").out == f"none of the 1 runs in {shelf.directory} fits\n"


def test_damage_is_said(shelf: Shelf, runs: Runs) -> None:
    shelf.put("t1")
    shelf.put("t2").write_text("{")
    told = runs("list")
    assert told.status == 0
    assert "t2 is left out: " in told.out
    assert "is damaged" in told.out


def test_record_of_the_first_version(shelf: Shelf, runs: Runs) -> None:
    old = {
        "id": "t1",
        "status": "finished",
        "started": "2025-01-01T00:00:00",
        "evaluations": [{"step": 1, "test/ppl": 3.0}],
    }
    path = shelf.directory / "t1" / "result.json"
    path.parent.mkdir()
    path.write_text(json.dumps(old | {"config": {"model": {"name": "mamba"}, "data": {"name": "text8"}}}))
    shelf.put("t2")
    assert [row.split()[0] for row in runs("list").rows] == ["t1", "t2"]
    assert runs("show", "t1").status == 0


def test_help(runs: Runs) -> None:
    told = runs()
    assert (told.status, told.err) == (0, "")
    assert all(name in told.out for name in ("list", "show", "diff", "curves", "prune", "export"))
    assert "columns=" in runs("list", "--help").out
    assert "did you mean list?" in runs("lst").refusal()


def test_data_are_chosen_by_their_file_or_by_their_name(shelf: Shelf, runs: Runs) -> None:
    for run, name in (("t1", "compression"), ("t2", "memorization"), ("t3", "pydoc8")):
        shelf.put(run, settings={"data.name": name})
    for word, found in (
        ("data=compression", ["t1"]),
        ("data=mad/compression", ["t1"]),
        ("data=mad/*", ["t1", "t2"]),
        ("data!=mad/*", ["t3"]),
        ("data=pydoc8,mad/memorization", ["t2", "t3"]),
    ):
        assert sorted(row.split()[0] for row in runs("list", word).rows) == found
