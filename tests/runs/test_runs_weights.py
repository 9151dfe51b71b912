"""Which run is meant: by its id, by the beginning of one, by its directory."""

import json

import pytest

from diffmamba.errors import SettingError
from diffmamba.runs.weights import OfRun

IDS = ("t3f2a9c01b7d", "t3f2b000000", "t90000000000")


@pytest.fixture
def store(tmp_path):
    for name in (*IDS, "t3f2a9c01b7d.before-1", "m11111111111"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        kind = "measurement" if name.startswith("m") else "training"
        of_kind = {"evaluations": []} if kind == "training" else {"measure": {}, "values": {}, "weights": {}}
        config = {"data": {"module": {}}, "model": {}}
        record = {"id": name, "kind": kind, "status": "finished", "started": "2026", "config": config, **of_kind}
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps(record))
    (tmp_path / "runs" / "t90" / "not a run").mkdir(parents=True)
    return tmp_path / "runs"


def found(given, store):
    return OfRun(str(given), store=str(store)).found.directory


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *((name, name) for name in IDS),
        *(("t3f2a", IDS[0]), ("t3f2b", IDS[1]), ("t9", IDS[2]), ("t9/", IDS[2]), ("t3f2a9c01b7d/", IDS[0])),
        ("t3f2a9c01b7d.before-1", "t3f2a9c01b7d.before-1"),
    ],
)
def test_an_id_and_the_beginning_of_one(store, given, name):
    assert found(given, store) == store / name


def test_a_directory(store, monkeypatch, tmp_path):
    run, link = store / IDS[0], tmp_path / "best"
    link.symlink_to(run)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (run, f"{run}/", "~/runs/t3f2a9c01b7d", "~/runs/t3f2a9c01b7d/", link, "~/best", "~/best/"):
        assert found(given, "elsewhere") == run
    monkeypatch.chdir(run)
    assert found(".", "elsewhere").resolve() == found("../t3f2a9c01b7d", "elsewhere").resolve() == run
    assert found(".", "elsewhere").name == IDS[0]


WRONG = {
    "t3f": "is the beginning of 2 runs: t3f2a9c01b7d, t3f2b000000$",
    "t3f2a9c01b7e": "is not a run: there is no result.json in it; nearest in .* are t3f2a9c01b7d",
    "nothing like it": "is not a run: there is no result.json in it, and .*runs has no such id",
    "runs/t9": "is not a run",
    "": "is missing",
    "x" * 300: "is not a run",
}


@pytest.mark.parametrize(("given", "says"), WRONG.items())
def test_what_is_no_run_is_one_line_with_the_nearest(store, given, says):
    for named in ("run", "weights.run"):
        with pytest.raises(SettingError, match=says) as told:
            assert OfRun(given, store=str(store), named=named).found
        assert str(told.value).startswith(f"{named}={given}")
        assert "\n" not in str(told.value)


def test_a_measurement_has_no_weights(store):
    with pytest.raises(SettingError, match=r"^weights\.run=m1 is a measurement"):
        assert OfRun("m1", store=str(store), named="weights.run").record
