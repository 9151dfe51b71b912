"""Figure 5 equals what its runs say: scores, the choice of runs, gains, pictures, and what incomplete stores give."""

import csv
import json
import math
from dataclasses import fields
from itertools import pairwise, product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from by_hand import failed, shown, table2
from mad_by_hand import BASELINES, CHANGES, FIXED, OPTIMIZERS, TASKS, Mad, config, whole
from omegaconf import OmegaConf

from diffmamba import reports
from diffmamba.data import Compression, FuzzyInContextRecall, InContextRecall, Memorization, SelectiveCopying
from diffmamba.document import Chart, Grid
from diffmamba.errors import SettingError
from diffmamba.paper import published, remarks
from diffmamba.reports import designs, interactive, statistics
from diffmamba.reports.designs import figure5, mad, mad_charts

ROOT = Path(__file__).parents[2]
FEW = {"compression": [{"vocabulary": 32}], "selective_copying": [{"copy": 32}, {"length": 512}]}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def small():
    """Two tasks of six, with few settings: what most tests need."""
    return whole(changes=FEW, optimizers=OPTIMIZERS[1:4], tasks=tuple(FEW))


@pytest.fixture(scope="module")
def full():
    """All tasks and settings of the paper's grid, with one setting of the optimiser."""
    return whole(optimizers=OPTIMIZERS[2:3])


def chosen(sweep, task, model, seed, by, name="test/accuracy"):
    """The chosen accuracy of each setting, found without the package."""
    found = {}
    for run_id, told in sweep.planned:
        if (told["data"]["name"], told["model"]["name"], told["seed"]) == (task, model, seed):
            setting = tuple(told["data"].items())
            last = sweep.records[run_id]["evaluations"][-1]
            found.setdefault(setting, []).append((by(told, last), last[name]))
    return [max(runs, key=lambda run: run[0])[1] for runs in found.values()]


BY = {
    "test": lambda told, last: last["test/accuracy"],
    "val": lambda told, last: last["val/accuracy"],
    "fixed": lambda told, last: told["optimizer"] == FIXED,
}


def row(found, task, model):
    """A row of `figure5.json`."""
    return next(one for one in found["rows"] if (one["task"], one["model"]) == (task, model))


def test_scores_gains_and_the_three_readings_equal_the_runs(small):
    found = small.document().data
    assert {one["task"] for one in found["rows"]} == {*FEW, "total of 2 tasks"}
    scores = {}
    for task, model, (name, by) in product(FEW, ("mamba", "diff_mamba"), BY.items()):
        seeds = [fmean(chosen(small, task, model, seed, by)) for seed in SEEDS]
        scores[task, model, name] = seeds
        assert row(found, task, model)[f"accuracy_by_{name}"] == pytest.approx(fmean(seeds), abs=1e-12)
    for task, model in product(FEW, ("mamba", "diff_mamba")):
        ours, theirs = scores[task, model, "test"], scores[task, "mamba", "test"]
        told = row(found, task, model)
        assert told["accuracy_mean"] == told["accuracy_by_test"]
        assert told["accuracy_std"] == pytest.approx(stdev(ours), abs=1e-12)
        assert told["delta"] == pytest.approx(fmean(ours) - fmean(theirs), abs=1e-12)
        assert told["gain_percent"] == pytest.approx(100 * (fmean(ours) / fmean(theirs) - 1), abs=1e-9)
    for model, name in product(("mamba", "diff_mamba"), BY):
        total = fmean(fmean(scores[task, model, name]) for task in FEW)
        assert row(found, "total of 2 tasks", model)[f"accuracy_by_{name}"] == pytest.approx(total, abs=1e-12)


def test_each_reading_chooses_another_run_and_best_of_says_which_is_the_score():
    values = [(0.5, 0.9), (0.6, 0.7), (0.8, 0.6), (0.8, 0.5)]  # on the test and the validation set
    for best_of, score in (("test", 0.8), ("val", 0.5), ("fixed", 0.6)):
        sweep = Mad(best_of)
        runs = []
        for optimizer, (test, val) in zip((*OPTIMIZERS[1:3], *OPTIMIZERS[4:]), values, strict=True):
            runs.append(sweep.add_run("memorization", "mamba", 1, optimizer=optimizer, test=test, val=val))
        (told,) = sweep.document().data["rows"]
        assert [told[f"accuracy_by_{name}"] for name in mad.READINGS] == [0.8, 0.5, 0.6]
        assert (told["accuracy_mean"], told["best_of"]) == (score, best_of)
        expected = runs[{"test": 2, "val": 0, "fixed": 1}[best_of]]  # of the two best on the test set the first
        assert told["chosen_runs"] == [expected]
        assert f"accuracy, Δ and gain are those of column {figure5.HEADERS[best_of]}" in sweep.printed(400)


