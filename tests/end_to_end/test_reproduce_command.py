"""A published table, from its sweep to its page, equals what the runs say, and costs nothing the second time."""

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from diffmamba import command_line, reproduce, sweep
from diffmamba import run as run_
from diffmamba.runs import RunStore, RunTakenError
from diffmamba.runs.grid import PlannedRun, expand
from diffmamba.tasks import LanguageModelling

CELLS = 4
SEEDS = (0, 7)
TINY = ("scale.steps=8", "model=mamba,diff_mamba", "model.lambda_form=scalar", "seed=0,7")
ONE_NORM = ("model=mamba,diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0")


def reproduced(words: Sequence[str]) -> int:
    return reproduce.main(["table=table2", *words])


def mains(entry: Any) -> Callable[[], None]:
    """An entry point as its `__main__` runs it."""
    return lambda: command_line.run(entry.main, entry.USAGE)


def checkpoints(store: RunStore) -> dict[str, tuple[int, int]]:
    """Every checkpoint and record with its inode and the time of its last change."""
    files = [*store.directory.glob("*/checkpoints/*"), *store.directory.glob("*/result.json")]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="session")
def reproduction(new_world: Callable[[str], Any], command: Callable[..., Any]) -> tuple[Any, Any]:
    """A world in which table 2 was reproduced by two worker processes, and the outcome of that command."""
    world = new_world("reproduction")
    words = world.words(*TINY, f"reports={world.folder / 'reports'}", "workers=2")
    return world, command(mains(reproduce), ["table=table2", *words])


def table(world: Any, scale: str = "smoke") -> dict[str, Any]:
    return json.loads((world.folder / "reports" / f"table2-{scale}" / "table.json").read_text())


def test_reproduction_succeeds_and_says_where_it_is(reproduction: tuple[Any, Any]) -> None:
    world, outcome = reproduction
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    assert outcome.out.splitlines()[-1] == f"written to {world.folder}/reports/table2-smoke/index.html"
    assert f"{CELLS * len(SEEDS)}/{CELLS * len(SEEDS)} " in outcome.out
    assert not any(word in outcome.out for word in ("Traceback", "Warning", "WARNING"))
    files = {path.name for path in (world.folder / "reports" / "table2-smoke").iterdir()}
    assert files == {"table.json", "table.csv", "table.md", "index.html"}


def test_every_run_of_the_grid_is_finished_once(reproduction: tuple[Any, Any]) -> None:
    world, _ = reproduction
    records = world.store.records()
    assert len(records) == CELLS * len(SEEDS)
    assert {record["status"] for record in records.values()} == {"finished"}
    assert {record["config"]["group"] for record in records.values()} == {"table2"}


def train(run: PlannedRun) -> dict[str, Any]:
    return run_.run(run.config, progress_bar=False)


def variant(row: dict[str, Any]) -> tuple[str, bool, str | None]:
    return row["model"], row["outer_norm"], row["lambda_form"]


def test_table_equals_its_runs(reproduction: tuple[Any, Any]) -> None:
    world, _ = reproduction
    runs: dict[tuple[str, bool, str | None], dict[int, dict[str, Any]]] = {}
    for record in world.store.records().values():
        model = record["config"]["model"]
        form = None if model["name"] == "mamba" else model["lambda_form"]
        runs.setdefault((model["name"], model["outer_norm"], form), {})[record["config"]["seed"]] = record
    rows = {variant(row): row for row in table(world)["rows"]}
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


def test_spreadsheet_and_page_hold_the_table(reproduction: tuple[Any, Any]) -> None:
    world, _ = reproduction
    folder = world.folder / "reports" / "table2-smoke"
    rows = table(world)["rows"]
    with (folder / "table.csv").open() as file:
        assert [float(row["ppl_mean"]) for row in csv.DictReader(file)] == [row["ppl_mean"] for row in rows]
    for name in ("table.md", "index.html"):
        text = (folder / name).read_text()
        assert all(f"{row['ppl_mean']:.3f}" in text for row in rows)


