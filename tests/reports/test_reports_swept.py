"""A sweep of anybody's has a table: rows by what varies, seeds folded, Δ to the baseline that is named."""

import json
import re
from itertools import product
from statistics import mean

import pytest
from by_hand import failed, make_record, shown
from matplotlib.figure import Figure

from diffmamba import reports
from diffmamba.document import Chart, Panel, Series
from diffmamba.errors import SettingError
from diffmamba.reports import designs, swept
from diffmamba.reports.charts import titled
from diffmamba.reports.factors import factors_of, quoted
from diffmamba.reports.pictures import draw

MODELS = {"mamba": {"name": "mamba", "expand": 2}, "diff_mamba": {"name": "diff_mamba", "expand": 4}}
RATES, SEEDS = (0.001, 0.003, 0.03), (0, 1)
STRANGE = ["a,b", "a=b", "<b>&amp;", "a|b*c_", "$x$", "$\\frac{", "_hidden", ' "quoted" ', "line\nbreak", "λ/../..", ""]


def config(model="mamba", rate=0.001, seed=0, **further):
    """What a sweep reads of a resolved configuration; a rate is there twice, as a scale sets that of the optimiser."""
    return {
        "model": model if isinstance(model, dict) else MODELS.get(model, {"name": model, "expand": 2}),
        "optimizer": {"learning_rate": rate, "weight_decay": 0.1},
        "scale": {"name": "smoke", "learning_rate": rate},
        "task": {"_target_": "diffmamba.tasks.LanguageModelling"},
        "data": {"name": "pydoc8"},
        "measure": None,
        "seed": seed,
        **further,
    }


def final(model, rate, seed):
    return 5 + 3 * (model == "mamba") + 10 * rate + 0.01 * seed + rate * seed * (model == "mamba")


class Grid:
    """A grid of models, rates and seeds, all finished unless a test changes the records."""

    def __init__(self, models=tuple(MODELS), rates=RATES, seeds=SEEDS):
        self.cells, self.records = [], {}
        for cell in product(models, rates, seeds):
            self.add(config(*cell), final(*cell))

    def add(self, settings, value, **changes):
        run_id = f"t{len(self.cells):03d}"
        self.cells.append((run_id, settings))
        self.records[run_id] = make_record(value, **changes)

    def results(self, baseline="", **further):
        self.design = swept.design_of("mine", self.cells, baseline, **further)
        return reports.results(self.design, self.cells, self.records, "smoke")

    def document(self, baseline="", **further):
        results = self.results(baseline, **further)
        return reports.document(self.design, results)


def names(cells, varied=()):
    return [factor.word for factor in factors_of(cells, varied)]


def test_rows_are_the_settings_that_vary_without_their_consequences_and_the_seed():
    grid = Grid()
    assert names(grid.cells) == ["model", "learning_rate"]
    assert names(grid.cells, ["model", "scale.learning_rate", "seed"]) == ["model", "scale.learning_rate"]
    assert names(Grid(rates=(0.001,)).cells) == ["model"]
    assert names(Grid(models=("mamba",), rates=(0.001,)).cells) == []
    assert names(Grid().cells, ["no.such.setting", "logger"]) == ["model", "learning_rate"]


def test_a_setting_that_another_one_determines_is_left_out_unless_it_says_more():
    """As the published batch size follows from data and depth together."""
    grid = Grid(models=(), rates=())
    for (data, depth), size in {("a", 1): 8, ("a", 2): 4, ("b", 1): 4, ("b", 2): 2}.items():
        grid.add(config(data={"name": data, "batch_size": size}, budget={"steps": depth}), 1.0)
    assert names(grid.cells, ["data", "budget.steps"]) == ["data", "budget.steps"]
    assert len(names(grid.cells)) == 2  # of three that determine each other
    grid.add(config(data={"name": "b", "batch_size": 16}, budget={"steps": 2}), 1.0)
    assert names(grid.cells, ["data", "budget.steps"]) == ["data", "budget.steps", "batch_size"]


def test_seeds_are_folded_and_each_row_is_compared_with_the_baseline_of_its_group():
    results = Grid().results("model=mamba")
    assert list(results.groups) == [f"learning_rate={rate}" for rate in RATES]
    for rate, cells in zip(RATES, results.groups.values(), strict=True):
        finals = {model: [final(model, rate, seed) for seed in SEEDS] for model in MODELS}
        assert [cell.key.fields["model"] for cell in cells] == list(MODELS)
        assert [cell.mean for cell in cells] == pytest.approx([mean(values) for values in finals.values()])
        assert [cell.delta for cell in cells] == pytest.approx(
            [0.0, mean(finals["diff_mamba"]) - mean(finals["mamba"])]
        )
        assert [cell.key.is_baseline for cell in cells] == [True, False]
    one = Grid().results("model=mamba optimizer.learning_rate=3e-3")
    assert list(one.groups) == [""]
    assert sum(cell.key.is_baseline for cell in one.cells) == 1
    rows = {cell.key.label: cell.delta for cell in one.cells}
    expected = mean(final("diff_mamba", 0.03, seed) - final("mamba", 0.003, seed) for seed in SEEDS)
    assert rows["model=diff_mamba, learning_rate=0.03"] == pytest.approx(expected)


