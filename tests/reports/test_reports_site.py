"""The site says what the records say, escapes it, needs nothing from elsewhere, and draws again only what changed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import designs, interactive
from diffmamba.reports.site import build, curves, manifest, plans, subjects
from diffmamba.runs.plan import configurations, expand
from diffmamba.runs.store import RunStore
from tests.outcome import outcome_of
from tests.reports.endless_plans import ENDLESS

HOSTILE = "</script><script>alert('x')</script> & \"quoted\" [red]"
CORPUS = {"name": "pydoc8", "fingerprint": "9c1d", "sizes": {"train": 3000, "val": 9, "test": 100}, "vocabulary": 27}
METRICS = {"ppl": {"label": "PPL", "better": "lower", "digits": 3}, "loss": {"label": "nats", "digits": 4}}
AT = "2026-11-26T10:00:00+00:00"
STEPS = 40


def put(store: Path, run_id, config, **changes):
    """A finished training, unless told otherwise, with the rows that it logged."""
    evaluations = [
        {"step": s, "epoch": 0.1, "tokens": 9, "test/ppl": 9 - s / 10, "val/ppl": 9.5 - s / 10} for s in (20, STEPS)
    ]
    record = {
        **{"schema": 2, "kind": "training", "id": run_id, "status": "finished", "config": config, "error": None},
        **{"started": AT, "finished": AT, "wall_seconds": 12.0, "evaluations": evaluations, "corpus": CORPUS},
        **{"task": {"name": "Task", "headline": "test/ppl", "metrics": METRICS}, "parameters": {"total": 201234}},
        **{"progress": {"step": STEPS, "steps": STEPS}, "hardware": {"host": "here"}, "versions": {"torch": "2"}},
        **changes,
    }
    place = store / run_id
    (place / "csv").mkdir(parents=True, exist_ok=True)
    rows = [f"{s},{3 - s / 100},{0.8 - s / 1000},{0.5 + s / 1000},0.01" for s in range(STEPS)]
    (place / "csv" / "metrics.csv").write_text(
        "\n".join(["step,train/loss,lambda/1,lambda/2,gradient/total", *rows]) + "\n"
    )
    (place / "result.json").write_text(json.dumps(record))


def failed(message):
    return {
        "status": "failed",
        "error": {"kind": "code", "type": "Error", "message": message, "step": 3, "traceback": message},
    }


@pytest.fixture(scope="module")
def planned():
    """The works of table 2, as they are named by records with this corpus."""
    known = {"a run": {"config": configurations("table2", ["seed=0"])[0], "corpus": CORPUS, "started": AT}}
    return [item for item in expand("table2", ["scale=smoke"], prepare=False, records=known) if item.asked]


@pytest.fixture(scope="module", autouse=True)
def _two_tables():
    """Of all tables, figures and sweeps only these two: to expand and to draw the others shows nothing more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(designs, "names", lambda kind: ["table1", "table2"] if kind == "table" else [])
        patch.setattr(subjects, "_own_names", lambda: [])
        yield


@pytest.fixture(scope="module")
def first(planned, tmp_path_factory):
    """A store with all that a store may hold, and its site."""
    place = tmp_path_factory.mktemp("site")
    store = place / "runs"
    for item in planned[:-1]:
        put(store, item.id, item.config)
    put(store, planned[0].id, planned[0].config, **failed(HOSTILE))
    put(store, planned[1].id, planned[1].config, status="running", finished=None, progress={"step": 7, "steps": STEPS})
    own = json.loads(json.dumps(planned[2].config))
    own["optimizer"]["learning_rate"], own["scale"]["learning_rate"] = 0.123, 0.123
    gaps = {"at": [1, 3, 5], "accuracy": [1.0, 0.5, 0.25], "count": [8, 4, 0]}
    classes = {"at": [2, 3], "accuracy": [0.7, 0.8], "count": [6, 6]}
    put(
        store,
        "tfree0000000",
        own | {"name": HOSTILE, "group": "mine"},
        details={"test": {"gap": gaps, "class": classes}},
    )
    measure = {"name": "perplexity", "headline": "test/ppl", "metrics": METRICS}
    weights = {"kind": "Run", "run": "tfree0000000"}
    of_own = {"kind": "measurement", "measure": measure, "values": {"test/ppl": 4.5}, "weights": weights}
    put(store, "mpart0000000", own | {"name": None, "group": None}, **of_own)
    (store / "mpart0000000" / "rows.csv").write_text(MEASURED)
    (store / "tdamaged0000").mkdir()
    (store / "tdamaged0000" / "result.json").write_text("{")
    (store / "stranger").mkdir()
    (store / "notes.txt").write_text("mine")
    build(str(store), place / "reports")
    return place


