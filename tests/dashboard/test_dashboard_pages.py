"""What a page holds: what its file says, for the runs that the store has."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from diffmamba.configuration import CONF
from diffmamba.dashboard import description
from diffmamba.reports.charts import HUES
from tests.dashboard.desks import VARIANTS, asked, panels_of, run_sets

OURS = Path(CONF) / "dashboards"
TYPES = {
    "curves": "Run History Line Plot",
    "points": "Scatter Plot",
    "bars": "Bar Chart",
    "parallel": "Parallel Coordinates Plot",
    "importance": "Parameter Importance",
    "runs": "Run Comparer",
    "number": "Scalar Chart",
    "text": "Markdown Panel",
}


def own(folder: Path, text: str, name: str = "mine") -> None:
    """A description of the user's own."""
    place = folder / "conf" / "dashboards" / f"{name}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_a_report_shows_the_panels_of_its_file_for_each_corpus(desk):
    desk.fill()
    assert desk.make("what=table2").status == 0
    spec = desk.written("table2-smoke")["spec"]
    told = [
        panel
        for section in yaml.safe_load((OURS / "table2.yaml").read_text())["sections"]
        for panel in section["panels"]
    ]
    shown = list(panels_of(spec))
    assert len(shown) == 2 * len(told)
    assert {panel["config"]["chartTitle"] for panel in shown} == {panel["title"] for panel in told}
    first = shown[0]
    assert (first["viewType"], first["config"]["xAxis"], first["config"]["metrics"]) == (
        "Run History Line Plot",
        "tokens",
        ["test/ppl"],
    )
    assert (first["config"]["groupAgg"], first["config"]["groupArea"]) == ("mean", "minmax")
    headings = [block["children"][0]["text"] for block in spec["blocks"] if block["type"] == "heading"]
    assert headings[:4] == ["While training", "data.name: pydoc8", "data.name: pysrc8", "At the end"]


def test_runs_are_those_of_the_group_the_scale_and_the_corpus_grouped_by_variant(desk):
    desk.fill()
    desk.make("what=table2")
    runs = run_sets(desk.written("table2-smoke")["spec"])
    common = {"group": "table2", "scale.value.name": "smoke"}
    assert [asked(one) for one in runs[:2]] == [common | {"data.value.name": name} for name in ("pydoc8", "pysrc8")]
    assert [key["name"] for key in runs[0]["grouping"]] == [
        f"model.value.{name}" for name in ("name", "outer_norm", "lambda_form")
    ]


def test_the_table_of_runs_has_the_figures_that_count_among_them(desk):
    desk.shelf.put("t1", settings={"group": "figure5"}, task={"headline": "test/accuracy", "metrics": {}})
    desk.shelf.put("t2", settings={"group": "table2"})
    desk.make()
    for page, names in {
        "figure5-smoke": {"test/accuracy", "val/accuracy"},
        "table2-smoke": {"test/ppl", "val/ppl"},
        "workspace": {"test/accuracy", "val/accuracy", "test/ppl", "val/ppl"},
    }.items():
        columns = set(re.findall(r'"summary:((?:test|val)/\w+)"', json.dumps(desk.written(page)["spec"])))
        assert columns == names, page


def test_each_variant_has_the_hue_of_its_model_and_no_two_the_same_colour(desk):
    desk.fill()
    desk.make("what=table2")
    grid = next(block for block in desk.written("table2-smoke")["spec"]["blocks"] if block["type"] == "panel-grid")
    colours = grid["metadata"]["customRunColors"]
    assert len(set(colours.values())) == len(colours) == len(VARIANTS)
    found = {key.partition("-")[2]: colour for key, colour in colours.items()}
    plain = "config:model.value.name:mamba-config:model.value.outer_norm:false-config:model.value.lambda_form:scalar"
    assert found[plain] == HUES["mamba"]
    assert found[plain.replace("mamba", "diff_mamba").replace("false", "true")] == HUES["diff_mamba"]


def test_the_workspace_shows_all_runs_by_model(desk):
    desk.fill()
    desk.make("what=workspace")
    told = desk.written("workspace")
    section = told["spec"]["section"]
    assert (told["type"], told["displayName"]) == ("project-view", "diffmamba")
    names = [one["title"] for one in yaml.safe_load((OURS / "workspace.yaml").read_text())["sections"]]
    assert [one["name"] for one in section["panelBankConfig"]["sections"]] == names
    assert asked(section["runSets"][0]) == {}
    assert sorted(section["customRunColors"].values()).count(HUES["diff_s6"]) == 1