def test_a_reading_that_has_no_run_is_a_dash_and_no_score():
    sweep, other = Mad(), Mad("fixed")
    for one in (sweep, other):
        for optimizer, test in zip(OPTIMIZERS[:2], (0.5, 0.4), strict=True):
            run_id = one.add_run("memorization", "mamba", 1, optimizer=optimizer, test=test)
            for evaluation in one.records[run_id]["evaluations"]:
                del evaluation["val/accuracy"]
    (told,) = sweep.document().data["rows"]
    assert [told[f"accuracy_by_{name}"] for name in mad.READINGS] == [0.5, None, None]
    assert "No setting of the optimiser here is published.fixed, so there is no column fixed." in sweep.printed(400)
    assert other.results().cells[0].status == "failed"
    assert other.results().missing == [
        "memorization, mamba: seed 1 has no run with published.fixed in some setting of the task"
    ]


def test_a_seed_counts_only_where_every_run_of_it_counts():
    sweep = whole(changes=FEW, optimizers=OPTIMIZERS[1:4], tasks=tuple(FEW))
    lost = [run_id for run_id, told in sweep.planned if told == config("compression", "mamba", 2, (), OPTIMIZERS[1])]
    broken = config("selective_copying", "diff_mamba", 3, {"copy": 32}, OPTIMIZERS[3])
    (failing,) = [run_id for run_id, told in sweep.planned if told == broken]
    sweep.lose(*lost)
    sweep.records[failing].update(failed())
    results = sweep.results()
    rows = {cell.key.label: cell for cell in results.cells}
    assert list(rows["compression, mamba"].values) == [1, 3]
    assert list(rows["selective_copying, diff_mamba"].values) == [1, 2]
    assert [list(rows[f"total of 2 tasks, {model}"].values) for model in ("mamba", "diff_mamba")] == [[1, 3], [1, 2]]
    assert len(results.runs) - len(results.counted) == 2
    assert not results.complete
    told = "\n".join(results.missing)
    assert "compression, mamba: seed 2 has 5 of 6 runs that count\n" in told
    assert "seed 3 has 8 of 9 runs that count (selective_copying, diff_mamba, vocabulary=16, length=256" in told
    assert f"failed at step 120: loss is not finite (run {failing}))" in told
    assert "total of 2 tasks, mamba: seed 2 has no score of compression" in told


def test_a_stopped_run_counts_here_and_in_no_other_design():
    sweep, other = whole(changes={}, optimizers=OPTIMIZERS[2:3], tasks=("in_context_recall",)), table2()
    for one in (sweep, other):
        for record in one.records.values():
            record |= {"status": "stopped", "stopped": {"step": 200, "by": "EarlyStopping"}}
    assert sweep.results().complete
    assert sweep.results().cells[0].mean == pytest.approx(
        fmean(record["evaluations"][-1]["test/accuracy"] for record in list(sweep.records.values())[:3])
    )
    assert not other.results().counted
    assert "mamba: seed 0 stopped at step 200 of 150 by EarlyStopping" in "\n".join(other.results().missing)


def test_a_stopped_run_without_a_finite_accuracy_does_not_count():
    sweep = Mad()
    run_id = sweep.add_run("memorization", "mamba", 1, test=math.nan, status="stopped")
    assert f"stopped without a finite test/accuracy (run {run_id})" in sweep.results().missing[0]


def test_what_a_page_says_of_its_runs_is_of_the_real_runs(small):
    results, made = small.results(), small.document()
    assert len(results.runs) == len(small.planned) == len({run.id for run in results.runs})
    assert made.blocks[-1].title == f"All {len(small.planned)} runs"
    listed = [entry[1].text for group in made.blocks[-1].blocks[0].groups for entry in group.rows]
    assert sorted(listed) == sorted(small.records)
    assert {corpus["name"] for corpus in made.data["data"]} == set(FEW)
    shown_first = [type(block).__name__ for block in made.blocks if isinstance(block, Chart | Grid)]
    assert shown_first == ["Chart", "Grid", *["Chart"] * (len(shown_first) - 2)]
    assert made.data["git"]["revisions"] == {"7df0" * 10: len(small.planned)}


