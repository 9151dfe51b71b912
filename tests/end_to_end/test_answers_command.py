"""`reproduce figure=figure8 predictions=FILE`: the page of a file, among the commands and pages that are of runs."""

import hashlib
import json
from pathlib import Path

import pytest

from diffmamba.reports import designs
from diffmamba.runs.store import RunStore

EXCERPT = Path(__file__).parents[1] / "answers" / "excerpt.csv"


@pytest.fixture
def unpainted(monkeypatch):
    monkeypatch.setattr("diffmamba.reports.pictures.drawn", lambda chart, kind: kind.encode())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("figure=figure8",),
            "figure=figure8 is made of a file of answers: CSV, JSON lines or Parquet with the columns",
        ),
        (("figure=figure4", "scale=smoke"), "say which: predictions=FILE"),
        (("figure=figure8", "predictions=none.csv"), "predictions=none.csv: does not exist"),
        (("figure=figure8", f"predictions={EXCERPT}", "seed=1"), "seed=1: figure8 is made of a file, not of runs"),
        (("figure=figure2", "predictions=a.csv"), "predictions=a.csv is for figure=figure4 and figure=figure8 alone"),
        (("predictions=a.csv",), "predictions=a.csv is for figure=figure4 and figure=figure8 alone"),
        (("sweep=table2", "predictions=a.csv"), "predictions=a.csv is for figure=figure4 and figure=figure8 alone"),
    ],
)
def test_what_is_wrong_is_one_line(command, words, told):
    assert told in command("reproduce", words).refusal()


def test_a_report_takes_the_file_too_and_refuses_it_for_the_site(command, tmp_path, unpainted):
    words = [f"predictions={EXCERPT}", f"reports={tmp_path / 'reports'}"]
    assert command("report", ["figure=figure4", *words]).status == 0
    assert (tmp_path / "reports" / "figure4-excerpt" / "figure4.csv").is_file()
    assert "is for figure=figure4 and figure=figure8 alone" in command("report", words).refusal()


def test_the_page_stays_in_the_site_and_is_linked(command, tmp_path, unpainted):
    reports = tmp_path / "reports"
    outcome = command("reproduce", ["figure=figure8", f"predictions={EXCERPT}", f"reports={reports}", "scale=smoke"])
    assert outcome.status == 0
    assert "How the rule changes the verdict" in outcome.out
    page = reports / "figure8-excerpt" / "index.html"
    before = page.read_bytes()
    (tmp_path / "runs").mkdir()
    RunStore(str(tmp_path / "runs"))
    outcome = command("report", [f"reports={reports}", f"runs={tmp_path / 'runs'}"])
    assert outcome.status == 0
    assert page.read_bytes() == before
    overview = (reports / "index.html").read_text()
    assert "figure8-excerpt/index.html" in overview
    assert "figure=figure8" not in overview  # no command that would train it


def test_pages_of_other_files_have_other_places(command, tmp_path, unpainted, monkeypatch):
    monkeypatch.setattr("diffmamba.reports.show", lambda page, console: None)
    lines = [line for line in EXCERPT.read_text().splitlines() if ",1k," in line or line.startswith("model")]
    contents = {"run.a.csv": lines[:60], "run.b.csv": lines[:50], ".x.csv": lines[:40], "other/run.a.csv": lines[:30]}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(content) + "\n")
    reports = tmp_path / "reports"
    for name in (*contents, "run.a.csv", "other/run.a.csv"):  # and again, in its own place
        outcome = command("reproduce", ["figure=figure8", f"predictions={tmp_path / name}", f"reports={reports}"])
        assert outcome.status == 0
        assert ("is the page of another file" in outcome.out) == name.startswith("other")
    names = sorted(path.name for path in reports.iterdir())
    digest = hashlib.sha256((tmp_path / "other" / "run.a.csv").read_bytes()).hexdigest()[:12]
    assert names == ["figure8-.x", "figure8-run.a", f"figure8-run.a-{digest}", "figure8-run.b"]
    assert json.loads((reports / names[2] / "figure8.json").read_text())["sha256"] == digest


@pytest.mark.parametrize("given", [True, False])
def test_all_makes_them_where_their_file_is_given(command, tmp_path, unpainted, monkeypatch, given):
    monkeypatch.setattr("diffmamba.reproduce_all.site", lambda *asked: 0)
    few = {"table": [], "figure": ["figure4", "figure8"]}
    monkeypatch.setattr(designs, "names", few.__getitem__)
    file = [f"predictions={EXCERPT}"] * given
    outcome = command("reproduce", ["all=true", f"reports={tmp_path / 'reports'}", "scale=smoke", "seed=1", *file])
    assert outcome.status == 0
    if given:
        assert outcome.out.splitlines()[-2:] == ["figure4: complete", "figure8: complete"]
        assert len(list((tmp_path / "reports").glob("*/index.html"))) == 2
    else:
        last = outcome.out.splitlines()[-1]
        assert last == "figure4 and figure8: left out, because they are made of a file; add predictions=FILE"
