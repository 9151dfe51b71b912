"""A published table, from its sweep to its page, equals what the runs say, and costs nothing the second time."""

import csv
import errno
import json
import os
import signal
import sys
import threading
from contextlib import chdir
from io import BytesIO, TextIOWrapper
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from diffmamba.__main__ import main
from diffmamba.runs import RunTakenError
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.plan import expand
from diffmamba.tasks import LanguageModelling

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `reproduction`, whose pictures are drawn
CELLS, SEEDS = 4, (0, 7)
TINY = ("scale.steps=8", "model=mamba,diff_mamba", "model.lambda_form=scalar", "seed=0,7")
ONE_NORM = ("model=mamba,diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0")


def reports(world):
    return f"reports={world.folder / 'reports'}"


@pytest.fixture(scope="module")
def reproduction(new_world, command):
    """A world in which table 2 was reproduced by two worker processes, and the outcome of that command.

    A file in the working directory has the name of a module of Python's: it hides that from no worker.
    """
    world = new_world("reproduction")
    (world.folder / "timeit.py").write_text("raise SystemExit('hidden')")
    with chdir(world.folder):
        return world, command("reproduce", ["table=table2", *world.words(*TINY, reports(world), "workers=2")])


def written(outcome):
    """The directory of the page that a command wrote last."""
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("written to ")]
    return Path(line.removeprefix("written to ")).parent


def table(outcome):
    return json.loads((written(outcome) / "table.json").read_text())


def train(planned):
    return execute(planned.work, progress_bar=False)


def test_reproduction_trains_every_run_of_the_grid_once_and_says_where_it_is(reproduction):
    world, outcome = reproduction
    assert (outcome.status, outcome.err, outcome.quiet) == (0, "", True)
    page = written(outcome)
    assert page.parent == world.folder / "reports"
    assert page.name.startswith("table2-smoke-data.path=")  # these are not the paper's settings
    assert f"{CELLS * len(SEEDS)}/{CELLS * len(SEEDS)} " in outcome.out
    files = {path.name for path in page.iterdir()}
    pictures = {f"{name}.{kind}" for name in ("curves", "deltas", "over_training") for kind in ("svg", "png")}
    assert files == {"table.json", "table.csv", "table.md", "index.html", "curves.csv", *pictures}
    records = world.store.records()
    assert len(records) == CELLS * len(SEEDS)
    assert {(r["status"], r["config"]["group"]) for r in records.values()} == {("finished", "table2")}


def test_table_equals_its_runs(reproduction):
    world, outcome = reproduction
    runs: dict[tuple[str, bool, str | None], dict[int, dict[str, Any]]] = {}
    for record in world.store.records().values():
        model = record["config"]["model"]
        form = None if model["name"] == "mamba" else model["lambda_form"]
        runs.setdefault((model["name"], model["outer_norm"], form), {})[record["config"]["seed"]] = record
    rows = {(row["model"], row["outer_norm"], row["lambda_form"]): row for row in table(outcome)["rows"]}
    assert rows.keys() == runs.keys()
    assert len(rows) == CELLS
    ppl = {key: [run["evaluations"][-1]["test/ppl"] for run in by_seed.values()] for key, by_seed in runs.items()}
    for key, row in rows.items():
        assert row["status"] == "complete"
        assert row["seeds"] == sorted(runs[key]) == list(SEEDS)
        assert row["ppl_mean"] == pytest.approx(mean(ppl[key]), rel=1e-12)
        assert row["ppl_std"] == pytest.approx(stdev(ppl[key]), rel=1e-9)
        assert row["delta"] == pytest.approx(mean(ppl[key]) - mean(ppl["mamba", False, None]), abs=1e-12)
        assert {run["parameters"]["total"] for run in runs[key].values()} == {row["params"]}
    assert len({tuple(values) for values in ppl.values()}) == CELLS  # no cell is another in disguise


@pytest.mark.parametrize("name", ["reproduce", "report"])
def test_second_call_trains_nothing(reproduction, command, monkeypatch, name):
    world, first = reproduction
    before, said = world.contents(), table(first)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    again = command(name, ["table=table2", *world.words(*TINY, reports(world))])
    assert (again.status, again.err) == (0, "")
    assert world.contents() == before
    assert written(again) == written(first)
    assert table(again) == said
    assert again.out.splitlines()[-8:] == first.out.splitlines()[-8:]  # the same table, without the way to it