def test_without_a_baseline_there_is_no_delta_and_the_page_says_how_to_name_one():
    document = Grid().document()
    assert {row["delta"] for row in document.data["rows"]} == {None}
    told = shown(document, 160)
    assert 'baseline="model=mamba"' in told
    assert "Δ  " not in told
    assert Grid().results("model=mamba").cells  # as it says


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        ("model=mambo", "no run of mine has model=mambo; there is model=mamba or model=diff_mamba"),
        ("learning_rate=2", "no run of mine has learning_rate=2; there is learning_rate=0.001 or learning_rate=0.003"),
        ("expand=2", "expand does not vary in mine; there is model=mamba"),
        ("model", "is not of the form setting=value"),
        ("model=mamba model=diff_mamba", "model is named twice"),
        ("rate=1", "rate does not vary in mine; there is"),
        ("model='mamba", "a quote is not closed"),
        (" ", "names no setting"),
    ],
)
def test_a_baseline_that_is_none_is_one_line_that_names_what_may_be_chosen(baseline, told):
    with pytest.raises(SettingError) as refused:
        Grid().results(baseline)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_short_name_that_two_settings_share_is_refused_and_values_that_never_meet_too():
    grid = Grid(models=(), rates=())
    for first, second in ((1, 1), (1, 2), (2, 1)):
        grid.add(config(model={"name": "mamba", "rate": first}, data={"name": "a", "rate": second}), 1.0)
    with pytest.raises(SettingError, match=r"rate may be model\.rate or data\.rate"):
        grid.results("rate=1")
    with pytest.raises(SettingError, match="no run of mine has all of these"):
        grid.results("model.rate=2 data.rate=2")
    assert sum(cell.key.is_baseline for cell in grid.results("model.rate=1").cells) == 2  # one has none beside it


def test_failed_missing_and_single_runs_are_shown_and_not_averaged_away():
    grid = Grid()
    grid.records["t000"].update(failed())
    del grid.records["t003"], grid.records["t004"], grid.records["t005"]
    results = grid.results("model=mamba")
    cells = {cell.key.label: cell for cell in results.cells}
    first, second, third = (cells[f"model=mamba, learning_rate={rate}"] for rate in RATES)
    assert (first.status, list(first.values), first.std) == ("partial", [1], None)
    assert (second.status, list(second.values)) == ("partial", [0])
    assert (third.status, third.mean) == ("missing", None)
    assert cells["model=diff_mamba, learning_rate=0.03"].delta is None
    told = shown(reports.document(grid.design, results), 200)
    assert "seed 0 failed at step 120: loss is not finite (run t000)" in told
    assert "seed 1 not started" in told
    assert "4 of 12 runs missing" in told


def alike(baseline=""):
    """`diff_mamba` reads its form of λ; `mamba` does not, so one run of it stands for both."""
    grid = Grid(models=(), rates=())
    for model, form in product(("mamba", "diff_mamba"), ("scalar", "reparam")):
        grid.add(config(model={"name": model, "lambda_form": form}), 3.0 + (form == "reparam"))
    grid.cells[1] = (grid.cells[0][0], grid.cells[1][1])
    del grid.records["t001"]
    return grid, grid.results(baseline)


def test_a_setting_that_makes_no_difference_has_one_row_and_with_a_baseline_one_in_each_group():
    grid, results = alike()
    assert [cell.key.fields["model.lambda_form"] for cell in results.cells] == ["any", "scalar", "reparam"]
    assert results.cells[0].key.label == "model=mamba"
    assert "makes no difference there" in shown(reports.document(grid.design, results), 200)
    assert len(results.runs) == 3
    grid, results = alike("model=mamba")
    assert [[run.id for cell in cells for run in cell.seeds] for cells in results.groups.values()] == [
        ["t000", "t002"],
        ["t000", "t003"],
    ]
    assert (len(results.runs), len(results.counted)) == (3, 3)
    grid, results = alike("model=mamba lambda_form=reparam")  # the one that it stands for as well
    assert [cell.key.is_baseline for cell in results.cells] == [True, False, False]