def test_the_interval_of_the_gain_is_a_bootstrap_over_seeds_and_settings(small):
    told = row(small.document().data, "selective_copying", "diff_mamba")
    ours, theirs = (
        np.array([chosen(small, "selective_copying", model, seed, BY["test"]) for seed in SEEDS])
        for model in ("diff_mamba", "mamba")
    )
    draw, gains = np.random.default_rng(7), []
    for _ in range(4000):
        places = np.ix_(draw.integers(0, 3, 3), draw.integers(0, 3, 3))
        gains.append(100 * (ours[places].mean() / theirs[places].mean() - 1))
    low, high = np.quantile(gains, [0.025, 0.975])
    assert [told["gain_low"], told["gain_high"]] == pytest.approx([low, high], abs=0.05 * (high - low))
    assert low < told["gain_percent"] < high


def test_a_gain_has_no_interval_where_there_is_nothing_to_draw_from():
    same = np.full((3, 4), 0.5)
    assert statistics.gain_interval([]) is None
    assert statistics.gain_interval([([[0.5, 0.6]], [[0.4, 0.5]])]) is None  # one seed and two settings
    assert statistics.gain_interval([([[0.5], [0.6]], [[0.4], [0.55]])]) is None  # two seeds and one setting
    assert statistics.gain_interval([(same, same)]) is None
    assert statistics.gain_interval([(same, np.eye(3, 4))]) is None  # some draws have a baseline of 0
    varied = same + np.linspace(0, 0.1, 12).reshape(3, 4)
    found = statistics.gain_interval([(1.1 * varied, varied)])  # the same gain whatever is drawn
    assert found is None
    assert statistics.gain_interval([(varied, same), (varied, same)]).low > 0


def test_with_one_seed_the_interval_of_the_gain_is_over_settings_and_says_so(small):
    settings = [0.5, 0.6, 0.8], [0.5, 0.5, 0.5]
    found = statistics.gain_interval([([settings[0]], [settings[1]])])
    assert (found.low, found.high) == (0.0, pytest.approx(60))  # all draws of one setting: 1 of 27 for each end
    sweep = whole(changes=FEW, optimizers=OPTIMIZERS[2:3], seeds=(1,), tasks=tuple(FEW))
    told = {one["task"]: one["gain_low"] for one in sweep.document().data["rows"] if one["model"] == "diff_mamba"}
    assert told["compression"] is None  # two settings
    assert None not in (told["selective_copying"], told["total of 2 tasks"])
    assert figure5.FEW_SEEDS.strip() in sweep.printed(400)
    assert figure5.FEW_SEEDS.strip() not in small.printed(400)


@pytest.mark.parametrize(("seeds", "settings", "least", "most"), [(3, 1, 65, 85), (3, 6, 88, 98)])
def test_intervals_of_gains_hold_the_true_gain_as_often_as_is_said(monkeypatch, seeds, settings, least, most):
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    draw, held = np.random.default_rng(1), 0
    for _ in range(300):
        hardness, gained = draw.normal(0.7, 0.1, settings), draw.normal(0.05, 0.05, settings)
        noise = draw.normal(0, 0.03, (2, seeds, settings))
        truth = 0.05 / 0.7 if settings > 1 else float(gained[0] / hardness[0])
        found = statistics.gain_interval([(hardness + gained + noise[0], hardness + noise[1])])
        held += found.low <= 100 * truth <= found.high
    assert least < held / 3 < most


def test_chance_and_ceiling_are_means_over_settings():
    sweep = Mad()
    for change, chance, ceiling in (((), 0.125, 1.0), ({"vocabulary": 512}, 0.0625, 0.6)):
        sweep.add_run("memorization", "mamba", 1, change, test=0.5, chance=chance, ceiling=ceiling)
    (told,) = sweep.document().data["rows"]
    assert (told["chance"], told["ceiling"]) == (pytest.approx(0.09375), pytest.approx(0.8))