def test_a_star_is_every_metric_of_this_name(desk):
    desk.make("what=workspace")
    starred = [
        one["config"] for one in panels_of(desk.written("workspace")["spec"]) if one["config"].get("metricRegex")
    ]
    pattern = next(one["metricRegex"] for one in starred if "λ" in one["chartTitle"])
    assert [bool(re.search(pattern, name)) for name in ("lambda/1", "lambda/12", "lambda", "my/lambda/1")] == [
        *(True, True),
        *(False, False),
    ]


def test_the_same_pages_are_the_same_bytes_again(desk):
    desk.fill()
    assert desk.make().status == 0
    files = {path: path.read_bytes() for path in (desk.reports / "dashboard").iterdir()}
    assert {"workspace.json", "table1-smoke.json", "table2-smoke.json", "figure2-smoke.json", "mine-smoke.json"} <= {
        path.name for path in files
    }
    desk.make()
    assert {path: path.read_bytes() for path in files} == files


def test_a_group_without_a_file_is_split_by_what_differs_among_its_runs(desk):
    for seed in (0, 1):
        for rate in (0.001, 0.002):
            told = {"group": "mine", "optimizer.learning_rate": rate, "seed": seed}
            desk.shelf.put(f"t{seed}{rate}", settings=told)
    desk.make("what=mine")
    runs = run_sets(desk.written("mine-smoke")["spec"])
    assert [key["name"] for key in runs[0]["grouping"]] == ["optimizer.value.learning_rate"]


@pytest.mark.parametrize(
    "group", ['it\'s "a" = b < c', "a/b\\c", "../../up", "λ <b>&", "λ" * 120, "a within_last 5 days", "x" * 120]
)
def test_a_group_may_have_any_name(desk, group):
    desk.fill(group)
    words = f"what='{group}'".replace("it's", "it\\'s") if "'" in group else f"what={group}"
    outcome = desk.make(words)
    assert outcome.status == 0, outcome.err
    (file,) = (desk.reports / "dashboard").iterdir()
    told = desk.written(file.stem)
    assert asked(run_sets(told["spec"])[0])["group"] == group
    assert told["displayName"].startswith(group[:100])


def test_groups_whose_names_look_alike_on_a_disk_have_files_of_their_own(desk):
    for number, group in enumerate(("a/b", "a_b", "a?b")):
        desk.shelf.put(f"t{number}", settings={"group": group})
    assert desk.make().status == 0
    told = [desk.written(file.stem) for file in (desk.reports / "dashboard").glob("a_b*")]
    assert sorted(one["displayName"][:3] for one in told) == ["a/b", "a?b", "a_b"]


EVERY_KIND = """
title: Every kind
variants: [model.name]
where: {data.name: pydoc8}
sections:
  - title: All
    panels:
      - {kind: curves, y: [train/loss]}
      - {kind: points, x: config.parameters, y: test/ppl, log_x: true}
      - {kind: bars, title: MAD by task, y: [test/accuracy], by: config.task.name}
      - {kind: number, y: test/ppl}
      - {kind: parallel, columns: [config.optimizer.learning_rate, val/ppl], log: [config.optimizer.learning_rate]}
      - {kind: importance, of: val/ppl}
      - {kind: runs}
      - {kind: text, text: "Some *words*."}
"""


def test_every_kind_of_panel_can_be_described(desk, tmp_path):
    own(tmp_path, EVERY_KIND)
    assert desk.make("what=mine").status == 0
    told = desk.written("mine-smoke")
    panels = list(panels_of(told["spec"]))
    assert [one["viewType"] for one in panels] == [TYPES[kind] for kind in description.KINDS]
    curves, points, bars, _, parallel, importance, _, text = (one["config"] for one in panels)
    assert curves["xAxis"] == "_step"
    assert (points["xAxis"], points["yAxis"]) == ("config:parameters.value", "summary:test/ppl")
    assert (bars["metrics"], bars["groupBy"]) == (["test/accuracy"], "task.value.name")
    accessors = [column["accessor"] for column in parallel["columns"]]
    assert accessors == ["config:optimizer.value.learning_rate", "summary:val/ppl"]
    assert (importance["targetKey"], text["value"]) == ("val/ppl", "Some *words*.")
    assert asked(run_sets(told["spec"])[0])["data.value.name"] == "pydoc8"
    assert told["displayName"] == "Every kind, scale smoke"