def test_figure_and_table_share_their_runs(world, command):
    row = world.words("published.depth=shallow", "data.stands_for=text8", "seed=0")
    planned = expand("table1", row)
    assert [train(item)["status"] for item in planned] == ["finished"] * 2
    before = world.contents()
    figure = command("reproduce", ["figure=figure2", *row, reports(world)])
    assert (figure.status, figure.err) == (0, "")
    report = command("report", ["table=table1", *row, reports(world)])
    assert report.status == 0
    assert world.contents() == before
    rows = table(report)["rows"]
    assert [(row["data"], row["trained_on"], row["trained_layers"]) for row in rows] == [("text8", "text", 1)] * 2
    points = csv.DictReader((written(figure) / "figure2.csv").read_text().splitlines())
    assert {point["model"]: float(point["ppl_mean"]) for point in points} == {
        row["model"]: row["ppl_mean"] for row in rows
    }


def test_table_is_shown_without_training(world, command):
    """A store with a finished, an interrupted and a failed run; one never started."""
    words = world.words(*ONE_NORM, "seed=0,1")
    planned = expand("table2", words)
    assert len(planned) == 4
    finished = train(planned[0])
    world.interrupted(6, "experiments=table2", "model=mamba", "model.lambda_form=scalar", "seed=1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LanguageModelling, "training_step", lambda *_: 1 / 0)
        assert train(planned[2])["status"] == "failed"
    before = world.contents()
    outcome = command("report", ["table=table2", *words, reports(world)])
    assert (outcome.status, outcome.err) == (1, "")
    assert world.contents() == before
    mamba, diff_mamba = table(outcome)["rows"]
    assert (mamba["status"], mamba["seeds"], mamba["ppl_std"]) == ("partial", [0], None)
    assert mamba["ppl_mean"] == finished["evaluations"][-1]["test/ppl"]
    assert (diff_mamba["status"], diff_mamba["seeds"], diff_mamba["ppl_mean"]) == ("failed", [], None)
    printed, kept = " ".join(outcome.out.split()), " ".join(table(outcome)["missing"])
    told = [f"interrupted at step 4 of 12 (run {planned[1].id})", "failed at step 0", "seed 1 not started"]
    assert all(text in printed and text in kept for text in told), printed
    assert "3 of 4 runs missing" in printed


def test_settings_decide_by_their_content_whether_a_page_is_the_plain_one(world, command, monkeypatch):
    """The plain sweep is cut down to two runs on the world's text, so that words may repeat it or not."""
    plain = (*world.words(*ONE_NORM), reports(world))
    monkeypatch.setattr("diffmamba.other_settings._places", lambda words: world.words(*ONE_NORM))
    for item in expand("table2", world.words(*ONE_NORM, "seed=0,1")):
        train(item)
    pages = {
        words: written(command("report", ["table=table2", *plain, *words])).name
        for words in ((), ("threads=2", "logger=default"), ("seed=0,1",))
    }
    assert pages[()] == pages["threads=2", "logger=default"] == "table2-smoke"
    assert pages["seed=0,1",] == "table2-smoke-seed=0,1"
    titles = [
        json.loads((world.folder / "reports" / name / "table.json").read_text())["settings"] for name in pages.values()
    ]
    assert [bool(settings) for settings in titles] == [False, False, True]


def test_what_leaves_out_the_baseline_is_named_and_a_plain_report_says_where_the_page_is(world, command):
    words = world.words("model=diff_mamba", "model.outer_norm=true", "model.lambda_form=scalar", "seed=0")
    train(expand("table2", words)[0])
    outcome = command("report", ["table=table2", *words, reports(world)])
    told = (
        "No Δ: the baseline, plain mamba, is no run of this table, because of model.outer_norm=true model=diff_mamba."
    )
    assert told in outcome.out
    assert told in table(outcome)["notes"]
    assert told in (written(outcome) / "index.html").read_text()
    bare = command("report", ["table=table2", reports(world), f"runs={world.store.directory}"])
    assert bare.status == 1
    assert "0 of 30 runs count" in bare.out
    assert f"there is {written(outcome)}, made with other settings; to see it, add: data.path=" in bare.out


@pytest.mark.parametrize("trouble", ["file", "full"])
def test_a_page_that_cannot_be_written_is_one_line_and_the_table_is_shown(world, command, monkeypatch, trouble):
    words = world.words(*ONE_NORM)
    train(expand("table2", words)[0])
    place = world.folder / "reports"
    if trouble == "file":
        place.write_text("no directory")
    else:
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(full))
    outcome = command("report", ["table=table2", *words, f"reports={place}"])
    assert outcome.status == 1
    assert "1 of 2 runs count" in outcome.out
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith(f"error: the page cannot be written to {place}/table2-smoke-")
    assert place.is_file() or list(place.iterdir()) == []


