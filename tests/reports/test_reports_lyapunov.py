"""The figure of Lyapunov exponents, from measurements made by hand, and the works that its sweep asks for."""

import math
from itertools import product

import pandas as pd
import pytest
from by_hand import shown

from diffmamba import reports
from diffmamba.measures import FreeRunning, Lyapunov, Perturbation
from diffmamba.reports.designs import find, lyapunov_charts
from diffmamba.runs.plan import expand

DESIGN = find("figure", "lyapunov")
MEASURES = {one.__name__: one for one in (Lyapunov, FreeRunning, Perturbation)}
MODELS = ("mamba", "diff_mamba")
SEEDS = (0, 1, 2)
WORKS = ["NoneType", "Lyapunov", "Lyapunov", "FreeRunning", "FreeRunning", "Perturbation"]
PLACES = [
    *product(("Lyapunov", "FreeRunning"), ("Trained", "Fresh"), MODELS),
    *product(["Perturbation"], ["Fresh"], MODELS),
]


def exponent(kind, weights, model, seed):
    """In the loop, training takes it above 0."""
    base = {"Lyapunov": -0.01, "FreeRunning": 0.2 if weights == "Trained" else -0.02, "Perturbation": -0.002}[kind]
    return base - 0.001 * (model == "diff_mamba") - 0.0001 * seed * (1 + (model == "mamba"))


def rows_of(run_id):
    kind, weights, model, seed = run_id.split(":")
    value = exponent(kind, weights, model, int(seed))
    if kind == "Lyapunov":
        ends = {0.0: 100 * value, 0.5: 10 * value, 1.0: value}
        rows = [{"block": 3, "branch": 1, "quantile": share, "value": one} for share, one in ends.items()]
    elif kind == "FreeRunning":
        rows = [{"temperature": at, "value": value * at} for at in (0.5, 0.1)]
        rows += [{"temperature": 0.5, "start": start, "value": value} for start in range(4)]
    else:
        rows = [{"time": at, "value": 3 * math.exp(value * at)} for at in range(50)]
    measure = "deviation" if kind == "Perturbation" else "exponent"
    return pd.DataFrame([{"measure": measure, **row} for row in rows])


@pytest.fixture
def results():
    planned, found = [], {}
    for (kind, weights, model), seed in product(PLACES, SEEDS):
        run_id = f"{kind}:{weights}:{model}:{seed}"
        targets = {"measure": {"_target_": f"a.{kind}"}, "weights": {"_target_": f"b.{weights}"}}
        planned.append((run_id, {"model": {"name": model}, "seed": seed, **targets}))
        value = exponent(kind, weights, model, seed)
        more = {
            "positive": float(value > 0),
            "exponents": 10,
            "smallest": 100 * value,
            "bound": value + 0.0005,
            "blocks": 6,
        }
        measured = {"measure": MEASURES[kind].described(), "values": {"exponent": value, **more}}
        found[run_id] = {"kind": "measurement", "status": "finished", "corpus": {"name": "any"}, **measured}
    return reports.results(DESIGN, planned, found, "smoke", rows_of=rows_of)


def test_each_kind_of_measurement_is_compared_by_itself(results):
    assert list(results.groups) == [
        "teacher-forced, after training",
        "teacher-forced, before training",
        "reads its own output, after training",
        "reads its own output, before training",
        "random inputs, changed once, before training",
    ]
    for cells in results.groups.values():
        assert [cell.key.is_baseline for cell in cells] == [True, False]
        assert cells[1].delta == pytest.approx(-0.0009)
        assert cells[1].differs == "lower"  # which is neither better nor worse
    effects = {cell.key.label: cell for cell in DESIGN.effects(results)}
    assert effects["training, mamba, reads its own output"].delta == pytest.approx(0.22)
    assert effects["training, mamba, teacher-forced"].delta == pytest.approx(0)
    assert len(effects) == 4


def test_the_page_counts_what_lies_above_0(results, tmp_path):
    document = reports.document(DESIGN, results)
    text = " ".join(shown(document, 200).split())
    for told in (
        "Of 120 exponents of states in 12 teacher-forced measurements 0 lie above 0. The largest is −0.0100",
        "Of 48 trajectories that read their own output, 24 have an exponent above 0 at temperature 0.5.",
        "Of each network on random inputs 6 layers are measured, before training.",
        "lower or higher than mamba, measured in the same way",
    ):
        assert told in text
    row = next(one for one in document.data["rows"] if one["measure"] == "Lyapunov")
    assert row["half_life"] == pytest.approx(math.log(2) / 0.0102)
    names = {path.name for path in reports.write(DESIGN, results, tmp_path)}
    assert {"figure_lyapunov.png", "deviations.png", "temperatures.png", "quantiles.csv", "deviations.csv"} <= names


def test_the_pictures_have_the_numbers(results):
    by_depth, over_time, by_temperature, _ = DESIGN.charts(results)
    panels = {panel.title: panel.series for row in by_depth.panels for panel in row}
    (branch,) = panels["mamba, before training"]
    ends = [branch.low[0], branch.y[0], branch.high[0]]
    assert branch.x == (3.0,)
    assert ends == pytest.approx([math.log(2) / 0.0102 / factor for factor in (100, 10, 1)])
    line, bound = over_time.panels[0][0].series
    assert "over 6 layers" in over_time.caption
    assert line.y[0] == bound.y[0] == pytest.approx(3)
    assert line.y[-1] == pytest.approx(3 * math.exp(49 * -0.0022))
    assert bound.y[-1] == pytest.approx(3 * math.exp(49 * -0.0017))
    after = by_temperature.panels[0][1]
    assert after.title == "after training"
    assert after.series[1].x == (0.1, 0.5)
    assert after.series[1].y == pytest.approx((0.01998, 0.0999))


def test_without_results_there_is_a_page_all_the_same(results):
    planned = [
        (
            run.id,
            {
                "model": {"name": "mamba"},
                "seed": run.seed,
                "measure": {"_target_": "a.Lyapunov"},
                "weights": {"_target_": "b.Fresh"},
            },
        )
        for run in results.cells[0].seeds
    ]
    empty = reports.results(DESIGN, planned, {}, "smoke")
    assert reports.document(DESIGN, empty).data["rows"][0]["status"] == "missing"
    assert lyapunov_charts.points(empty) == {}


def test_the_sweep_measures_the_trainings_of_table_2():
    few = ["scale=smoke", "seed=0", "model=diff_mamba"]
    of_table = expand("table2", [*few, "model.outer_norm=true", "model.lambda_form=scalar"])
    works = [item.work for item in expand("figure_lyapunov", few)]
    assert [type(getattr(work, "measure", None)).__name__ for work in works] == WORKS
    (needed,) = {training.identity() for work in works for training in work.needs}
    assert needed == of_table[0].work.identity()