def test_networks_of_several_sizes_in_a_row_are_told_as_a_range():
    sweep = Mad()
    for task, change, count in (
        ("memorization", (), 66_000),
        ("memorization", {"vocabulary": 512}, 99_000),
        ("compression", (), 66_000),
    ):
        sweep.add_run(task, "mamba", 1, change, test=0.5, parameters={"total": count})
    keys = ("params", "params_least", "params_most")
    told = {one["task"]: [one[key] for key in keys] for one in sweep.document().data["rows"]}
    several = [None, 66_000, 99_000]
    assert list(told.values()) == [[66_000] * 3, several, several]
    assert "66.0k–99.0k" in sweep.printed(400)


def test_published_numbers_and_what_can_be_computed_about_them():
    found = published.figure5("compression", "diff_mamba")
    assert (found.value, found.delta, found.gain_percent) == (0.885, 0.085, 10.6)
    assert published.figure5("total", "mamba").gain_percent == 0.0
    assert published.figure5("compression", "diff_s6") == published.PublishedResult()
    fuzzy, memorization, total = remarks.on_figure5()
    assert "in about 0.094 of cases" in fuzzy
    assert "a share of 0.913 of all keys" in memorization
    assert "0.799 and 0.829" in total


def planned_by_the_sweep(task):
    """What a task is at its baseline, and its vocabulary in each setting of the paper's grid."""
    baseline = OmegaConf.load(ROOT / f"conf/data/mad/{task}.yaml")
    grid = OmegaConf.load(ROOT / "sweeps/figure5.yaml").grids.paper
    items = [item for item in grid if item.data == f"mad/{task}"]
    changed = [item.get("data.vocabulary") for item in items]
    counts = [len(str(one).split(",")) for item in items for name, one in item.items() if name != "data"] + [1]
    same = [baseline.vocabulary] * (sum(counts) - sum(len(one.split(",")) for one in changed if one))
    return baseline, same + [int(value) for one in changed if one for value in one.split(",")]


def test_the_levels_that_are_told_of_the_paper_are_those_of_the_rules_on_its_grid():
    figure = published.numbers()["figure5"]
    fuzzy, vocabularies = planned_by_the_sweep("fuzzy_in_context_recall")
    assert sorted(figure["fuzzy_vocabularies"]) == sorted(vocabularies)
    rules = [FuzzyInContextRecall(count, fuzzy.length, fuzzy.motif) for count in vocabularies]
    assert [remarks.motif_chance(count) for count in vocabularies] == [1 / rule.answers for rule in rules]
    memorization, vocabularies = planned_by_the_sweep("memorization")
    told = figure["memorization"]
    assert sorted(told["vocabularies"]) == sorted(vocabularies)
    ceilings = [Memorization(count, memorization.length).ceiling(memorization.examples) for count in vocabularies]
    draws = told["examples"] * told["draws"]
    assert [remarks.share_seen(count, draws) for count in vocabularies] == pytest.approx(ceilings)


def test_the_grid_of_the_paper_has_the_published_number_of_settings():
    counts = published.numbers()["figure5"]["settings"]
    assert sum(counts.values()) == 33
    assert {task: 1 + len(CHANGES[task]) for task in TASKS} == counts
    assert mad.TASKS == TASKS


def test_as_published_are_only_whole_grids_chosen_by_the_test_set(full):
    assert not any(cell.key.as_published for cell in full.results().cells)  # one setting of the optimiser
    assert "this is scale smoke on" in full.printed(400)
    whole_grid = whole(models=("mamba",), seeds=(1,))
    assert all(cell.key.as_published for cell in whole_grid.results("paper").cells)


