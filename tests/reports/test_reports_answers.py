"""The page of a file of answers: its numbers are those of the file, and what is published stands only where it is."""

from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest

from diffmamba import reports
from diffmamba.answers import COLUMNS, read
from diffmamba.document import Chart, Grid, Paragraph, Section
from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import FileDesign, designs, render
from diffmamba.reports.charts import GREY
from diffmamba.reports.designs import answers, answers_charts, answers_page
from diffmamba.reports.designs.answers import Figure
from diffmamba.reports.statistics import Interval

EXCERPT = Path(__file__).parents[1] / "answers" / "excerpt.csv"
RULES = ("benchmark", "first", "exact")


@pytest.fixture(scope="module")
def table():
    return read(EXCERPT).table


@pytest.fixture(scope="module")
def page():
    return designs.find("figure", "figure8").document(EXCERPT)


@pytest.fixture(scope="module")
def main():
    return answers.scored(read(EXCERPT))[0]


def changed(path, change):
    """A file that is the excerpt changed."""
    change(pd.read_csv(EXCERPT, dtype=str)).to_csv(path, index=False)
    return path


def of(blocks, kind):
    """The blocks of this kind, with those of sections."""
    for block in blocks:
        yield from of(block.blocks, kind) if isinstance(block, Section) else [block] * isinstance(block, kind)


def texts(grid):
    return [[entry.text for entry in row] for group in grid.groups for row in group.rows]


def test_both_figures_are_designs_of_a_file():
    assert designs.of_files("figure") == ["figure4", "figure8"]
    assert designs.of_files("table") == []
    for name in designs.of_files("figure"):
        design = designs.find("figure", name)
        assert isinstance(design, FileDesign)
        assert all(column in design.needs for column in COLUMNS)


def test_each_cell_has_the_mean_of_its_seeds_by_every_rule(table, page):
    rows = {(row["apart"], row["task"], row["length"], row["model"]): row for row in page.data["rows"]}
    apart = table["seed"].where(table["seed"] == "pg19", "")
    groups = dict(list(table.groupby([apart, "task", "length", "model"])))
    assert set(rows) == set(groups)
    assert len(rows) == 5 * 2 * 2 + 5 * 2
    for key, some in groups.items():
        for rule in RULES:
            expected = 100 * fmean(one[rule].mean() for _, one in some.groupby("seed"))
            assert rows[key][rule] == pytest.approx(expected, abs=1e-3)
        named = [100 * (some["named"].clip(upper=2) == count).mean() for count in range(3)]
        assert [rows[key][name] for name in answers.NAMED] == pytest.approx(named, abs=1e-3)
        assert sum(named) == pytest.approx(100)


def test_differences_and_ratios_are_those_of_the_scores(page):
    rows = {(row["apart"], row["task"], row["length"], row["model"]): row for row in page.data["rows"]}
    compared = [(rows[(*key[:3], "mamba")], row) for key, row in rows.items() if key[3] == "diff_mamba"]
    for theirs, ours in compared:
        assert theirs["benchmark_difference"] is None
        for rule in RULES:
            assert ours[f"{rule}_difference"] == pytest.approx(ours[rule] - theirs[rule], abs=1e-3)
            low, high = ours[f"{rule}_difference_low"], ours[f"{rule}_difference_high"]
            assert low <= ours[f"{rule}_difference"] <= high
            if ours[rule] and theirs[rule]:
                assert ours[f"{rule}_ratio"] == pytest.approx(ours[rule] / theirs[rule], rel=1e-3)
            else:
                assert ours[f"{rule}_ratio"] is None


def test_the_whole_is_the_mean_over_cells(page):
    for one in page.data["whole"]:
        cells = [r for r in page.data["rows"] if (r["apart"], r["model"]) == (one["apart"], one["model"])]
        assert one["cells"] == len(cells)
        for rule in RULES:
            assert one[rule] == pytest.approx(fmean(row[rule] for row in cells), abs=1e-3)


def test_the_number_of_cells_by_verdict_is_that_of_the_rows(page, main):
    grid = next(grid for grid in of(page.blocks, Grid) if grid.title.startswith("Cells"))
    rows = [row for row in page.data["rows"] if row["model"] == "diff_mamba" and not row["apart"]]

    def count(low, high):
        return f"{sum(row[low] > 0 for row in rows)} : {sum(row[high] < 0 for row in rows)}"

    for rule, shown in zip(RULES, texts(grid), strict=True):
        names = [(f"{rule}_difference", f"{rule}_difference")]
        names += [(f"{rule}_{kind}_low", f"{rule}_{kind}_high") for kind in ("of_these", "difference")]
        assert shown[2:] == [count(*name) for name in names]
    assert sum(main.tally("diff_mamba", lambda line: line.differences["first"].side)) == len(rows)