def test_a_setting_that_never_makes_a_difference_is_no_row():
    grid = Grid(rates=(0.001,))
    grid.cells = [(run_id, settings | {"threads": threads}) for run_id, settings in grid.cells for threads in (1, 2)]
    assert names(grid.cells, ["threads", "model"]) == ["model"]


def test_names_of_any_characters_survive(tmp_path):
    grid = Grid(models=STRANGE, rates=(0.001,))
    results = grid.results()
    labels = [cell.key.label for cell in results.cells]
    assert len(set(labels)) == len(STRANGE)
    assert all("\n" not in label for label in labels)
    files = {path.name: path for path in reports.write(grid.design, results, tmp_path)}
    rows = json.loads(files["table.json"].read_text())["rows"]
    assert [row["model"] for row in rows] == STRANGE
    page = files["index.html"].read_text()
    assert "&lt;b&gt;&amp;amp;" in page
    assert "<b>&amp;" not in page
    assert "a\\|b\\*c\\_" in files["table.md"].read_text()
    assert {"curves.svg", "curves.png", "curves.csv", "table.csv"} <= files.keys()
    for name in STRANGE:  # written as the page writes it
        (baseline,) = (cell for cell in grid.results(f"model={quoted(name)}").cells if cell.key.is_baseline)
        assert baseline.key.fields["model"] == name


def test_two_values_that_are_written_alike_are_two_rows():
    grid = Grid(models=(), rates=())
    for value in (1, "1", True, None, "null", 0.1, 0.10000000000000002):
        grid.add(config(extra={"value": value}), 1.0)
    results = grid.results()
    assert len(results.cells) == 7
    assert len({cell.key.label for cell in results.cells}) == 7


def test_a_setting_that_a_cell_does_not_have_is_in_no_label_and_one_that_is_null_is():
    grid = Grid(models=(), rates=())
    for extra in ({}, {"noise": None, "other": 1}, {"noise": 0.2, "other": 2}, {"noise": 0.6, "other": 2}):
        for model in ("mamba", "diff_mamba"):
            grid.add(config(model, extra=extra), 1.0)
    results = grid.results("model=mamba")
    first, *others = results.groups
    assert first == "noise=null, other=null"  # it needs some name
    assert others == ["noise=null, other=1", "noise=0.2, other=2", "noise=0.6, other=2"]
    assert [cell.key.label for cell in results.cells[:3]] == [
        "model=mamba",
        "model=diff_mamba",
        "model=mamba, noise=null, other=1",
    ]


def test_a_sweep_of_any_name_is_a_table_in_a_folder_of_its_own():
    folders = set()
    for name in ("mine", "figure_x", "figure2", "table2", "a/b", "a_b", "../up", "a b", "x" * 300):
        design = swept.design_of(name, Grid().cells)
        assert design.kind == "sweep"
        assert design.name not in (*designs.names("table"), *designs.names("figure"), "..")
        assert "/" not in design.name
        assert len(design.name) < 200
        folders.add(design.name)
    assert len(folders) == 9


def test_trainings_and_each_measure_have_a_table_of_their_own():
    grid = Grid(rates=(0.001,), seeds=(0,))
    measures = [{"_target_": f"diffmamba.measures.{name}", "window": 8} for name in ("Perplexity", "Norm")]
    cells = [(f"m{index}", config(measure=measure)) for index, measure in enumerate(measures)]
    assert {kind: len(part) for kind, part in swept.kinds([*grid.cells, *cells]).items()} == {
        "trainings": 2,
        "Perplexity": 1,
        "Norm": 1,
    }
    assert list(swept.kinds(grid.cells)) == list(swept.kinds(cells[:1])) == [""]
    pages = {swept.design_of("mine", part, kind=kind).name for kind, part in swept.kinds(cells).items()}
    assert pages == {"mine-perplexity", "mine-norm"}
    twins = [(str(place), config(task={"_target_": f"{place}.Task"})) for place in ("mine", "yours")]
    assert list(swept.kinds(twins)) == ["mine.Task", "yours.Task"]


def charts(document):
    return {block.name: block for block in document.blocks if isinstance(block, Chart)}


def test_the_metric_stands_against_each_setting_that_is_a_number():
    drawn = charts(Grid().document("model=mamba"))
    assert set(drawn) == {"curves", "against-learning_rate", "deltas", "over_training"}
    ((panel,),) = drawn["against-learning_rate"].panels
    assert panel.x_scale == "log"
    for series, model in zip(panel.series, MODELS, strict=True):
        assert (series.label, series.x) == (f"model={model}", RATES)
        assert series.y == pytest.approx([mean(final(model, rate, seed) for seed in SEEDS) for rate in RATES])
        assert series.low == pytest.approx([min(final(model, rate, seed) for seed in SEEDS) for rate in RATES])
    assert set(charts(Grid(rates=RATES[:2]).document())) == {"curves"}


