"""Figure 3a: curves by hand, the differences to Mamba, the faults beside the lines of no knowledge."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from diffmamba import reports
from diffmamba.errors import SettingError
from diffmamba.measures import LossByPosition
from diffmamba.reports.designs import figure3a
from diffmamba.runs.plan import configurations

SEEDS = (0, 42, 77)
LENGTH = 400
CELLS = [(model, "pydoc8", None, 1) for model in ("mamba", "diff_mamba")]
CELLS += [("mamba", "pydoc_tokens", fed, shift) for fed in ("pydoc_tokens", "pydoc_foreign") for shift in (1, 2)]


def config_of(model: str, data: str, measured: str | None, shift: int, seed: int, width: int = 101) -> dict:
    module = {"reencode": False} if measured == "pydoc_foreign" else {}
    return {
        "model": {"name": model},
        "data": {"name": data, "module": {}},
        "measured": measured and {"name": measured, "module": module},
        "measure": {"shift": shift},
        "published": {"smoothing": width},
        "seed": seed,
    }


def curve_of(cell: int, seed: int) -> np.ndarray:
    """Nats by position of a cell and seed."""
    noise = np.random.default_rng([cell, seed]).normal(size=LENGTH)
    return 2 + cell + 1 / np.arange(1, LENGTH + 1) + 0.01 * seed / 77 * (1 + cell) + 0.1 * noise


def rows_of(run_id: str) -> pd.DataFrame:
    cell, seed = map(int, run_id.split("-"))
    by_position = [("nats", value, place) for place, value in enumerate(curve_of(cell, seed), start=1)]
    return pd.DataFrame(
        [("nats", 7.0, math.nan), *by_position, ("stretches", 3, 1)], columns=["measure", "value", "position"]
    )


@pytest.fixture
def sweep():
    return results_of(101)


def results_of(width: int):
    planned = [(f"{at}-{seed}", config_of(*cell, seed, width)) for at, cell in enumerate(CELLS) for seed in SEEDS]
    found = {}
    for run_id, _ in planned:
        nats = float(curve_of(*map(int, run_id.split("-"))).mean())
        values = {"nats": nats, "late_nats": nats - 0.1, "uniform_nats": 6.2, "unigram_nats": 5.1}
        found[run_id] = {
            "kind": "measurement",
            "status": "finished",
            "measure": LossByPosition.described(),
            "values": values,
        }
    return reports.results(figure3a.DESIGN, planned, found, "smoke", rows_of=rows_of)


def test_the_cells_are_models_on_one_text_and_faults_on_the_other(sweep):
    groups = {
        name: [(cell.key.fields["model"], cell.key.fields["fault"]) for cell in cells]
        for name, cells in sweep.groups.items()
    }
    assert groups == {
        "pydoc8": [("mamba", ""), ("diff_mamba", "")],
        "pydoc_tokens": [
            ("mamba", ""),
            ("mamba", "target shifted twice"),
            ("mamba", "ids of another tokenizer"),
            ("mamba", "both faults"),
        ],
    }
    assert [cell.key.is_baseline for cell in sweep.cells] == [True, False, True, False, False, False]
    assert sweep.cells[5].delta == pytest.approx(
        np.mean([curve_of(5, s).mean() - curve_of(2, s).mean() for s in SEEDS])
    )
    other = figure3a.key(config_of("mamba", "pydoc8", "pysrc8", 1, 0))
    assert other.group == "pysrc8, of models of pydoc8"


@pytest.mark.parametrize("width", [1, 3, 101, 999])
def test_smoothing_is_a_mean_around_each_position(width):
    values = np.random.default_rng(0).normal(size=LENGTH)
    expected = []
    for at in range(LENGTH):
        before = min(at, width // 2)
        expected.append(values[at - before : at + min(before, LENGTH - 1 - at) + 1].mean())
    assert figure3a.smoothed(values, width) == pytest.approx(expected, abs=1e-12)


def test_curves_are_smoothed_by_seed_and_then_averaged(sweep):
    main, faults = figure3a.DESIGN.charts(sweep)
    (nats, delta), (lines,) = main.panels[0], faults.panels[0]
    ours, theirs = ([figure3a.smoothed(curve_of(cell, seed), 101) for seed in SEEDS] for cell in (1, 0))
    places = np.array(nats.series[1].x).astype(int) - 1
    assert (places[0], places[-1], len(places)) == (0, LENGTH - 1, len(set(places)))
    assert nats.series[1].y == pytest.approx(np.mean(ours, axis=0)[places])
    assert delta.series[1].y == pytest.approx(np.subtract(ours, theirs).mean(axis=0)[places])
    assert delta.series[1].low[5] < delta.series[1].y[5] < delta.series[1].high[5]
    assert [one.label for one in nats.series] == ["mamba", "diff_mamba"]
    assert {one.label: one.y[0] for one in lines.series[-2:]} == {"uniform": 6.2, "unigram": 5.1}
    assert [one.label for one in lines.series[:-2]] == ["without a fault", *list(figure3a.FAULTS.values())[1:]]
    raw = figure3a.DESIGN.charts(results_of(1))[0].panels[0][0].series[1]
    assert raw.y == pytest.approx(np.mean([curve_of(1, seed) for seed in SEEDS], axis=0)[places])


@pytest.mark.parametrize("width", [0, 2, "long"])
def test_a_wrong_smoothing_is_one_line(width):
    with pytest.raises(SettingError, match=rf"published\.smoothing={width} must be an odd number of positions"):
        figure3a.key(config_of(*CELLS[0], 0, width))


def test_its_files(sweep, tmp_path):
    names = {path.name for path in reports.write(figure3a.DESIGN, sweep, tmp_path)}
    assert {"figure3a.svg", "figure3a.csv", "figure3a.json", "faults.png", "index.html"} <= names
    points = pd.read_csv(tmp_path / "figure3a.csv", keep_default_na=False, na_values=[""])
    both = points[points["fault"] == "both faults"]
    assert both["position"].tolist()[:3] == [1, 2, 3]
    assert both["delta_mean"].to_numpy() == pytest.approx(
        (
            both["nats_mean"]
            - points[points["measured_on"] == "pydoc_tokens"].iloc[: len(both)]["nats_mean"].to_numpy()
        ).to_numpy()
    )
    rows = json.loads((tmp_path / "figure3a.json").read_text())["rows"]
    assert [row["uniform_nats"] for row in rows] == [6.2] * 6
    assert rows[0]["late_nats"] == pytest.approx(rows[0]["nats_mean"] - 0.1)
    assert "near 10 nats per token" in (tmp_path / "figure3a.md").read_text()


def test_a_page_without_runs_yet():
    planned = [(f"{at}-0", config_of(*cell, 0)) for at, cell in enumerate(CELLS)]
    empty = reports.results(figure3a.DESIGN, planned, {}, "smoke", rows_of=rows_of)
    document = reports.document(figure3a.DESIGN, empty)
    assert "No run has finished yet." in str(document)


@pytest.mark.parametrize(
    ("scale", "length", "window", "data"), [("smoke", 4096, 256, "pydoc8"), ("paper", 65536, 2048, "text8")]
)
def test_the_sweep_measures_the_trainings_of_table_2(scale, length, window, data):
    found = configurations("figure3a", [f"scale={scale}", "seed=0"])
    assert (len(found), len({figure3a.key(config) for config in found})) == (7, 7)
    assert {config["data"]["name"] for config in found} == {data, "pydoc_tokens"}
    assert {(config["measure"]["length"], config["measure"]["window"]) for config in found} == {(length, window)}
    switches = ["seed=0", "model.outer_norm=false,true", "model.lambda_form=scalar"]
    of_table = [training_of(config) for config in configurations("table2", [f"scale={scale}", *switches])]
    ours = [training_of(config) for config in found if config["data"]["name"] == data]
    assert len(ours) == 3
    assert all(one in of_table for one in ours)


def training_of(config):
    """What determines a training. Mamba has no λ, so a form of it changes nothing."""
    parts = {name: config[name] for name in ("model", "data", "task", "optimizer", "budget", "trainer", "seed")}
    no_lambda = {"lambda_form": None} if config["model"]["name"] == "mamba" else {}
    return parts | {"model": config["model"] | no_lambda}