def test_the_papers_values_stand_beside_its_cells_alone(main, tmp_path):
    by_cell = {(line.task, line.length, line.model): line for line in main.lines}
    assert by_cell["qa1", "64k", "mamba"].published == published.numbers()["figure8"]["mamba"]["qa1"][-1] == 8.33
    assert by_cell["qa5", "64k", "diff_mamba"].published_ratio == 3.95
    assert by_cell["qa5", "64k", "mamba"].published_ratio is None
    for line in main.lines:
        interval = line.scores["benchmark"].interval
        assert line.inside is (interval.low <= line.published <= interval.high)
    renamed = {"diff_mamba": "mine", "mamba": "mamba"}
    path = changed(tmp_path / "a.csv", lambda raw: raw.assign(model=raw["model"].map(renamed)))
    lines = answers.scored(read(path))[0].lines
    assert {line.published is None for line in lines if line.model == "mine"} == {True}
    assert {line.published_ratio for line in lines} == {None}
    renamed = {"diff_mamba": "diff_mamba", "mamba": "s4"}  # no ratio to another model than the paper's
    path = changed(tmp_path / "c.csv", lambda raw: raw.assign(model=raw["model"].map(renamed))[::-1])
    lines = answers.scored(read(path))[0].lines
    assert {line.published_ratio for line in lines} == {None}
    assert any(line.ratios for line in lines if line.model == "diff_mamba")
    path = changed(tmp_path / "b.csv", lambda raw: raw.assign(length=raw["length"].replace({"64k": "3k"})))
    other = answers.scored(read(path))[0]
    assert other.lengths == ["1k", "3k"]
    assert {line.published is None for line in other.lines if line.length == "3k"} == {True}


def test_published_values_are_those_that_the_figures_print():
    for task in ("qa1", "qa2", "qa3", "qa4", "qa5"):
        for length in ("0k", "1k", "2k", "4k", "8k", "16k", "32k", "64k"):
            ours, theirs = (published.figure8(model, task, length) for model in ("diff_mamba", "mamba"))
            assert published.figure4(task, length) == pytest.approx(max(ours / theirs, theirs / ours), abs=0.03)
    assert published.figure8("s4", "qa1", "0k") is published.figure8("mamba", "qa6", "0k") is None
    assert published.figure4("qa1", "128k") is None


def test_the_published_ratio_says_which_model_is_better(main):
    better = {(ln.task, ln.length): ln.published_better for ln in main.lines if ln.published_ratio is not None}
    assert better["qa1", "1k"] == "mamba"
    assert better["qa1", "64k"] == better["qa4", "1k"] == "diff_mamba"
    grid = answers_page._ratio_table(main).blocks[0]
    shown = {(group.title, row[0].text): row[-1].text for group in grid.groups for row in group.rows}
    assert shown == better
    panel = answers_charts.ratios(main, "benchmark").panels[0][0]
    dots = {one.hollow: one.y for one in panel.series if one.colour == GREY and one.marker and not one.line}
    assert dots == {True: (1.12,), False: (1.64,)}


def test_models_without_a_cell_in_common_are_a_page_that_says_so(tmp_path):
    def apart(raw):
        raw = raw[raw["seed"] != "pg19"]
        return raw[(raw["model"] == "mamba") == (raw["length"] == "1k")]

    def third(raw):
        return pd.concat(
            [raw, raw[(raw["model"] == "mamba") & (raw["length"] == "1k")].assign(model="s4", length="3k")]
        )

    def other_seeds(raw):
        seed = raw["seed"].where((raw["model"] == "mamba") | (raw["length"] == "1k"), "5")
        return raw.assign(seed=seed)[raw["seed"] != "pg19"]

    for change, told, cells in (
        (apart, "diff_mamba and mamba have no cell in common", []),
        (third, "s4 and mamba have no cell in common", ["diff_mamba"] * 3),
        (other_seeds, "No seed of diff_mamba has answers in all cells", ["diff_mamba"] * 3),
    ):
        path = changed(tmp_path / "answers.csv", change)
        for figure in ("figure4", "figure8"):
            page = designs.find("figure", figure).document(path)
            assert any(block.text.startswith(told) for block in of(page.blocks, Paragraph))
            assert all(grid.groups and grid.groups[0].rows for grid in of(page.blocks, Grid))
        main = answers.scored(read(path))[0]
        grids = {grid.title.partition(",")[0]: grid for grid in of(answers_page._verdicts(main).blocks, Grid)}
        assert [row[0] for row in texts(grids["Cells"])] == cells if cells else "Cells" not in grids