@pytest.fixture(scope="module")
def copied(first, tmp_path_factory):
    """A copy of it, for tests that change it."""
    place = tmp_path_factory.mktemp("copy")
    shutil.copytree(first, place, dirs_exist_ok=True)
    return place


@pytest.fixture
def site(copied):
    """The copy, as the last build left it."""
    build(str(copied / "runs"), copied / "reports")
    return copied


def pages(reports: Path) -> dict[str, int]:
    """What tells whether a file of the site was written again: its inode."""
    files = (path for path in reports.rglob("*") if path.is_file() and ".site" not in path.parts)
    return {str(path.relative_to(reports)): path.stat().st_ino for path in files}


def changed(site: Path, before: dict[str, int]) -> set[str]:
    """Builds again; which files were written, made or removed."""
    build(str(site / "runs"), site / "reports")
    after = pages(site / "reports")
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


MEASURED = """measure,value,position,lens,layer
ppl,4.5,,,
nats,2.0,,,
nats,2.5,0,,
nats,1.5,8,,
bits,3.0,,tuned,0
bits,2.0,,tuned,1
bits,3.5,,logit,0
bits,2.5,,logit,1
mass,0.5,,,0
mass,0.25,,,1
alone,1,3,,
"""


def charts(page: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" class="chart">(.*?)</script>', page)
    return {chart["name"]: chart for chart in map(json.loads, found)}


def points(chart: dict, label: str) -> list[tuple[float, float]]:
    series = next(one for row in chart["rows"] for panel in row for one in panel["series"] if one["label"] == label)
    return list(zip(chart["points"][series["x"]], chart["points"][series["y"]], strict=True))


def rows_of(reports: Path) -> list[list]:
    return json.loads((reports / "runs.js").read_text().removeprefix("showRuns(").removesuffix(");\n"))["rows"]


def test_the_overview_says_what_is_done_and_missing_and_the_command_that_does_the_rest(first, planned):
    page = (first / "reports" / "index.html").read_text()
    assert f"{len(planned)} runs: {len(planned) - 3} finished, 1 interrupted, 1 failed, 1 missing." in page
    places = f"runs={first / 'runs'} reports={first / 'reports'}"
    assert f"diffmamba.reproduce table=table2 scale=smoke retry=failed {places}" in page
    assert "diffmamba.reproduce table=table1 scale=smoke" in page
    assert 'href="table2-smoke/index.html"' in page


def test_what_counts_nowhere_is_said(first, planned):
    page = (first / "reports" / "index.html").read_text()
    assert "cannot be read, so that their runs count nowhere (1)" in page
    assert "tdamaged0000" in page
    assert "stranger: a folder without a record" in page
    assert "notes.txt: a file" in page
    assert f"{planned[1].id}: interrupted 7/{STEPS}" in page
    assert 'href="#find=mine"' in page
    assert "cannot be read" in (first / "reports" / "runs" / "tdamaged0000.html").read_text()


def test_every_run_is_in_the_list_and_has_a_page(first):
    records = {path.parent.name for path in (first / "runs").glob("*/result.json")}
    assert {row[0] for row in rows_of(first / "reports")} == records
    assert {path.stem for path in (first / "reports" / "runs").iterdir()} == records


def test_the_page_of_a_training_has_its_curves_and_λ_by_block(first, planned):
    found = charts((first / "reports" / "runs" / f"{planned[3].id}.html").read_text())
    assert {"loss", "ppl", "lambda", "gradient"} <= found.keys()
    assert points(found["lambda"], "block 2")[:2] == [(1, 0.5), (2, 0.501)]
    assert points(found["loss"], "train")[-1] == (STEPS, 2.61)
    assert points(found["ppl"], "test") == [(20, 7), (STEPS, 5)]


def test_the_page_of_a_training_has_its_accuracy_by_place_if_its_record_tells_it(first, planned):
    found = charts((first / "reports" / "runs" / "tfree0000000.html").read_text())
    assert points(found["by-gap"], "") == [(1, 1), (3, 0.5)]
    assert points(found["by-class"], "") == [(2, 0.7), (3, 0.8)]
    assert "by-position" not in found
    assert "by-gap" not in charts((first / "reports" / "runs" / f"{planned[3].id}.html").read_text())


def test_the_page_of_a_run_says_what_differs_from_the_default_and_leads_to_what_it_belongs_to(first, planned):
    own = (first / "reports" / "runs" / "tfree0000000.html").read_text()
    assert re.search(r"scale\.learning_rate</th><td[^>]*>0\.123</td><td[^>]*>0\.008</td>", own)
    assert "optimizer.learning_rate</th>" not in own  # follows from the scale
    assert 'href="mpart0000000.html"' in own
    assert 'href="tfree0000000.html"' in (first / "reports" / "runs" / "mpart0000000.html").read_text()
    member = (first / "reports" / "runs" / f"{planned[3].id}.html").read_text()
    assert 'href="../table2-smoke/index.html"' in member
    assert "retry=failed tries it again" in (first / "reports" / "runs" / f"{planned[0].id}.html").read_text()


def test_a_measurement_is_a_chart_over_its_coordinate(first):
    found = charts((first / "reports" / "runs" / "mpart0000000.html").read_text())
    assert list(found) == ["nats-by-position", "bits-by-lens-by-layer", "mass-by-layer"]
    assert points(found["nats-by-position"], "") == [(0, 2.5), (8, 1.5)]
    assert points(found["bits-by-lens-by-layer"], "tuned") == [(0, 3.0), (1, 2.0)]
    assert points(found["bits-by-lens-by-layer"], "logit") == [(0, 3.5), (1, 2.5)]


def test_names_and_errors_are_escaped_on_every_page(first):
    written = [path.read_text() for path in (first / "reports").rglob("*.html")]
    assert any("&lt;/script&gt;&lt;script&gt;alert(&#39;x&#39;)" in page for page in written)
    assert not any("<script>alert" in page for page in written)
    for page in written:
        charts(page)
    assert any(HOSTILE in row for row in rows_of(first / "reports"))


def test_no_page_needs_anything_from_elsewhere_and_every_link_leads_somewhere(first):
    for path in (first / "reports").rglob("*.html"):
        page = path.read_text()
        for target in re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page):
            assert target.startswith(("data:image/svg+xml;base64,", "#")) or (path.parent / unquote(target)).exists(), (
                target
            )
        assert not re.search(r"""@import|url\(|(?:src|href)=["'](?:\w+:)?//""", page)