def test_cells_of_other_sources_and_of_sources_that_changed_since_are_named(world, command):
    words = world.words(*ONE_NORM)
    mamba, _ = (train(item) for item in expand("table2", words))
    plain = command("report", ["table=table2", *words, reports(world)])
    assert not [note for note in table(plain)["notes"] if "ources" in note]
    other = mamba["sources"] | {"digests": mamba["sources"]["digests"] | {"diffmamba.mixers.mamba2": "0"}}
    world.run(mamba).write(mamba | {"sources": other, "finished": "2026-01-01T00:00:00+00:00"})  # the earlier run
    outcome = command("report", ["table=table2", *words, reports(world)])
    notes = [note for note in table(outcome)["notes"] if "ources" in note]
    of = "(diffmamba.mixers.mamba2): mamba."
    assert notes == [
        f"Made by other sources than the latest run {of}",
        f"Sources have changed since these runs {of} With force=true they are trained anew.",
    ]
    assert all(note in outcome.out for note in notes)


def test_a_terminal_without_our_signs_ends_no_sweep(world, worker_here, monkeypatch):
    words = world.words(*ONE_NORM, "model=diff_mamba", "model.lambda_form=reparam", reports(world), "workers=1")
    streams = {name: TextIOWrapper(BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["diffmamba", "reproduce", "table=table2", *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        main()
    told = {name: stream.buffer.getvalue() for name, stream in streams.items() if stream.flush() is None}
    assert (ended.value.code, told["stderr"]) == (0, b"")
    assert b"1 of 1 runs count" in told["stdout"]
    assert told["stdout"].isascii()
    assert b"l reparam" in told["stdout"]  # the line of the sweep has a letter in the place of its sign


def evaluated(store):
    """A run that is being trained and has been evaluated."""
    records = store.records().values()
    return next((record for record in records if record["status"] == "running" and record["evaluations"]), None)


def test_ctrl_c_stops_a_sweep_and_loses_nothing(world, command, until, forked_workers, monkeypatch):
    seen: dict[str, Any] = {}

    def strike():
        """Waits for the worker to be well on its way, wants the same run, and presses Ctrl-C in the sweep's process."""
        try:
            until(lambda: evaluated(world.store))
            record = seen["record"] = evaluated(world.store)
            with pytest.raises(RunTakenError, match=record["id"]):
                execute(work_of(record["config"]), progress_bar=False)
            seen["status"] = world.store.records()[record["id"]]["status"]
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    outcome = command("sweep", ["sweep=table2", "workers=1", *world.words(*ONE_NORM, "scale.steps=20000")])
    striker.join()
    assert seen["status"] == "running"  # what the attempt to train it too left unchanged
    run_id = seen["record"]["id"]
    assert outcome.status == 130
    assert "interrupted with 0 of 2 runs finished; the same command goes on from here" in " ".join(outcome.out.split())
    logs = "".join(path.read_text() for path in Path(world.store.directory, ".sweep").glob("*.log"))
    assert outcome.quiet
    assert not any(word in logs for word in ("Traceback", "Error", "Warning", "WARNING"))
    records = world.store.records()
    assert {key: record["status"] for key, record in records.items()} == {run_id: "interrupted"}  # no second run began
    stopped_at = records[run_id]["progress"]["step"]  # Ctrl-C has its checkpoint written, between evaluations too
    steps: list[int] = []

    def training_step(task, batch, index):
        steps.append(task.global_step)
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModelling, "training_step", training_step)
    with pytest.raises(KeyboardInterrupt):
        execute(work_of(records[run_id]["config"]), progress_bar=False)
    assert steps[0] == stopped_at >= records[run_id]["evaluations"][-1]["step"]