def test_a_ratio_below_one_is_turned_with_its_interval():
    turned = answers_charts.oriented(Figure(0.5, Interval(0.25, 2.0)))
    assert (turned.value, turned.interval) == (2.0, Interval(0.5, 4.0))
    assert answers_charts.oriented(Figure(1.5, None)) == Figure(1.5, None)


def test_a_file_may_hold_one_model_or_many_with_one_seed(tmp_path):
    eight, four = (designs.find("figure", name) for name in ("figure8", "figure4"))
    alone = changed(tmp_path / "one.csv", lambda raw: raw[(raw["model"] == "mamba") & (raw["seed"] == "0")])
    page = eight.document(alone)
    assert [chart.name for chart in of(page.blocks, Chart)] == ["scores_benchmark", "scores_first"]
    assert all(row["benchmark_difference"] is None for row in page.data["rows"])
    with pytest.raises(SettingError, match="it holds one model, mamba; figure4 compares two"):
        four.document(alone)

    def many(raw):
        some = raw[raw["seed"].isin(["0", "42"])]
        third = some[some["model"] == "mamba"].assign(model="s4")
        return pd.concat([third, some])

    page = four.document(changed(tmp_path / "many.csv", many))
    assert page.data["figure"] == "figure4"
    whole = {row["model"]: row for row in page.data["whole"]}
    assert list(whole) == ["mamba", "s4", "diff_mamba"]  # the baseline first
    assert whole["s4"]["benchmark_difference"] == whole["s4"]["benchmark_difference_high"] == 0
    assert "says nothing of others of other seeds" in render.markdown(page)


def test_answers_that_stand_apart_alone_are_a_page_too(tmp_path):
    path = changed(tmp_path / "apart.csv", lambda raw: raw[raw["seed"] == "pg19"])
    page = designs.find("figure", "figure8").document(path)
    assert {row["apart"] for row in page.data["rows"]} == {"pg19"}
    assert len(page.data["rows"]) == 10


def test_pictures_have_a_panel_for_each_task_and_a_point_for_each_length(page, main):
    charts = {chart.name: chart for chart in of(page.blocks, Chart)}
    assert list(charts) == ["scores_benchmark", "scores_first", "ratios_benchmark", "ratios_first"]
    for chart in charts.values():
        panels = [panel for row in chart.panels for panel in row]
        assert [panel.title for panel in panels] == ["qa1", "qa2", "qa3", "qa4", "qa5"]
        assert {panel.x_names for panel in panels} == {("1k", "64k")}
    for panel in (panel for row in charts["scores_benchmark"].panels for panel in row):
        series = {one.label: one for one in panel.series}
        for model in main.models:
            lines = main.of(panel.title, model)
            assert series[model].y == tuple(line.scores["benchmark"].value for line in lines)
            assert series[model].low == tuple(line.scores["benchmark"].interval.low for line in lines)
            assert series[f"{model}, published (version 2)"].y == tuple(line.published for line in lines)
        assert series["always the most frequent label"].y == (main.chance[panel.title],) * 2
    assert not any("published" in one.label for row in charts["scores_first"].panels for p in row for one in p.series)


def test_the_files_of_a_page_hold_its_numbers(page, tmp_path, monkeypatch):
    monkeypatch.setattr("diffmamba.reports.pictures.drawn", lambda chart, kind: kind.encode())
    paths = reports.write_figure(page, "figure8", tmp_path)
    names = {path.name for path in paths}
    assert {"figure8.json", "figure8.csv", "figure8.md", "figure8.png", "figure8.pdf", "index.html"} <= names
    found = pd.read_csv(tmp_path / "figure8.csv", keep_default_na=False)
    assert found["benchmark"].tolist() == pytest.approx([row["benchmark"] for row in page.data["rows"]])