def test_second_call_trains_nothing(reproduction: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    world, first = reproduction
    before, said = checkpoints(world.store), table(world)
    started = time.monotonic()
    assert reproduced(world.words(*TINY, f"reports={world.folder / 'reports'}")) == 0
    assert time.monotonic() - started < 20
    assert checkpoints(world.store) == before
    assert table(world) == said
    printed = capsys.readouterr().out
    assert printed.splitlines()[-8:] == first.out.splitlines()[-8:]  # the same table, without the way to it


def test_figure_and_table_share_their_runs(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reports = world.folder / "reports"
    row = ("experiments=table1/pydoc8_6l", "seed=0", "workers=1", f"reports={reports}")
    assert reproduce.main(["figure=figure2", *world.words(*row)]) == 0
    before, said = checkpoints(world.store), capsys.readouterr().out.splitlines()
    assert len(world.store.records()) == 2
    assert said[-1] == f"written to {reports}/figure2-smoke/index.html"
    assert reproduce.main(["table=table1", "train=false", *world.words(*row)]) == 0
    assert checkpoints(world.store) == before
    rows = json.loads((reports / "table1-smoke" / "table.json").read_text())["rows"]
    assert [(row["data"], row["trained_on"], row["trained_layers"]) for row in rows] == [("text8", "text", 1)] * 2
    with (reports / "figure2-smoke" / "figure2.csv").open() as file:
        ends = {point["model"]: float(point["ppl_mean"]) for point in csv.DictReader(file)}
    assert ends == {row["model"]: row["ppl_mean"] for row in rows}


def test_table_is_shown_without_training(
    world: Any, capsys: pytest.CaptureFixture[str], interrupt_at: Callable[[int | None], None]
) -> None:
    """A store with a finished and an interrupted run; two never started."""
    words = world.words("model=mamba,diff_mamba", "model.outer_norm=false", "model.lambda_form=scalar", "seed=0,1")
    planned = expand("table2", words)
    assert len(planned) == 4
    finished = train(planned[0])
    interrupt_at(6)
    with pytest.raises(KeyboardInterrupt):
        train(planned[1])
    before = checkpoints(world.store)
    assert reproduced([*words, "train=false", f"reports={world.folder / 'reports'}"]) == 1
    assert checkpoints(world.store) == before
    mamba, diff_mamba = table(world)["rows"]
    assert (mamba["status"], mamba["seeds"]) == ("partial", [0])
    assert mamba["ppl_mean"] == finished["evaluations"][-1]["test/ppl"]
    assert mamba["ppl_std"] is None
    assert (diff_mamba["status"], diff_mamba["seeds"], diff_mamba["ppl_mean"]) == ("missing", [], None)
    printed = " ".join(capsys.readouterr().out.split())
    for told in (f"interrupted at step 4 of 12 (run {planned[1].id})", "seeds 0, 1 not started", "3 of 4 runs missing"):
        assert told in printed
        assert told in " ".join([*table(world)["missing"], "3 of 4 runs missing"])


def test_failed_run_is_told_in_the_table(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = world.words(*ONE_NORM, "optimizer.learning_rate=1e30", "optimizer.warmup_steps=0")
    for run in expand("table2", words):
        assert train(run)["status"] == "failed"
    assert reproduced([*words, f"reports={world.folder / 'reports'}"]) == 1  # failed runs are not tried again
    assert [row["status"] for row in table(world)["rows"]] == ["failed", "failed"]
    assert "failed at step 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["table=table9"], ["table9", "table1", "table2"]),
        (["figure=figure9"], ["figure9", "figure2"]),
        (["table=table1", "figure=figure2"], ["table=table1", "figure=figure2", "one at a time"]),
        (["table=table1", "experiments=table2"], ["published is not set", "experiments=table1/text8_6l"]),
        (["table=table2", "optimizer.learning_rate=1e-3,3e-3"], ["table2 has one run for mamba, seed 0"]),
        (["table=table2", "scale=huge"], ["huge", "smoke", "small", "paper"]),
        (["table=table2", "model=diff_mambo"], ["diff_mambo", "diff_mamba", "naive_diff", "mamba_grouped"]),
        (["table=table2", "data=text9"], ["text9", "pydoc8", "pysrc8"]),
        (["table=table2", "optimizer.learning_rat=1"], ["learning_rat"]),
        (["table=table2", "lerning_rate=1"], ["lerning_rate"]),
        (["table=table2", "train=maybe"], ["train", "true or false"]),
        (["table=table2", "workers=many"], ["workers", "number"]),
        (["table=table2", "workers=-1"], ["workers"]),
        (["table=table2", "scale.d_model"], ["scale.d_model"]),
        (["table=table2", "--scale", "smoke"], ["--scale"]),
        (["table=table2", "=3"], ["=3"]),
        (["table=table2", "model=diff_mamba", "model.lambda_form=scaler"], ["scaler", "reparam"]),
        (["table=table2", "scale.batch_size=900"], ["data.batch_size"]),
    ],
)
def test_misspelt_word_is_one_line(
    world: Any, command: Callable[..., Any], words: list[str], says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.folder)
    outcome = command(mains(reproduce), [*world.words(*ONE_NORM), *words])
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert all(word in outcome.err for word in says)
    assert outcome.out == ""
    assert {path.name for path in world.folder.iterdir()} <= {"story.txt", "data"}  # no store, no report


def test_unknown_sweep_and_launcher_are_one_line(world: Any, command: Callable[..., Any]) -> None:
    outcome = command(mains(sweep), world.words("sweep=table9"))
    assert (outcome.status, len(outcome.err.splitlines())) == (2, 1)
    assert "table9" in outcome.err
    assert "table2" in outcome.err
    assert world.store.records() == {}


@pytest.mark.parametrize("entry", [reproduce, sweep])
def test_help_is_the_usage(entry: Any, command: Callable[..., Any]) -> None:
    for word in ("-h", "--help"):
        outcome = command(mains(entry), ["table=table2", word])
        assert (outcome.status, outcome.out, outcome.err) == (0, entry.USAGE + "\n", "")


def until(happened: Callable[[], Any], seconds: float = 120) -> Any:
    """Waits for something that another process does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def evaluated(store: RunStore) -> dict[str, Any] | None:
    """A run that is being trained and has been evaluated."""
    records = store.records().values()
    return next((record for record in records if record["status"] == "running" and record["evaluations"]), None)


def test_ctrl_c_stops_a_sweep_and_loses_nothing(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def strike() -> None:
        """Waits for the worker to be well on its way, wants the same run, and presses Ctrl-C in the sweep's process."""
        try:
            record = seen["record"] = until(lambda: evaluated(world.store))
            with pytest.raises(RunTakenError, match=record["id"]):
                train(PlannedRun(record["id"], record["config"]))
            seen["status"] = world.store.records()[record["id"]]["status"]
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    words = ["sweep=table2", "workers=1", *world.words(*ONE_NORM, "scale.steps=20000")]
    outcome = command(mains(sweep), words)
    striker.join()
    assert seen["status"] == "running"  # what the attempt to train it too left unchanged
    run_id = seen["record"]["id"]
    assert outcome.status == 130
    assert "interrupted with 0 of 2 runs finished; the same command goes on from here" in " ".join(outcome.out.split())
    logs = "".join(path.read_text() for path in Path(world.store.directory, ".sweep").glob("*.log"))
    assert not any(word in outcome.out + outcome.err + logs for word in ("Traceback", "Error", "Warning", "WARNING"))
    records = world.store.records()
    assert {key: record["status"] for key, record in records.items()} == {run_id: "interrupted"}  # no second run began
    evaluated_at = [entry["step"] for entry in records[run_id]["evaluations"]]
    steps = first_steps(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(PlannedRun(run_id, records[run_id]["config"]))
    assert steps[0] in evaluated_at[-2:]  # the last but one if Ctrl-C came before the checkpoint was written


def first_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ends every training at its first step, which it notes."""
    noted: list[int] = []

    def training_step(task: LanguageModelling, batch: Any, index: int) -> None:
        noted.append(task.global_step)
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModelling, "training_step", training_step)
    return noted