def test_charts_hold_the_scores(full):
    results = full.results()
    bars, against, training, by_place, deltas = full.design.charts(results)
    ((panel,),) = bars.panels
    groups = list(results.groups)
    assert [name.replace("\n", " ") for name in panel.x_names] == [mad_charts.title(group) for group in groups]
    for series, model in zip(panel.series, ("mamba", "diff_mamba"), strict=False):
        cells = [cell for cell in results.cells if cell.key.fields["model"] == model]
        assert (series.label, series.y) == (model, tuple(cell.mean for cell in cells))
        assert series.low == tuple(cell.mean_interval.low for cell in cells)
        assert [round(x) for x in series.x] == list(range(7))
    middles = [fmean(places) for places in zip(panel.series[0].x, panel.series[1].x, strict=True)]
    assert middles == pytest.approx(range(7))
    paper = dict(zip(map(round, panel.series[2].x[::2]), panel.series[2].y[::2], strict=True))
    assert paper == {at: published.figure5(group, "mamba").value for at, group in enumerate(groups)}
    levels = [(series.x, series.y) for series in panel.series[3:] if series.label == "chance"]
    assert levels == [((at - 0.45, at + 0.45), (0.125, 0.125)) for at in range(7)]
    assert [len(row) for row in against.panels] == [3, 3, 3, 1, 4, 4]
    noise = against.panels[4][3]
    assert (noise.x_label, noise.x_scale, noise.x_ticks) == ("noise", "log", (0.2, 0.6))
    told = BASELINES["noisy_in_context_recall"]
    for series, at in product(noise.series[:2], (0, 1)):
        setting = told | {"noise": noise.x_ticks[at]}
        values = [
            full.records[run_id]["evaluations"][-1]["test/accuracy"]
            for run_id, told in full.planned
            if told["model"]["name"] == series.label and setting.items() <= told["data"].items()
        ]
        assert len(values) == 3
        assert series.y[at] == pytest.approx(fmean(values))
        assert (series.low[at], series.high[at]) == (min(values), max(values))
    assert [panel.title for row in training.panels for panel in row] == [mad_charts.title(task) for task in TASKS]
    for chart in (against, training, by_place):
        assert all(panel.series[0].width > panel.series[1].width for row in chart.panels for panel in row)
    assert sum(map(len, by_place.panels)) == 5
    assert deltas.name == "deltas"


def by_gap(*seeds):
    """The line of accuracy by gap of a model whose runs have these details."""
    sweep = Mad()
    for seed, gap in enumerate(seeds):
        run_id = sweep.add_run("in_context_recall", "mamba", seed, test=0.8)
        sweep.records[run_id]["details"] = {"test": {"gap": gap}}
    ((panel,),) = mad_charts.by_place(sweep.results()).panels
    assert panel.x_label == mad_charts.WORDS["gap"]
    line, chance = panel.series
    assert (chance.label, chance.x, chance.y) == ("chance", (min(line.x), max(line.x)), (0.125, 0.125))
    return line


