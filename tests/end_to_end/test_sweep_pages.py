"""Any sweep, also one of the user's own, is trained and shown by one command, as a published table is."""

import json
from itertools import product
from pathlib import Path
from statistics import mean

import pytest

SWEEP = """
# @package _global_
group: mine
report: {title: My <rates>, baseline: {model: mamba}}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      model: mamba,diff_mamba
      model.lambda_form: scalar,reparam
      seed: 0,7
"""
MEASURED = """
# @package _global_
group: measured
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      weights: trained
      measure: perplexity
      measure.window: 8,16
      model: mamba
      seed: 0,7
"""
QUICK = ("scale.steps=4", "scale.evaluate_every=2")


@pytest.fixture(scope="module")
def world(new_world):
    world = new_world("sweeps")
    sweeps = world.folder / "conf" / "sweeps"
    sweeps.mkdir(parents=True)
    for name, text in (("mine", SWEEP), ("measured", MEASURED), ("figure_x", SWEEP)):
        (sweeps / f"{name}.yaml").write_text(text.lstrip())
    return world


@pytest.fixture
def call(world, command, undrawn, monkeypatch):
    """Runs a command for a sweep of the world's own."""
    monkeypatch.setenv("DIFFMAMBA_CONF", str(world.folder / "conf"))
    words = [*world.words(*QUICK), f"reports={world.folder / 'reports'}"]
    return lambda name, *further: command(name, [*words, *further])


def page(outcome):
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("written to ")]
    return Path(line.removeprefix("written to ")).parent


def table(outcome):
    return json.loads((page(outcome) / "table.json").read_text())


def test_a_sweep_of_ones_own_is_trained_shown_and_shown_again(world, call, worker_here, monkeypatch):
    first = call("reproduce", "sweep=mine")
    assert (first.status, first.err) == (0, "")
    assert "My <rates>" in first.out
    assert "My &lt;rates&gt;" in (page(first) / "index.html").read_text()
    runs = {}
    for record in world.store.records().values():
        assert "report" not in record["config"]  # a page's title is no setting of a run
        config = record["config"]
        value = record["evaluations"][-1]["test/ppl"]
        runs.setdefault((config["model"]["name"], config["model"]["lambda_form"]), {})[config["seed"]] = value
    rows = {(row["model"], row["model.lambda_form"]): row for row in table(first)["rows"]}
    assert set(rows) == set(product(("mamba", "diff_mamba"), ("scalar", "reparam")))
    assert len(runs) == 3  # `mamba` has no λ
    for (model, form), row in rows.items():
        mine, base = runs[model, "scalar" if model == "mamba" else form], runs["mamba", "scalar"]
        assert row["seeds"] == [0, 7]
        assert row["ppl_mean"] == pytest.approx(mean(mine.values()), rel=1e-12)
        assert row["delta"] == pytest.approx(mean(mine.values()) - mean(base.values()), abs=1e-12)
    monkeypatch.setattr("diffmamba.runs.engine.LocalWorkers", lambda *_: pytest.fail("a worker was started"))
    before = world.contents()
    again = call("report", "sweep=mine", "title=Another title", "baseline=model=diff_mamba lambda_form=scalar")
    assert (again.status, again.err) == (0, "")
    assert "Another title" in again.out
    assert page(again) == page(first)
    zeros = [row["model"] for row in table(again)["rows"] if row["delta"] == 0.0]
    assert zeros == ["diff_mamba"]
    assert world.contents() == before


def test_measurements_of_a_sweep_have_rows_and_their_trainings_are_done_first(world, call, worker_here):
    outcome = call("reproduce", "sweep=measured")
    assert (outcome.status, outcome.err) == (0, "")
    measured = [record for record in world.store.records().values() if record["kind"] == "measurement"]
    assert len(measured) == 4
    for row in table(outcome)["rows"]:
        values = [r["values"]["ppl"] for r in measured if r["config"]["measure"]["window"] == row["measure.window"]]
        assert row["ppl_mean"] == pytest.approx(mean(values), rel=1e-12)
        assert row["seeds"] == [0, 7]
    assert 'baseline="window=8"' in outcome.out


