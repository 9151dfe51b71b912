"""A run whose sources have changed is told, and `force=true` does it anew beside the old one."""

import sys

import pytest

from diffmamba.runs import sources
from diffmamba.runs.execution import execute
from diffmamba.runs.plan import expand
from diffmamba.runs.weights import OfRun

MIXER = '''
from diffmamba.mixers import Mamba2

FACTOR = 1.0


class Mine(Mamba2):
    """A mixer of a user's own."""

    def forward(self, x, *arguments, **more):
        return super().forward(FACTOR * x, *arguments, **more)

    def step(self, x, state):
        return super().step(FACTOR * x, state)
'''
YAML = """
defaults: [mamba, _self_]
name: mine
mixers:
  - _target_: my_mixer.Mine
    _partial_: true
    headdim: 32
    d_state: 8
"""
CHANGED = "its sources have changed since: my_mixer; force=true"


@pytest.fixture
def mine(world, monkeypatch):
    """Writes the user's mixer with a factor, as a new process would load it. Returns the words of a training of it."""
    monkeypatch.chdir(world.folder)
    monkeypatch.syspath_prepend(str(world.folder))
    (world.folder / "conf" / "model").mkdir(parents=True)
    (world.folder / "conf" / "model" / "mine.yaml").write_text(YAML)

    def write(factor, comment=""):
        (world.folder / "my_mixer.py").write_text(MIXER.replace("1.0", str(factor)) + comment)
        sys.modules.pop("my_mixer", None)
        return ["model=mine"]

    yield write
    sys.modules.pop("my_mixer", None)


def test_a_changed_mixer_is_told_and_trained_anew_only_with_force(world, command, mine):
    words = world.words(*mine(1.0))
    assert command("train", words).status == 0
    (first,) = world.store.records().values()
    assert "my_mixer" in first["sources"]["digests"]
    mine(1.0, "# a comment")
    before = world.contents()
    assert command("train", words).out.splitlines()[0] == f"finished at {first['finished']}, not trained again"
    assert "force=true has nothing to do" in command("train", [*words, "force=true"]).out
    mine(0.5)
    outcome = command("train", words)
    assert outcome.status == 0
    assert outcome.out.splitlines()[1] == f"{CHANGED} trains it anew beside the old one"
    assert world.contents() == before
    outcome = command("train", [*words, "force=true"])
    assert (outcome.status, outcome.quiet) == (0, True)
    (second,) = world.store.records().values()
    assert second["id"] == first["id"]
    assert second["evaluations"] != first["evaluations"]
    run, old = world.run(second), world.store.run(f"{first['id']}.before-1")
    assert (run.logged_as, old.logged_as) == (f"{run.id}-2", old.id)
    assert old.read() == first | {"id": old.id}
    assert sources.changed(old.read()) == ["my_mixer"]
    assert "force=true has nothing to do" in command("train", [*words, "force=true"]).out
    for name in (run.id, old.id, str(old.directory)):
        assert command("generate", [f"run={name}", f"runs={world.store.directory}", "length=2"]).status == 0


def test_a_run_that_goes_on_with_other_sources_says_so_for_good(world, caplog, mine):
    settings = mine(1.0)
    world.interrupted(9, *settings)
    mine(0.5)
    record = world.train(*settings)
    assert "goes on with other sources than before: my_mixer; force=true" in caplog.text
    assert record["sources"]["mixed"] == sources.changed(record) == ["my_mixer"]
    anew = world.train(*settings, "force=true")
    assert anew["sources"]["mixed"] == sources.changed(anew) == []
    assert [entry["step"] for entry in anew["evaluations"]] == [4, 8, 12]
    world.interrupted(2, *settings, "seed=1")  # before its first checkpoint
    mine(0.25)
    assert world.train(*settings, "seed=1")["sources"]["mixed"] == []


def test_measurements_follow_their_weights(world, command, mine):
    settings = ["weights=trained", *mine(1.0)]
    first = world.measure(*settings)
    mine(0.5)
    outcome = command("measure", world.words(*settings))
    assert f"{CHANGED} measures it anew" in outcome.out
    assert world.measure(*settings) == first
    anew = world.measure(*settings, "force=true")
    assert anew["id"] == first["id"]
    assert anew["values"] != first["values"]
    assert anew["weights"]["anew"] == 1
    mine(0.25)
    trained = world.train("model=mine", "force=true")
    third = world.measure(*settings)  # its weights are no longer those that were measured
    assert third["weights"] == {"kind": "OfRun", "run": trained["id"], "checkpoint": "last", "step": 12, "anew": 2}
    assert len({record["values"]["ppl"] for record in (first, anew, third)}) == 3
    before = world.contents()
    assert world.measure(*settings) == third
    assert world.contents() == before
    old = OfRun(f"{trained['id']}.before-1", store=str(world.store.directory))
    assert old.content()["run"] == f"{trained['id']}.before-1"  # another measurement than that of the new one


def test_a_record_without_sources_is_left_alone_unless_forced(world, caplog):
    record = world.train()
    world.run(record).write({key: value for key, value in record.items() if key != "sources"})
    assert "sources" not in world.train()
    assert "changed" not in caplog.text
    assert "sources" in world.train("force=true")


def test_workers_that_are_forced_at_once_do_each_work_once(world, mine):
    settings = mine(1.0)
    world.train(*settings)
    mine(0.5)
    with world.run(world.train(*settings)).claim(), pytest.raises(RuntimeError, match="worked on by another process"):
        world.train(*settings, "force=true")
    assert len(list(world.store.directory.glob("t*"))) == 1
    for _ in range(3):
        world.train(*settings, "force=true")
    assert sorted(path.name.partition(".")[2] for path in world.store.directory.glob("t*")) == ["", "before-1"]


def test_a_sweep_tells_how_many_runs_have_other_sources(world, command, mine, forked_workers):
    grid = world.words("model=mine", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0,1")
    mine(1.0)
    for item in expand("table2", grid):
        execute(item.work, progress_bar=False)
    mine(0.5)
    outcome = command("sweep", ["sweep=table2", *grid])
    assert outcome.status == 0
    said = " ".join(outcome.out.split())
    assert "2 of 2 runs were made with other sources, which have changed since: my_mixer; force=true" in said
    outcome = command("sweep", ["sweep=table2", "workers=1", *grid, "force=true"])
    assert (outcome.status, outcome.err) == (0, "")
    assert "2 of 2 runs to do" in outcome.out
    assert len(list(world.store.directory.glob("t*.before-1"))) == len(world.store.records()) == 2
    assert not list(world.store.directory.glob("*.before-2"))