def test_a_changed_run_redraws_its_own_page_and_the_pages_that_show_it(site, planned):
    before = pages(site / "reports")
    assert changed(site, before) == set()
    put(site / "runs", planned[4].id, planned[4].config, wall_seconds=13.0)
    table = {name for name in before if name.startswith("table2-smoke/")}
    assert changed(site, before) == {f"runs/{planned[4].id}.html", "runs.js", *table}
    before = pages(site / "reports")
    (site / "reports" / "table2-smoke" / "index.html").write_text("by another command")
    assert "table2-smoke/index.html" in changed(site, before)
    assert "by another" not in (site / "reports" / "table2-smoke" / "index.html").read_text()
    before = pages(site / "reports")
    (site / "runs" / "tfree0000000" / "csv" / "metrics.csv").write_text("step,train/loss\n0,1.0\n")
    assert changed(site, before) == {"runs/tfree0000000.html"}


def test_the_page_of_a_run_that_is_gone_is_removed_and_one_that_was_lost_is_made_again(site, planned):
    before = pages(site / "reports")
    shutil.rmtree(site / "runs" / planned[5].id)
    (site / "reports" / "runs" / "tfree0000000.html").unlink()
    (site / "reports" / "runs" / "of_mine.html").write_text("not of this site")
    lost = (site / "reports" / "runs" / f"{planned[4].id}.html").read_text()
    (site / "reports" / "runs" / "tlost0000000.html").write_text(lost)  # the manifest of its time is gone
    written = changed(site, before)
    assert {f"runs/{planned[5].id}.html", "runs/tfree0000000.html", "index.html", "runs.js"} <= written
    assert not (site / "reports" / "runs" / f"{planned[5].id}.html").exists()
    assert (site / "reports" / "runs" / "tfree0000000.html").exists()
    assert not (site / "reports" / "runs" / "tlost0000000.html").exists()
    assert (site / "reports" / "runs" / "of_mine.html").exists()
    (site / "reports" / "runs" / "of_mine.html").unlink()
    assert "2 missing" in (site / "reports" / "index.html").read_text()


