"""Figure attention from rows made by hand: what its rows, its effects and its pictures show."""

import math

import pandas as pd
import pytest

from diffmamba.reports import compose, design
from diffmamba.reports.designs.figure_attention import DESIGN, READINGS, key

MEASURE = {"name": "ImplicitAttention", "headline": "entropy", "metrics": {"entropy": {"label": "entropy, bits"}}}
MODELS, SEEDS, KINDS = ("mamba", "diff_mamba"), (0, 1, 2), ("Trained", "Fresh")
WORTH = {"branch1": 0.1, "branch2": 0.2, "difference": 0.3, "output": 0.4}


def value(name, model, kind, seed, part):
    """A number that tells all of these apart."""
    figure = ("entropy", "needle", "snr", "first").index(name) + 1
    return figure + WORTH[part] + seed**2 / 50 + (5 if model != "mamba" else 0) + (0.05 if kind == "Fresh" else 0)


def rows_of(run_id):
    data, kind, model, seed = run_id.split(":")
    parts = ("branch1", "output") if model == "mamba" else tuple(WORTH)
    names = ("entropy", "first", *(["needle", "snr"] if data == "needle" else []))
    found = [("entropy", 1.5, "uniform", None, None, None, None)]
    for name in names:
        found.append((name, value(name, model, kind, int(seed), "output"), None, None, None, None, None))
        for part in parts:
            told = value(name, model, kind, int(seed), part)
            found.append((name, told, part, None, None, None, None))
            found += [(name, told + block - 1.5, part, block, None, None, None) for block in (1, 2)]
    for part in (*parts, "uniform"):
        found += [("mass", 0.1 * step, part, None, step, None, None) for step in (1, 2, 4)]
    for part in parts:
        found += [("map", 1.0, part, block, None, row, 0) for block in (1, 2) for row in range(2)]
    return pd.DataFrame(found, columns=["measure", "value", "part", "block", "distance", "row", "column"])


def results(datas=("pydoc8", "needle"), missing=()):
    ids = [f"{d}:{k}:{m}:{s}" for d in datas for k in KINDS for m in MODELS for s in SEEDS]
    planned, found = [], {}
    for run_id in ids:
        data, kind, model, seed = run_id.split(":")
        config = {
            "model": {"name": model},
            "data": {"name": data} | ({"rule": {}} if data == "needle" else {}),
            "seed": int(seed),
        }
        planned.append((run_id, config | {"weights": {"_target_": f"diffmamba.runs.weights.{kind}"}}))
        values = {"entropy": value("entropy", model, kind, int(seed), "output")}
        values |= {"accuracy": 0.9 if kind == "Trained" else 0.1} if data == "needle" else {}
        record = {"status": "finished", "kind": "measurement", "measure": MEASURE, "values": values}
        if run_id not in missing:
            found[run_id] = record
    return design.results(DESIGN, planned, found, "smoke", rows_of=rows_of)


def test_each_reading_has_a_row_for_each_model():
    found = results()
    assert len(found.cells) == len(READINGS) * len(MODELS)
    for reading in READINGS:
        kind = reading.weights.capitalize()
        rows = [c for c in found.cells if c.key.group.endswith(f"{reading.weights}: {reading.label}, {reading.kind}")]
        assert [row.key.fields["on"] for row in rows] == [reading.on] * 2
        for row, model in zip(rows, MODELS, strict=True):
            part = "output" if reading.kind == "output" else "branch1" if model == "mamba" else "difference"
            expected = {seed: value(reading.measure, model, kind, seed, part) for seed in SEEDS}
            assert row.values == pytest.approx(expected)
            assert row.delta == pytest.approx(0 if model == "mamba" else row.mean - rows[0].mean)
            assert row.key.is_baseline == (model == "mamba")


def test_the_effect_of_the_subtraction_is_that_of_the_same_weights():
    found = DESIGN.effects(results())
    assert [cell.key.fields["effect"].partition(":")[0] for cell in found] == [
        "diff_mamba, needle",
        "diff_mamba, pydoc8",
    ]
    for cell in found:
        assert cell.delta == pytest.approx(WORTH["difference"] - WORTH["branch1"])


def test_the_page_has_all_pictures_and_says_what_was_found():
    found = results()
    document = compose.document(DESIGN, found)
    charts = {chart.name: chart for chart in DESIGN.charts(found)}
    assert list(charts) == ["maps", "depth", "distance"]
    assert [[panel.title.strip() for panel in row] for row in charts["maps"].panels] == [
        ["mamba, block 2\nbranch 1", "output"],
        ["diff_mamba, block 2\nbranch 1", "branch 2", "M1 − λ M2", "output"],
    ]
    assert charts["maps"].panels[0][0].shades == ((1.0,), (1.0,))
    assert "mamba (trained) 0.900" in "".join(DESIGN.notes_on(found))
    needle = charts["depth"].panels[0][0]
    line = next(series for series in needle.series if series.label == "diff_mamba")
    middle = sum(value("needle", "diff_mamba", "Trained", seed, "difference") for seed in SEEDS) / 3
    assert line.y == pytest.approx((middle - 0.5, middle + 0.5))
    assert document.data["rows_compared"] == len(READINGS)
    table = DESIGN.tables(found)["attention"]
    assert "map" not in set(table["measure"])
    assert set(table["model"]) == set(MODELS)


@pytest.mark.parametrize("datas", [("pydoc8",), ("needle",)], ids=str)
def test_one_kind_of_data_alone_is_a_page_too(datas):
    found = results(datas)
    assert {cell.key.fields["data"] for cell in found.cells} == set(datas)
    assert all(len(chart.panels) == (2 if chart.name == "maps" else 1) for chart in DESIGN.charts(found))
    compose.document(DESIGN, found)


def test_what_is_measured_on_counts_and_recall_is_no_text():
    weights = {"_target_": "diffmamba.runs.weights.Trained"}
    config = {"model": {"name": "mamba"}, "data": {"name": "pydoc8"}, "weights": weights, "seed": 0}
    assert key(config).fields["data"] == "pydoc8"
    elsewhere = key(config | {"measured": {"name": "pysrc8"}})
    assert (elsewhere.fields["data"], elsewhere.fields["on"], elsewhere.group) == ("pysrc8", "text", "pysrc8, trained")
    assert key(config | {"data": {"name": "in_context_recall", "rule": {}}}).fields["on"] == "needle"


def test_runs_that_are_missing_are_named():
    whole = [f"needle:Trained:diff_mamba:{seed}" for seed in SEEDS]
    found = results(missing=[*whole, "needle:Trained:mamba:1"])
    missing = [cell for cell in found.cells if not cell.values]
    assert {cell.key.fields["model"] for cell in missing} == {"diff_mamba"}
    assert all(math.isfinite(cell.mean) for cell in found.cells if cell.values)
    compose.document(DESIGN, found)
    assert DESIGN.charts(found)