def test_a_file_of_ones_own_takes_the_place_of_ours(desk, tmp_path):
    own(tmp_path, "title: My table 2\nsections: [{title: A, panels: [{kind: runs}]}]\n", "table2")
    desk.make("what=table2")
    told = desk.written("table2-smoke")
    assert (told["displayName"], len(list(panels_of(told["spec"])))) == ("My table 2, scale smoke", 1)
    assert asked(run_sets(told["spec"])[0])["group"] == "table2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sections: [", "mine.yaml, line 1: this is no YAML"),
        ("7", "mine.yaml: it must say at least sections:"),
        ("title: x", "mine.yaml: sections is not set"),
        ("sections: []\ncolour: red", "mine.yaml: there is no colour;"),
        (
            "sections: [{title: A, panels: [{kind: curve, y: [a]}]}]",
            "panels.0: kind=curve is not known; use one of curves,",
        ),
        ("sections: [{title: A, panels: [{kind: curves}]}]", "sections.0.panels.0.y is not set"),
        ("sections: [{title: A, panels: [{kind: curves, y: []}]}]", "sections.0.panels.0.y=[]: "),
        (
            "sections: [{title: A, panels: [{kind: bars, y: [a], log_x: true}]}]",
            "there is no sections.0.panels.0.log_x",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(desk, tmp_path, text, says):
    own(tmp_path, text)
    assert says in desk.make("what=mine").refusal()
    assert not desk.reports.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("what=tabel2", "what=tabel2 is no page; use all, or one of figure2, "),
        ("what=tabel2", "did you mean table2?"),
        ("what=sweep", "what=sweep is no page"),
        ("scale=smok", "scale=smok is not known; did you mean smoke?"),
        ("dryness=true", "there is no setting dryness"),
        ("what=table1,table2", "what=table1,table2: one page at a time, such as what=table1; or all"),
        ("reports=a.txt", "reports=a.txt: Not a directory; use reports=DIR for another place"),
        ("runs=nowhere", "there is no run store at nowhere; runs=DIR names another one"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_line(desk, words, says):
    Path("a.txt").touch()
    assert says in desk.make(words).refusal()
    assert not desk.reports.exists()


def test_without_the_library_one_line_says_how_to_get_it(desk, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb_workspaces" else find(name))
    assert "pip install -e '.[dashboard]'" in desk.make().refusal()


def test_offline_a_folder_holds_a_link_to_every_session_of_a_group(desk):
    desk.fill()
    sessions = {}
    for run in ("t00", "t10", "tgroup"):
        sessions[run] = desk.shelf.directory / run / "wandb" / f"offline-run-20261127_000000-{run}"
        sessions[run].mkdir(parents=True)
        (sessions[run] / f"run-{run}.wandb").write_bytes(b"")
    replaced = desk.shelf.directory / "t00" / "wandb" / "replaced" / "offline-run-20261126_000000-t00"
    replaced.mkdir(parents=True)
    (desk.shelf.directory / "t00" / "wandb" / "latest-run").symlink_to(sessions["t00"])
    outcome = desk.make("what=table2")
    folder = desk.reports / "wandb" / "table2"
    assert f"wandb leet {folder}" in outcome.out
    assert f"wandb sync {folder}/offline-run-*" in outcome.out
    assert {path.resolve() for path in folder.iterdir()} == {sessions["t00"].resolve(), sessions["t10"].resolve()}
    (sessions["t10"] / "run-t10.wandb").unlink()
    sessions["t10"].rmdir()
    desk.make("what=table2")
    assert [path.resolve() for path in folder.iterdir()] == [sessions["t00"].resolve()]


def test_offline_runs_without_a_group_are_said_to_have_no_folder(desk):
    desk.shelf.put("alone")
    session = desk.shelf.directory / "alone" / "wandb" / "offline-run-20261127_000000-alone"
    session.mkdir(parents=True)
    said = " ".join(desk.make("what=workspace").out.split())
    assert f"each in the folder of its run: wandb leet {session.parent}" in said
    assert not (desk.reports / "wandb").exists()


def test_what_the_library_refuses_is_one_line(desk, tmp_path):
    own(tmp_path, "title: Fun 🎉\nsections: []\n", "workspace")
    assert "the page workspace: W&B does not take 'Fun 🎉'" in desk.make("what=workspace").refusal()
    assert not desk.reports.exists()


def test_a_sweep_has_the_title_and_the_group_that_its_file_says(desk, tmp_path):
    (tmp_path / "conf" / "sweeps").mkdir(parents=True)
    (tmp_path / "conf" / "sweeps" / "rates.yaml").write_text("group: of_rates\nreport: {title: Learning rates}\n")
    assert desk.make("what=rates").status == 0
    told = desk.written("rates-smoke")
    assert told["displayName"] == "Learning rates, scale smoke"
    assert asked(run_sets(told["spec"])[0])["group"] == "of_rates"