def test_accuracy_by_gap_is_a_mean_over_seeds_in_bins_of_the_same_gaps():
    at, count = list(range(1, 101)), [100 - place // 2 for place in range(100)]
    seeds = [{"at": at, "count": count, "accuracy": [low + one / 1000 for one in at]} for low in (0.5, 0.6)]
    line = by_gap(*seeds)
    assert 8 <= len(line.x) <= mad_charts.BINS
    assert line.y == pytest.approx([0.55 + x / 1000 for x in line.x])  # linear in the gap, whatever the bins are
    assert line.low == pytest.approx([0.5 + x / 1000 for x in line.x])
    assert line.high == pytest.approx([0.6 + x / 1000 for x in line.x])


def test_gaps_with_few_answers_share_a_bin_with_others_and_weigh_little_in_it():
    at = list(range(1, 21))
    line = by_gap({"at": at, "count": [1] * 10 + [1000] * 10, "accuracy": [0.0] * 10 + [1.0] * 10})
    assert line.y == pytest.approx([1000 / 1010] + [1.0] * 9)
    assert line.x[1:] == tuple(range(12, 21))
    thin = by_gap({"at": at, "count": [100] * 19 + [10], "accuracy": [0.5] * 20})
    assert thin.x[-1] == pytest.approx((100 * 19 + 10 * 20) / 110)  # the last one is too thin for a point of its own
    few = by_gap({"at": [3, 1, 7], "count": [1, 5, 0], "accuracy": [0.1, 0.2, 0.3]})
    assert (few.x, few.y) == ((1, 3), (0.2, 0.1))  # a place without answers is left out


def test_damaged_or_missing_details_leave_a_picture_out():
    for details in (None, 3, {}, {"test": 3}, {"test": {"gap": {"at": [1], "accuracy": 3}}}, {"test": {"gap": []}}):
        sweep = Mad()
        run_id = sweep.add_run("in_context_recall", "mamba", 1, test=0.8)
        sweep.records[run_id]["details"] = details
        assert [chart.name for chart in sweep.design.charts(sweep.results())] == ["figure5", "while_training"]


def test_baselines_alone_have_no_picture_against_difficulty_and_say_so(tmp_path):
    sweep = whole(changes={}, optimizers=OPTIMIZERS[2:3], seeds=(1,), tasks=TASKS[:2])
    charts = sweep.design.charts(sweep.results())
    assert "against_difficulty" not in [chart.name for chart in charts]
    assert mad_charts.ONLY_BASELINES in charts[0].caption
    printed = sweep.printed(400)
    assert figure5.ONE_CHOICE in printed
    assert "so there is no column fixed" not in printed
    (table,) = (block for block in sweep.document().blocks if isinstance(block, Grid))
    assert not {*figure5.HEADERS.values()} & {column.header for column in table.columns}


def test_100_columns_have_room_for_the_three_readings(small):
    printed = small.printed(100).splitlines()
    assert max(map(len, printed)) <= 100
    assert any(line.split()[2:5] == ["test", "val", "fixed"] for line in printed)


def test_a_figure_writes_all_pictures_and_its_rows(tmp_path):
    sweep = whole(changes=FEW, optimizers=OPTIMIZERS[2:3], tasks=("compression",))
    written = set(sweep.write(tmp_path))
    pictures = {f"{name}.{kind}" for kind in ("svg", "png") for name in ("against_difficulty", "by_place", "deltas")}
    assert {"runs.csv", "evaluations.csv", "places.csv"} <= written
    assert pictures | {"figure5.svg", "figure5.png", "figure5.pdf", "figure5.json", "figure5.md"} <= written
    assert "curves.csv" not in written
    data = json.loads((tmp_path / "figure5.json").read_text())
    with (tmp_path / "figure5.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [one["model"] for one in rows] == [one["model"] for one in data["rows"]]
    means = [float(one["accuracy_mean"]) for one in rows]
    assert means == pytest.approx([one["accuracy_mean"] for one in data["rows"]])
    drawn = (tmp_path / "figure5.svg").read_text()
    assert drawn.count("fill: #0072b2; stroke: #0072b2") == 1 + 1  # the bar, and that of the legend
    page = (tmp_path / "index.html").read_text()
    assert '"bar":' in page
    assert '"x_names":["compression"' in page


def test_files_beside_the_figure_hold_the_runs_and_points_behind_its_pictures(small):
    tables = small.design.tables(small.results())
    runs = tables["runs"].set_index("run")
    assert sorted(runs.index) == [run_id for run_id, _ in small.planned]
    for run_id, told in small.planned:
        last, row = small.records[run_id]["evaluations"][-1], runs.loc[run_id]
        assert (row["task"], row["model"], row["seed"]) == (told["data"]["name"], told["model"]["name"], told["seed"])
        assert (row["test_accuracy"], row["val_accuracy"]) == (last["test/accuracy"], last["val/accuracy"])
        assert {name: row[name] for name in ("vocabulary", "length")}.items() <= told["data"].items()
        assert row["learning_rate"] == told["optimizer"]["learning_rate"]
        assert row["by_fixed"] == (told["optimizer"] == FIXED)
    counting = {run_id for cell in small.document().data["rows"] for run_id in cell["chosen_runs"]}
    assert {*runs.index[runs["by_test"]]} == counting
    for name, points in (("evaluations", 4), ("places", 2 * 63)):
        assert tables[name]["run"].value_counts().to_dict() == dict.fromkeys(counting, points)
    ends = tables["evaluations"].groupby("run")["test_accuracy"].last()
    assert ends.to_dict() == runs.loc[runs["by_test"], "test_accuracy"].to_dict()
    assert tables["places"].query("by == 'gap' and at == 5")["count"].unique() == [185]


MODELS = ("mamba", "naive_diff", "diff_s6", "diff_mamba", "hybrid", "mamba_grouped", "diff_mamba_additive", "mamba1")
MODELS += ("transformer", "diff_transformer")


def test_ten_models_fit_into_100_columns_and_have_colours_of_their_own():
    sweep = whole(MODELS, changes={}, optimizers=OPTIMIZERS[2:3])
    results = sweep.results()
    printed = shown(reports.document(sweep.design, results), 100).splitlines()
    assert max(map(len, printed)) <= 100
    assert all(any(line.startswith(f"{model} ") for line in printed) for model in MODELS)
    ((panel,),) = mad_charts.scores(results).panels
    colours = {series.label: series.colour for series in panel.series if series.bar}
    assert list(colours) == list(MODELS)
    assert len(set(colours.values())) == 10
    edges = sorted((x - series.bar / 2, x + series.bar / 2) for series in panel.series if series.bar for x in series.x)
    assert all(before[1] <= after[0] for before, after in pairwise(edges))


@pytest.mark.parametrize("lost", ["all", "some", "baseline", "task"])
def test_incomplete_stores_give_a_page(lost):
    sweep = whole(changes=FEW, optimizers=OPTIMIZERS[2:3], tasks=tuple(FEW))
    models = {run_id: told["model"]["name"] for run_id, told in sweep.planned}
    tasks = {run_id: told["data"]["name"] for run_id, told in sweep.planned}
    gone = {
        "all": list(models),
        "some": list(models)[::4],
        "baseline": [run_id for run_id, model in models.items() if model == "mamba"],
        "task": [run_id for run_id, task in tasks.items() if task == "compression"],
    }[lost]
    sweep.lose(*gone)
    results = sweep.results()
    assert len(results.counted) == len(sweep.records)
    printed = sweep.printed(100)
    assert f"{len(gone)} of {len(models)} runs missing" in printed
    if lost == "baseline":
        assert {cell.delta for cell in results.cells} == {None}
    charts = [json.loads(interactive.as_json(chart)) for chart in sweep.design.charts(results)]
    assert [bool(chart["points"]) for chart in charts] == [lost != "all"] * len(charts)


def test_models_with_other_settings_than_the_baseline_are_told():
    sweep = Mad()
    for model, change in (("mamba", ()), ("diff_mamba", ()), ("diff_mamba", {"length": 64})):
        for seed in (1, 2):
            sweep.add_run("compression", model, seed, change, test=0.5 + seed / 100)
    printed = sweep.printed(400)
    assert (
        "Not all models were planned with the same settings, so Δ is not of the models alone, in: compression."
        in printed
    )
    assert row(sweep.document().data, "compression", "diff_mamba")["gain_low"] is None


def test_one_task_has_no_total_and_one_model_no_gain():
    sweep = whole(models=("diff_mamba",), changes={}, optimizers=OPTIMIZERS[2:3], tasks=("compression",))
    (told,) = sweep.document().data["rows"]
    assert (told["task"], told["gain_percent"], told["paper_gain_percent"]) == ("compression", None, 10.6)
    assert "No Δ in: compression" in sweep.printed(400)


def test_only_the_total_of_all_six_tasks_stands_beside_the_published_one(full, small):
    assert row(full.document().data, "total", "diff_mamba")["paper_gain_percent"] == 3.7
    assert row(small.document().data, "total of 2 tasks", "diff_mamba")["paper_gain_percent"] is None


def test_runs_of_another_kind_are_refused_in_one_line():
    design = designs.find("figure", "figure5")
    told = config("compression", "mamba", 1)
    for broken, says in (
        ({**told, "published": None}, "published.best_of is not set"),
        (
            {**told, "published": {"best_of": "tset"}},
            "published.best_of=tset is not known; use one of test, val, fixed",
        ),
        ({**told, "published": {"best_of": None}}, "published.best_of=null is not known"),
    ):
        with pytest.raises(SettingError, match=says):
            reports.results(design, [("a", broken)], {}, "smoke")
    for name, value in (("best_of", "val"), ("fixed", {"learning_rate": 1e-3, "weight_decay": 0.0})):
        other = {**told, "published": {**told["published"], name: value}}
        with pytest.raises(SettingError, match=rf"^published\.{name}={FIXED if name == 'fixed' else 'test'} and "):
            reports.results(design, [("a", told), ("a", other)], {}, "smoke")
    with pytest.raises(SettingError, match="one run for compression, mamba, vocabulary=16"):
        reports.results(design, [("a", told), ("b", told)], {}, "smoke")


def test_every_factor_of_a_rule_makes_settings_of_their_own():
    rules = (Compression, FuzzyInContextRecall, InContextRecall, Memorization, SelectiveCopying)
    assert {field.name for rule in rules for field in fields(rule)} | {"examples"} == {*mad.FACTORS}
    sweep = Mad()
    for motif, test in ((2, 0.2), (3, 0.4)):
        sweep.add_run("fuzzy_in_context_recall", "mamba", 1, {"motif": motif}, test=test)
    (told,) = sweep.document().data["rows"]
    assert told["accuracy_mean"] == pytest.approx(0.3)
