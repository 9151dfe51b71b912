"""`diffmamba runs prune`: what it removes, and what it never removes."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from shelves import Shelf

from diffmamba.browse import needed, pruning
from diffmamba.errors import SettingError
from diffmamba.runs.index import look
from tests.outcome import Outcome

Runs = Callable[..., Outcome]


@dataclass(frozen=True)
class Item:
    """A work of a plan."""

    id: str
    needs: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Item]]:
    """The plans of all sweeps, by the words `SWEEP scale=SCALE`; at first that of one sweep, which is empty."""
    found: dict[str, list[Item]] = {"table9 scale=smoke": []}

    def expand(sweep: str, words: list[str], prepare: bool) -> list[Item]:
        assert not prepare
        key = " ".join([sweep, *(word for word in words if not word.startswith("runs="))])
        if key not in found:
            raise SettingError(f"no plan for {key}")
        return found[key]

    names = {"sweeps": ["table9"], "scale": ["smoke"]}
    monkeypatch.setattr(needed, "_names_of", names.__getitem__)
    monkeypatch.setattr(needed, "_expand", lambda: expand)
    return found


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    for name in ("ta1", "ta2", "tb1"):
        shelf.put(name, settings={"seed": int(name[2])})
        shelf.checkpoint(name)
    return shelf


def test_nothing_is_removed_unless_told(filled: Shelf, runs: Runs) -> None:
    before = filled.names()
    told = runs("prune", "what=checkpoints,runs,logs,aside", "seed=1")
    assert told.status == 0
    assert filled.names() == before
    assert f"{filled.directory}/ta1" in told.out
    assert "2 would be removed" in told.out
    assert "nothing was removed; yes=true does it" in told.out


def test_checkpoints_of_chosen_runs(filled: Shelf, runs: Runs) -> None:
    told = runs("prune", "what=checkpoints", "id=ta*", "yes=true")
    assert "2 removed: 2.0 kB (2,000 bytes)" in told.out
    assert [name for name in filled.names() if "ckpt" in name] == ["tb1/checkpoints/last.ckpt"]
    assert len(look(filled.store).entries) == 3


def test_whole_runs(filled: Shelf, runs: Runs) -> None:
    assert runs("prune", "what=runs", "seed=1", "id=ta*", "yes=true").status == 0
    assert list(look(filled.store).entries) == ["ta2", "tb1"]
    assert not [name for name in filled.names() if "ta1" in name or "pruned" in name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["what=runs", "yes=true"], "needs a word that chooses runs"),
        (["what=everything"], "what=everything must be one or more of"),
        ([], "what= must be one or more of"),
        (["what=logs", "yes=maybe"], "yes=maybe must be true or false"),
        (["what=runs", "statsu=failed", "yes=true"], "did you mean status?"),
    ],
)
def test_wrong_words_remove_nothing(filled: Shelf, runs: Runs, words: list[str], said: str) -> None:
    before = filled.names()
    assert said in runs("prune", *words).refusal()
    assert filled.names() == before


def test_plan_of_a_sweep_is_kept_unless_told(filled: Shelf, runs: Runs, plans: dict[str, list[Item]]) -> None:
    plans["table9 scale=smoke"] = [Item("ta1")]
    told = runs("prune", "what=runs", "id=t*", "yes=true")
    assert list(look(filled.store).entries) == ["ta1"]
    assert "ta1" in told.out
    assert "in the plan of sweep=table9 scale=smoke" in told.out
    runs("prune", "what=runs", "id=t*", "needed=true", "yes=true")
    assert not look(filled.store).entries


def test_checkpoints_that_an_unfinished_measurement_needs(
    filled: Shelf, runs: Runs, plans: dict[str, list[Item]]
) -> None:
    filled.put("m1", kind="measurement", measure={"name": "PPL"}, values={}, weights={})
    plans["table9 scale=smoke"] = [Item("m1", ("ta1",)), Item("m2", ("tb1",))]  # one of which is done
    runs("prune", "what=checkpoints", "yes=true")
    assert [name for name in filled.names() if "ckpt" in name] == ["tb1/checkpoints/last.ckpt"]


def test_sweep_that_has_no_plan_at_a_scale(filled: Shelf, runs: Runs, plans: dict[str, list[Item]]) -> None:
    plans.clear()
    plans["table9"] = [Item("ta1")]
    told = runs("prune", "what=runs", "id=ta*", "yes=true")
    assert "sweep=table9 scale=smoke has no plan: no plan for table9 scale=smoke" in told.out
    assert list(look(filled.store).entries) == ["ta1", "tb1"]


def test_sweep_that_has_no_plan(filled: Shelf, runs: Runs, plans: dict[str, list[Item]]) -> None:
    """A search, or a broken file: whatever belongs to its group may be needed."""
    plans.clear()
    filled.put("ta1", settings={"group": "table9"})
    told = runs("prune", "what=runs", "id=ta*", "yes=true")
    assert "sweep=table9 has no plan, so all runs of group=table9 are kept: no plan for table9" in told.out
    assert list(look(filled.store).entries) == ["ta1", "tb1"]


@pytest.mark.parametrize("further", ["needed=false", "needed=true"])
def test_run_under_way_is_kept(filled: Shelf, runs: Runs, further: str) -> None:
    filled.put("ta1", status="running")
    with filled.store.run("ta1").claim():
        told = runs("prune", "what=runs,checkpoints,logs", "id=t*", "yes=true", further)
    assert "a process works on it" in told.out
    assert list(look(filled.store).entries) == ["ta1"]
    assert (filled.directory / "ta1/checkpoints/last.ckpt").exists()


def test_run_that_was_claimed_in_the_meantime_is_kept(filled: Shelf, runs: Runs) -> None:
    """As by `retry=failed`, which writes its first record a moment later."""
    with filled.store.run("ta1").claim():
        told = runs("prune", "what=runs", "id=t*", "yes=true")
    assert told.status == 1
    assert "not removed: 1" in told.out
    assert list(look(filled.store).entries) == ["ta1"]


def test_run_that_was_done_again_in_the_meantime_is_kept(
    filled: Shelf, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.put("ta1", status="failed", error={"message": "no"})

    def expand(*_: Any, **__: Any) -> list[Item]:  # takes a while
        filled.put("ta1")
        return []

    monkeypatch.setattr(needed, "_expand", lambda: expand)
    told = runs("prune", "what=runs", "status=failed", "yes=true")
    assert told.status == 1
    assert "run ta1 has changed in the meantime" in told.out
    assert look(filled.store).entries["ta1"].status == "finished"


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_weights_that_others_start_from(filled: Shelf, runs: Runs, status: str) -> None:
    error = {"message": "no"}
    filled.put("tc1", settings={"weights.run": "ta1"}, weights={"run": "ta1"}, status=status, error=error)
    told = runs("prune", "what=runs", "id=ta*", "yes=true")
    assert "training tc1 takes its weights" in told.out
    assert list(look(filled.store).entries) == ["ta1", "tb1", "tc1"]
    runs("prune", "what=runs", "id=ta*", "needed=true", "yes=true")
    assert ("ta1" in look(filled.store).entries) == (status != "finished")


def test_plan_of_a_sweep_under_way(filled: Shelf, runs: Runs) -> None:
    plan = filled.directory / ".sweep" / "mine-1a2b" / "plan.jsonl"
    plan.parent.mkdir(parents=True)
    plan.write_text('{"id": "ta1", "needs": []}\n{"id": "m1", "needs": ["ta2"]}\n{"cut')
    runs("prune", "what=runs", "id=t*", "needed=true", "yes=true")
    assert list(look(filled.store).entries) == ["ta1", "ta2"]


def test_checkpoints_of_an_interrupted_run(filled: Shelf, runs: Runs) -> None:
    filled.put("ta1", status="interrupted")
    told = runs("prune", "what=checkpoints", "yes=true")
    assert "it is interrupted, and goes on from them" in told.out
    assert [name for name in filled.names() if "ckpt" in name] == ["ta1/checkpoints/last.ckpt"]
    runs("prune", "what=checkpoints", "needed=true", "yes=true")
    assert not [name for name in filled.names() if "ckpt" in name]


def test_what_was_set_aside(filled: Shelf, runs: Runs) -> None:
    old = time.time() - 7200
    shutil.copytree(filled.directory / "ta1", filled.directory / "ta1.before-1")
    shutil.copytree(filled.directory / "ta1", filled.directory / "ta2.before-1")
    filled.put("tc1", settings={"weights.run": "ta2.before-1"})
    (filled.directory / "ta1/result.json.damaged-1").write_text("{")
    (filled.directory / "tb1/.result.json.1a2b.new").write_text("{")
    (filled.directory / ".sweep").mkdir()
    for name in ("old.log", "new.log"):
        (filled.directory / ".sweep" / name).write_text("said")
    os.utime(filled.directory / ".sweep/old.log", (old, old))
    told = runs("prune", "what=aside", "yes=true")
    assert "4 removed" in told.out
    left = [name for name in filled.names() if "/" not in name or "new" in name or "damaged" in name]
    assert left == [".sweep", ".sweep/new.log", "ta1", "ta2", "ta2.before-1", "tb1", "tc1"]


def test_interrupted_removal_leaves_no_half_run(filled: Shelf, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Any) -> None:
        next(path.rglob("*.ckpt")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pruning, "_gone", killed)
        assert runs("prune", "what=runs", "id=ta*", "yes=true").status == 130
    assert list(look(filled.store).entries) == ["ta2", "tb1"]
    assert filled.store.ids() == ["ta2", "tb1"]
    assert runs("prune", "what=aside", "yes=true").status == 0
    assert not [name for name in filled.names() if "ta1" in name or "pruned" in name]


def test_what_cannot_be_removed_is_said(filled: Shelf, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pruning, "_gone", refused)
    told = runs("prune", "what=checkpoints", "id=ta1", "yes=true")
    assert told.status == 1
    assert "Read-only file system" in told.out
    assert "0 removed" in told.out


def test_a_plan_is_what_hydra_makes_of_a_sweep(monkeypatch: pytest.MonkeyPatch, filled: Shelf, tmp_path: Any) -> None:
    """Of the user's own directory too, and without data that were never seen."""
    monkeypatch.undo()
    own = tmp_path / "conf" / "sweeps" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,1\n      model: mamba\n")
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path / "conf"))
    assert {"mine", "table1", "table2"} <= set(needed._names_of("sweeps"))
    own.with_name("other.yaml").write_text("# @package _global_\ngroup: of_others\n")
    assert [needed._group_of(name) for name in ("table1", "mine", "other", "none")] == [
        *("table1", "mine", "of_others", "none")
    ]
    names = {"sweeps": ["mine"], "scale": ["smoke"]}
    monkeypatch.setattr(needed, "_names_of", names.__getitem__)
    entries = look(filled.store).entries
    found = needed.by_tables(filled.store, {name: replace(entry) for name, entry in entries.items()})
    assert len(found.runs) == 2
    assert set(found.runs.values()) == {"in the plan of sweep=mine scale=smoke"}
    assert not found.unknown
