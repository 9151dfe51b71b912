"""A sweep that shares runs with another one: they keep the group of the sweep that trained them first."""

import pytest

from diffmamba.dashboard import choice, description, variants
from diffmamba.runs import index
from diffmamba.runs.plan import expand
from tests.dashboard.desks import asked, run_sets

SWEEP = """# @package _global_
group: {name}
hydra: {{mode: MULTIRUN, sweeper: {{params: {{model: mamba, optimizer.learning_rate: "{rates}", seed: "0"}}}}}}
"""
CORPUS = {"name": "pydoc8", "fingerprint": "9c1d", "sizes": {"train": 3000, "val": 9, "test": 100}, "vocabulary": 27}


@pytest.fixture
def _plans():
    """Here plans are looked at."""


@pytest.fixture
def planned(desk):
    """Two sweeps that share a rate; the first one has trained its runs. Returns the works of the second."""
    folder = desk.folder / "conf" / "sweeps"
    folder.mkdir(parents=True)
    for name, rates in {"first": "0.1,0.2", "second": "0.2,0.3"}.items():
        (folder / f"{name}.yaml").write_text(SWEEP.format(name=name, rates=rates))
    known = {"any": {"config": expand("first", [], prepare=False)[0].config, "corpus": CORPUS, "started": "2026"}}
    works = {name: expand(name, [], prepare=False, records=known) for name in ("first", "second")}
    for item in works["first"]:
        desk.shelf.put(item.id, config=dict(item.config), corpus=CORPUS)
        session = desk.shelf.directory / item.id / "wandb" / f"offline-run-20261127_000000-{item.id}"
        session.mkdir(parents=True)
    return works["second"]


def test_it_has_the_runs_that_the_other_one_has_trained(desk, planned, monkeypatch):
    monkeypatch.setattr(choice, "sweeps", lambda: {"first": "first", "second": "second"})
    for words in ["what=second"], []:
        outcome = desk.make(*words)
        assert outcome.status == 0, outcome.err
        (runs, *_) = run_sets(desk.written("second-smoke")["spec"])
        assert sorted(asked(runs)["run.value"]) == sorted(item.id for item in planned)
        (shared,) = desk.reports.glob("wandb/second/*")
        assert shared.resolve().parents[1].name in {item.id for item in planned}
        assert "second: 1 of its runs was trained in the group first; the page shows all of its plan" in outcome.out
    (runs, *_) = run_sets(desk.written("first-smoke")["spec"])
    assert asked(runs)["group"] == "first"


def test_it_has_no_runs_of_its_group_that_are_not_in_its_plan(desk):
    """Such as trials with other settings: their lines would be drawn into those of the plan."""
    told = description.Description(group="second", sections=[])
    for name, group in {"trial": "second", "t1": "first", "t2": "second"}.items():
        desk.shelf.put(name, settings={"group": group})
        page = variants.shown("second", told, index.entries(desk.shelf.store).values(), "smoke", ["t1", "t2", "t3"])
        if name == "t1":  # none of the plan in the group itself: it is a sweep of trials
            assert [entry.id for entry in page.entries] == ["trial"]
            assert (page.runs, page.left) == ((), 0)
    assert [entry.id for entry in page.entries] == ["t1", "t2"]
    assert (page.runs, page.left) == (["t1", "t2", "t3"], 1)