def test_a_sweep_that_lacks_runs_says_which_and_names_make_no_figure(world, call):
    outcome = call("report", "sweep=figure_x", "seed=0,9", "model.lambda_form=scalar")
    assert outcome.status == 1
    assert table(outcome)["sweep"] == "figure_x"
    assert all("seed 9 not started" in line for line in table(outcome)["missing"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("title=Mine",), "title=Mine: say which sweep: sweep=NAME"),
        (("sweep='we ird,<b>'",), "the name of a sweep may hold letters"),
        (("sweep=mine", "reports={folder}/text.txt"), "text.txt is no directory; use reports=DIR"),
        (("all=true", "reports={folder}/text.txt/below"), "text.txt is no directory; use reports=DIR"),
        (("sweep=mine", "table=table2"), "table=table2 and sweep=mine: one at a time"),
        (("sweep=mine", "all=true"), "sweep=mine and all=true: one at a time"),
        (("sweep=mihne",), "sweep=mihne is not known; did you mean mine?"),
        (("table=table2", "title=Mine"), "title=Mine is for sweep=NAME"),
        (("sweep=mine", "baseline=model=mambo"), "no run of mine has model=mambo; there is model=mamba or"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(world, call, words, told):
    (world.folder / "text.txt").touch()
    before = world.contents()
    assert told in call("reproduce", *(word.format(folder=world.folder) for word in words)).refusal()
    assert world.contents() == before


@pytest.mark.parametrize(
    "asked", [("launcher=slurm",), ("sweep=mine", "slurm.partition=gpu"), ("all=true", "train=true")]
)
def test_a_report_takes_no_setting_of_training(call, asked):
    assert f"{asked[-1]}: report trains nothing" in call("report", *asked).refusal()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("report: {titel: x}", "sweeps/wrong.yaml: nothing reads report.titel"),
        ("report: {title: [x]}", "report.title=[x] must be text, or null"),
        ("report: {baseline: {model: mambo}}", "baseline=model=mambo: no run of wrong has model=mambo"),
    ],
)
def test_what_a_file_says_of_its_page_is_checked(world, call, line, told):
    path = world.folder / "conf" / "sweeps" / "wrong.yaml"
    text = SWEEP.lstrip().replace("      model.lambda_form: scalar,reparam\n      seed: 0,7\n", "")
    path.write_text(text.replace("report: {title: My <rates>, baseline: {model: mamba}}", line))
    assert told in call("report", "sweep=wrong").refusal()
    path.unlink()


def test_reproduce_all_makes_every_page_and_goes_on_after_a_failure(
    new_world, command, worker_here, undrawn, monkeypatch
):
    """Its plans are cut down to a few cells, but for two designs of the user's own that cannot be made."""
    built: list[tuple[Path, list[str]]] = []

    def site(*given):
        built.append(given)
        raise OSError("no room")

    monkeypatch.setattr("diffmamba.reproduce_all.site", site)  # has its own tests
    world = new_world("all")
    own = world.folder / "conf" / "designs"
    own.mkdir(parents=True)
    text = "from dataclasses import replace\nfrom diffmamba.reports.designs import table2\n"
    (own / "table0_broken.py").write_text(
        f"{text}DESIGN = replace(table2.DESIGN, name='table0_broken', sweep='gone')\n"
    )
    (own / "table0_raises.py").write_text(
        f"{text}DESIGN = replace(table2.DESIGN, name='table0_raises', key=lambda config: config['no such part'])\n"
    )
    few = {"table": ["table0_broken", "table0_raises", "table1"], "figure": ["figure2"]}
    monkeypatch.setattr("diffmamba.reports.designs.names", few.__getitem__)
    monkeypatch.setenv("DIFFMAMBA_CONF", str(world.folder / "conf"))
    cut = ("model=mamba", "data.stands_for=text8", "scale.deep=1", "seed=0")
    words = world.words(*QUICK, *cut, f"reports={world.folder / 'reports'}")
    outcome = command("reproduce", ["all=true", *words])
    assert outcome.status == 1
    told = outcome.out.splitlines()
    assert any(line.startswith("table0_broken: sweeps=gone is not known") for line in told)
    assert told[-4:-2] == ["table0_raises: KeyError: 'no such part'", "table1: complete"]
    assert told[-2:] == ["figure2: complete", "site: OSError: no room"]
    pages = {path.name.partition("-")[0] for path in (world.folder / "reports").iterdir() if path.is_dir()}
    assert pages == {"table1", "figure2"}
    assert built == [(world.folder / "reports", [f"runs={world.store.directory}"])]
    assert "runs to do" in outcome.out.partition("table table1")[2].partition("figure figure2")[0]
    assert "runs to do" not in outcome.out.partition("figure figure2")[2]  # they are those of table 1
