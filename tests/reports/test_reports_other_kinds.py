"""An experiment of another kind, a measurement whose metric is better when higher, needs a design and nothing else."""

import json
from dataclasses import replace
from itertools import product

import pytest
from by_hand import shown

from diffmamba import reports
from diffmamba.document import Chart, Panel, Series
from diffmamba.paper.published import PublishedResult
from diffmamba.reports import charts, columns
from diffmamba.reports.cells import Key
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design

PUBLISHED = {"mamba": (40.0, 0.0), "diff_mamba": (45.0, 5.0), "other": (30.0, -10.0)}


def key(config):
    """A model that answers the questions of a task."""
    task, model = config["data"]["name"], config["model"]["name"]
    paper = PublishedResult(*PUBLISHED[model]) if task == "qa1" else PublishedResult()
    return Key({"task": task, "model": model}, f"{task}, {model}", model == "mamba", group=task, published=paper)


def bars(results):
    """A picture of a kind that this package does not have."""
    cells = [cell for cell in results.cells if cell.mean is not None]
    x, y = tuple(map(float, range(len(cells)))), tuple(cell.mean for cell in cells)
    panel = Panel("", (Series("all", x, y, "#0072b2", line="", marker="o"),), y_label=results.metric.label)
    return [Chart("scores", "Scores", ((panel,),), alt="scores"), charts.deltas(results, "mamba")]


TASK = Column("task", lambda cell: cell.key.fields["task"], word=True)
TABLE = Design("table9", "Table 9: answers", "answers", key, "mamba", (columns.MODEL, TASK, *columns.VERDICT), bars)
FIGURE = replace(TABLE, name="figure9", kind="figure")
VALUES = {"mamba": (40, 42, 42, 40), "diff_mamba": (50, 53, 53, 50), "other": (44, 48, 48, 44)}
MEASURE = {"headline": "accuracy", "metrics": {"accuracy": {"label": "accuracy", "better": "higher", "digits": 1}}}


@pytest.fixture
def runs():
    """The planned runs and the records of finished measurements, without evaluations; one run of qa2 is missing."""
    planned, records = [], {}
    for task, model, seed in product(("qa1", "qa2"), VALUES, range(4)):
        run_id = f"{task}-{model}-{seed}"
        planned.append((run_id, {"data": {"name": task}, "model": {"name": model}, "seed": seed}))
        measured = {"measure": MEASURE, "values": {"accuracy": VALUES[model][seed]}, "corpus": {"name": "stories"}}
        records[run_id] = {"kind": "measurement", "status": "finished", **measured}
    del records["qa2-other-1"]
    return planned, records


def test_the_metric_and_its_words_come_from_the_records(runs, tmp_path):
    results = reports.results(TABLE, *runs, "smoke")
    assert [cell.sign for cell in results.cells] == ["–", "✓", "✗", "–", "–", "–"]
    assert [cell.differs for cell in results.cells] == ["–", "better", "better", "–", "better", "~"]
    assert results.cells[1].delta == pytest.approx(10.5)
    document = reports.document(TABLE, results)
    text = " ".join(shown(document, 160).split())
    for told in (" accuracy ", "51.5 ± 1.7", "+10.5", "positive is better", "1 of 24 runs missing", "on stories"):
        assert told in text
    for word in ("PPL", "negative is better", "pydoc"):
        assert word not in text
    assert [path.name for path in reports.write(TABLE, results, tmp_path)][-1] == "index.html"
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["metric"] == "accuracy"
    assert list(content["rows"][0])[:6] == ["task", "model", "status", "seeds", "params", "accuracy_mean"]
    assert content["rows"][0]["paper_accuracy"] == 40.0
    for name in ("index.html", "table.md"):
        text = (tmp_path / name).read_text().replace("\u00a0", " ")
        assert all(told in text for told in ("51.5 ± 1.7", "positive is better", "✗"))
    assert TABLE.charts(results)[1].panels[0][0].x_label == "Δ accuracy to mamba\n(right is better)"


def test_a_figure_of_measurements_is_written(runs, tmp_path):
    results = reports.results(FIGURE, *runs, "smoke")
    names = [path.name for path in reports.write(FIGURE, results, tmp_path)]
    assert {"figure9.svg", "figure9.png", "figure9.pdf", "figure9.csv", "index.html"} <= set(names)
    content = json.loads((tmp_path / "figure9.json").read_text())
    assert content["figure"] == "figure9"
    means = [row["accuracy_mean"] for row in content["rows"]]
    assert means == pytest.approx([41.0, 51.5, 46.0, 41.0, 51.5, 136 / 3])


def test_a_training_of_another_task_has_curves_of_its_metric(runs):
    planned, _ = runs
    evaluations = [{"step": k, "epoch": 0.1 * k, "tokens": 10 * k, "test/accuracy": 0.1 * k} for k in (1, 2)]
    trained = {"kind": "training", "status": "finished", "task": MEASURE | {"headline": "test/accuracy"}}
    records = {run_id: {**trained, "evaluations": evaluations} for run_id, _ in planned}
    results = reports.results(TABLE, planned, records, "smoke")
    panel = charts.panel(results, "", results.groups["qa1"])
    assert (results.metric.key, panel.y_label) == ("test/accuracy", "accuracy")
    assert [series.label for series in panel.series] == list(VALUES)
    assert charts.curves("any", results, [[panel]], "").alt.startswith("Curves of test/accuracy")
    assert len(charts.points(results)) == 2 * 6


def test_without_a_record_nothing_is_said_about_the_metric(runs):
    results = reports.results(TABLE, runs[0], {}, "smoke")
    document = reports.document(TABLE, results)
    assert not results.counted
    assert document.data["metric"] == "result"
    assert not any("is better" in getattr(block, "text", "") for block in document.blocks)