def titles(chart):
    return [panel.title for row in chart.panels for panel in row]


def test_the_title_of_a_panel_is_what_tells_it_from_the_others_and_is_drawn_whole():
    drawn = charts(Grid().document("model=mamba", varied=["model", "scale.learning_rate"]))
    own = [f"learning_rate={rate}" for rate in RATES]
    assert titles(drawn["over_training"]) == titles(drawn["curves"]) == own
    assert "In all panels: model=diff_mamba." in drawn["over_training"].caption
    given = ['a="x, y=1", b=1 (p, q), c', 'a="x, y=2", b=1 (p, q), c', "a.b=1, b.b=2", "a.b=1, b.b=3", "one", "one, 2"]
    told = [
        [panel.title for panel in titled([Panel(title, ()) for title in given[at : at + 2]])[0]] for at in (0, 2, 4)
    ]
    assert told == [['a="x, y=1"', 'a="x, y=2"'], ["b.b=2", "b.b=3"], ["one", "one, 2"]]
    long = "scale.learning_rate=0.00123, " * 6
    axes = Figure(figsize=(10, 3)).subplots(1, 3)[0]
    draw(axes, Panel(long, (Series("", (1.0,), (1.0,), "#000000"),), x_label=long))
    for text in (axes.get_title(), axes.get_xlabel()):
        assert max(map(len, text.splitlines())) < 40
        assert text.replace("\n", " ") == long.strip()


def test_numbers_stand_at_the_measured_values_where_there_is_room():
    ((panel,),) = charts(Grid().document())["against-learning_rate"].panels
    assert panel.x_ticks == RATES
    axes = Figure().subplots()
    draw(axes, panel)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.001", "0.003", "0.03"]
    close = Grid(models=("mamba",), rates=(0.001, 0.00101, 0.01, 0.1), seeds=(0,))
    assert charts(close.document())["against-learning_rate"].panels[0][0].x_ticks == (0.001, 0.01, 0.1)


def test_of_many_groups_the_best_are_drawn_as_the_caption_says():
    rates = tuple(round(0.03 - 0.001 * place, 3) for place in range(20))  # the best come last
    curves = charts(Grid(rates=rates, seeds=(0,)).document("model=mamba"))["curves"]
    assert "the best 12 of 20 groups" in curves.caption
    assert titles(curves) == [f"learning_rate={rate}" for rate in rates[8:]]


def test_seeds_and_what_makes_no_difference_name_no_baseline():
    with pytest.raises(SettingError, match="seeds are folded, so they cannot name a baseline"):
        Grid().results("seed=0")
    grid = Grid(rates=(0.001,))
    grid.cells = [(run_id, settings | {"threads": threads}) for run_id, settings in grid.cells for threads in (1, 2)]
    with pytest.raises(SettingError, match="threads makes no difference in mine, so it cannot name a baseline"):
        grid.results("threads=1", varied=["model", "threads"])


def test_without_a_seed_that_both_have_there_is_no_delta():
    grid = Grid(rates=(0.001,))
    for run_id in ("t000", "t003"):
        grid.records[run_id].update(failed())
    document = grid.document("model=mamba")
    assert [row["delta"] for row in document.data["rows"]] == [0.0, None]
    assert (document.data["rows_compared"], document.data["rows"][1]["sign"]) == (0, "–")
    assert "No Δ, because no seed is shared with the baseline, in: model=diff_mamba." in document.data["notes"]
    assert "difference is seen" not in shown(document, 160)


def test_a_line_above_the_table_counts_verdicts_and_few_seeds_show_few_digits():
    grid = Grid(rates=(0.001,), seeds=(0, 1, 2))
    told = shown(grid.document("model=mamba"), 200)
    assert "A difference is seen in 1 of 1 row, each with 3 seeds." in told
    for at, run in enumerate(("t003", "t004", "t005")):
        grid.records[run] = make_record((100.0, 180.0, 30.0)[at])
    told = shown(grid.document("model=mamba"), 200)
    assert "A difference is seen in 0 of 1 row" in told
    assert re.search(r"−\d\d(\.\d)?, \+2\d\d ", told)


def test_a_picture_shows_no_more_than_can_be_told_apart_and_always_the_baseline():
    rates = tuple(0.001 * place for place in range(1, 31))
    document = Grid(models=("mamba",), rates=rates, seeds=(0,)).document("learning_rate=0.03")
    curves = charts(document)["curves"]
    labels = [series.label for series in curves.panels[0][0].series]
    assert labels == [f"learning_rate={rate:.10g}" for rate in (*rates[:11], rates[-1])]
    assert "12 of 30 cells: the baseline and the best" in curves.caption