def test_one_odd_record_costs_no_other_page(site, planned):
    store, reports, odd = site / "runs", site / "reports", planned[6]
    kept = {one.id: (store / one.id / "result.json").read_bytes() for one in (odd, planned[7])}
    put(store, odd.id, odd.config, wall_seconds=float("nan"), task={"headline": ["test/ppl"], "metrics": [1]})
    (store / planned[7].id / "result.json").write_text("{")
    (store / "tfree0000000" / "csv" / "metrics.csv").write_text("step,train/loss\nno number,1.0\n")
    name = os.fsencode(store) + b"/t\xff"
    os.mkdir(name)
    Path(os.fsdecode(name), "result.json").write_text("{}")
    built = build(str(store), reports)
    assert list(built.wrong) == [f"runs/{odd.id}.html"]
    assert "This page could not be drawn." in (reports / "runs" / f"{odd.id}.html").read_text()
    index = (reports / "index.html").read_text()
    assert "1 damaged" in index
    assert "its name is not UTF-8" in index
    assert "NaN" not in (reports / "runs.js").read_text()
    table = (reports / "table2-smoke" / "index.html").read_text()
    assert "has a record that cannot be read" in table
    assert f"../runs/{planned[7].id}.html" in table
    own = (reports / "runs" / "tfree0000000.html").read_text()
    assert "the curves lack what it logged" in own
    assert {"loss", "ppl"} & charts(own).keys()
    assert build(str(store), reports).wrong == built.wrong  # what failed is tried again
    for one, record in kept.items():
        (store / one / "result.json").write_bytes(record)
    shutil.rmtree(name)
    assert build(str(store), reports).wrong == {}


def test_plans_that_were_damaged_are_not_used(tmp_path):
    kept = plans.Plans(tmp_path, "stamp", RunStore(tmp_path), {})
    content = [["table2", [], {"cells": [["an id alone"]]}]]
    (tmp_path / ".site").mkdir()
    for of, used in ((manifest.digest(content), 1), ("that of others", 0)):
        told = {"digest": kept._current, "of": of, "plans": content}
        (tmp_path / ".site" / "plans.json").write_text(json.dumps(told))
        assert len(kept._read()) == used


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_build_that_is_ended_in_its_plans_leaves_no_process_and_no_lock(sent, tmp_path, planned):
    put(tmp_path / "runs", planned[0].id, planned[0].config)
    command = [sys.executable, "-m", "tests.reports.endless_plans", str(tmp_path / "runs"), str(tmp_path / "reports")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        try:
            assert any(line == "expanding in a child\n" for line in first.stdout)
            began = time.monotonic()
            os.kill(first.pid, sent)
            first.wait(10)
        finally:
            first.kill()
        said = first.stderr.read()  # ends when the child has ended, which has the same stream
    if sent == signal.SIGTERM:
        assert (first.returncode, said) == (130, "interrupted; the same command builds the site\n")
    assert time.monotonic() - began < ENDLESS / 2
    told = []
    with manifest.alone(tmp_path / "reports", told.append):
        assert told == []


def test_a_build_that_waits_for_another_says_so(tmp_path):
    told = []
    with manifest.alone(tmp_path, told.append):
        waiting = threading.Thread(target=lambda: manifest.alone(tmp_path, told.append).__enter__())
        waiting.start()
        while not told:
            time.sleep(0.01)
    waiting.join()
    assert told == [f"another build works in {tmp_path}; waiting for it"]


@pytest.mark.parametrize(
    "text",
    [
        "hydra:\n  sweeper:\n    params:\n      scale: smoke, paper\n",
        "grid: a\ngrids: {a: [{scale: smoke}, {scale: 'smoke,paper', seed: 1}], b: [{scale: small}]}\n",
    ],
)
def test_a_sweep_that_varies_the_scale_itself_is_one_subject_without_a_scale(tmp_path, monkeypatch, text):
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    monkeypatch.setattr(subjects, "_own_names", lambda: ["two"])
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "two.yaml").write_text(text)
    (two,) = (one for one in subjects.candidates([], tmp_path / "reports") if one.name == "two")
    assert two.folder("two") == "two-smoke+paper"
    assert two.command({}, "a, b#", "my pages") == (
        """python -m diffmamba.reproduce sweep=two 'runs="a, b#"' 'reports=my pages'"""
    )


