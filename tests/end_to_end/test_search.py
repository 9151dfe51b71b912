"""A search through Hydra's plug-in for Optuna: resumable by the run store alone, and checked before it begins."""

import json
import math
from typing import Any

import pytest
import yaml

from diffmamba.runs import RunTakenError, search
from diffmamba.tasks import LanguageModelling

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
QUICK = ("scale.steps=4", "scale.evaluate_every=2")


def searched(command: Any, world: Any, *words: str, trials: int = 2) -> Any:
    return command("train", ["sweeps=search", *world.words(*QUICK, f"hydra.sweeper.n_trials={trials}", *words)])


def best(world: Any) -> dict[str, Any]:
    return yaml.safe_load((world.store.directory / ".sweep" / "optimization_results.yaml").read_text())


def rates(world: Any) -> list[float]:
    """The learning rates of the trials."""
    return sorted(record["config"]["optimizer"]["learning_rate"] for record in world.store.records().values())


@pytest.fixture(scope="module")
def undisturbed(new_world, command):
    world = new_world("search")
    assert searched(command, world).status == 0
    return world


def test_the_best_trial_is_that_of_the_val_split(undisturbed):
    records = undisturbed.store.records().values()
    assert len(records) == 2
    winner = min(records, key=lambda record: record["evaluations"][-1]["val/ppl"])
    optimizer = winner["config"]["optimizer"]
    assert best(undisturbed)["best_value"] == winner["evaluations"][-1]["val/ppl"]
    assert best(undisturbed)["best_params"] == {
        "scale.learning_rate": optimizer["learning_rate"],
        "optimizer.weight_decay": optimizer["weight_decay"],
    }


def test_the_same_command_goes_on_with_a_search(undisturbed, world, command, monkeypatch):
    """And trains nothing again: the sampler proposes the same, since it is given the same results."""
    training_step, steps = LanguageModelling.training_step, []

    def struck(task, batch, index):
        steps.append(task.global_step)
        if len(steps) == 7:  # in the second trial, after its first evaluation
            raise KeyboardInterrupt
        return training_step(task, batch, index)

    monkeypatch.setattr(LanguageModelling, "training_step", struck)
    assert searched(command, world).status == 130
    statuses = [record["status"] for record in world.store.records().values()]
    assert sorted(statuses) == ["finished", "interrupted"]
    assert searched(command, world).status == 0
    assert rates(world) == rates(undisturbed)
    assert len(steps) == 9  # two trainings of 4 steps, and the step that was struck
    assert {**best(world)} == {**best(undisturbed)}
    assert searched(command, world).status == 0
    assert len(steps) == 9


def test_a_trial_that_fails_is_worse_than_any_other(undisturbed, world, command, monkeypatch):
    training_step, first = LanguageModelling.training_step, rates(undisturbed)[0]

    def fails(task, batch, index):
        if task.optimizers().param_groups[0]["initial_lr"] == first and task.global_step == 2:
            raise ZeroDivisionError("no such number")
        return training_step(task, batch, index)

    monkeypatch.setattr(LanguageModelling, "training_step", fails)
    outcome = searched(command, world)
    assert outcome.status == 1  # as a grid with a failed cell
    assert sorted(record["status"] for record in world.store.records().values()) == ["failed", "finished"]
    assert math.isfinite(best(world)["best_value"])
    assert best(world)["best_params"]["scale.learning_rate"] != first


def test_a_trial_that_another_process_does_is_waited_for(world, monkeypatch):
    calls = []

    def execute(work, progress_bar):
        calls.append(work)
        if len(calls) < 3:
            raise RunTakenError("run is worked on by another process")
        return {"status": "finished"}

    monkeypatch.setattr(search, "execute", execute)
    monkeypatch.setattr(search, "WAIT_SECONDS", 0.0)
    assert search.trial(world.work()) == {"status": "finished"}
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hydra.sweeper.direction=maximize", "hydra.sweeper.direction=maximize: it must be minimize, since lower is"),
        ("optimizer.weight_decay=interval(-1,1)", "optimizer.weight_decay=-1.0 must be a number of at least 0"),
        ("scale.n_layers=range(0,3)", "scale.n_layers=0 must be a whole number of at least 1"),
        ("scale.learning_rate=interval(0.1,0.01)", "scale.learning_rate=interval(0.1,0.01) begins above its end"),
        ("optimizer.weight_decay=tag(log,interval(0,1))", "interval(0,1)) must begin above 0, since its logarithm is"),
        ("model=choice(mamba,mambo)", "model=mambo is not known; did you mean mamba?"),
        ("scale.stepz=3", "there is no setting scale.stepz; did you mean scale.steps?"),
        ("scale.batch_size=100000", "100000"),
        ("hydra/sweeper=optima", "hydra/sweeper=optima is not known; available are basic, optuna"),
    ],
)
def test_what_is_wrong_is_one_line_before_the_first_trial(world, command, word, says):
    assert says in searched(command, world, word).refusal()
    assert not world.store.directory.exists()


def test_a_search_without_a_range_is_refused(world, command):
    words = ["-m", "hydra/sweeper=optuna", *world.words(*QUICK)]
    assert "there is nothing to search" in command("train", words).refusal()


def test_a_search_has_no_plan(world, command):
    line = command("sweep", ["sweep=search", *world.words(*QUICK)]).refusal()
    assert line == "error: sweep=search is a search, whose cells are not known beforehand: use diffmamba train\n"


def test_report_shows_the_trials_of_a_search_and_no_other_run_of_its_group(undisturbed, command):
    """The last test here: it adds runs to the store."""
    words = undisturbed.words(*QUICK)
    for other in ("scale.steps=6", "optimizer.learning_rate=1e-2"):  # not what the search composes to
        undisturbed.train(*QUICK, "group=search", other)
    reports = f"reports={undisturbed.folder / 'reports'}"
    outcome = command("report", ["sweep=search", *words, reports, "hydra.sweeper.n_trials=2"])
    assert (outcome.status, outcome.err) == (0, "")
    (page,) = (undisturbed.folder / "reports").iterdir()
    content = json.loads((page / "table.json").read_text())
    assert content["rows"][0]["val/ppl"] == best(undisturbed)["best_value"]
    found = {name: content["rows"][0][name] for name in best(undisturbed)["best_params"]}
    assert found == best(undisturbed)["best_params"]
    assert len(content["rows"]) == 2
    assert command("report", ["sweep=search", *words, reports, "seed=5"]).status == 1
    for name, words, told in (
        ("reproduce", (), "sweep=search is a search: diffmamba train sweeps=search does its trials"),
        ("report", ("baseline=model=mamba",), "baseline= is for a grid"),
    ):
        assert told in command(name, ["sweep=search", *undisturbed.words(*QUICK), *words]).refusal()