def test_two_builds_at_once_with_a_damaged_manifest_make_the_same_site(site):
    contents = {name: (site / "reports" / name).read_bytes() for name in pages(site / "reports")}
    (site / "reports" / ".site" / "manifest.json").write_text("{")
    shutil.rmtree(site / "reports" / "runs")
    builds = [threading.Thread(target=build, args=(str(site / "runs"), site / "reports")) for _ in range(2)]
    for one in builds:
        one.start()
    for one in builds:
        one.join()
    assert {name: (site / "reports" / name).read_bytes() for name in pages(site / "reports")} == contents


def test_the_command_builds_the_site_and_says_where(first):
    words = (f"runs={first / 'runs'}", f"reports={first / 'reports'}")
    outcome = outcome_of("report", *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("0 of ")
    assert str(first / "reports" / "index.html") in outcome.out


def test_a_place_that_cannot_be_written_is_said_in_one_line(first):
    outcome = outcome_of("report", f"runs={first / 'runs'}", f"reports={first / 'runs' / 'notes.txt'}")
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (1, "", 1)
    assert "use reports=DIR" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs=nowhere",), "there is no run store at nowhere"),
        (("runs=runs", "reports=."), "would put pages into the run store"),
        (("scale=smoke",), "scale=smoke"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert said in outcome_of("report", *words).refusal()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


def test_a_store_without_runs_has_a_site(tmp_path):
    (tmp_path / "runs").mkdir()
    build(str(tmp_path / "runs"), tmp_path / "reports")
    assert "The store holds no run yet." in (tmp_path / "reports" / "index.html").read_text()


def test_a_chart_as_json_holds_its_points_once_and_no_number_that_json_has_not():
    x, nan = (1.0, 2.0, 3e7), float("nan")
    lines = (
        Series("a", x, (0.1, nan, 0.3), "#000000"),
        Series("b", x, (4.0, 5.0, 6.0), "#000000", line="", low=(1.0,)),
    )
    panel = Panel("title", lines, y_scale="log", y_names=("one",))
    told = json.loads(interactive.as_json(Chart("name", "", ((panel,),), "alt")))
    first, second = told["rows"][0][0]["series"]
    assert first["x"] == second["x"]
    assert told["points"][first["x"]] == [1, 2, 3e7]
    assert told["points"][first["y"]] == [0.1, None, 0.3]
    assert (second["line"], told["rows"][0][0]["y_scale"], told["rows"][0][0]["y_names"]) == ("", "log", ["one"])
    assert "line" not in first


def test_many_rows_become_means_whose_band_holds_every_row(tmp_path):
    values = [((7 * step) % 11) / 10 for step in range(1000)]
    rows = [f"{step},{value}" for step, value in enumerate(values)]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(["step,train/loss", *rows]) + "\n4,not a whole li")
    record = {"evaluations": [], "task": {"headline": "test/ppl"}}
    line = curves.of_training(curves.read_logged(tmp_path / curves.LOGGED), record)[0].panels[0][0].series[0]
    size = 1000 // len(line.x)
    assert len(line.x) <= curves.MOST_OF_A_SERIES
    assert line.x[-1] == 1000
    groups = [values[start : start + size] for start in range(0, 1000, size)]
    assert line.y == pytest.approx([sum(group) / len(group) for group in groups])
    assert (line.low, line.high) == (tuple(map(min, groups)), tuple(map(max, groups)))
