"""Intervals in tables and pictures are those of the statistics, and what a table says of them fits its seeds."""

from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from by_hand import VARIANTS, failed, shown, table1, table2

from diffmamba.document import Document, Entry, Grid, GridColumn, RowGroup
from diffmamba.reports import charts, columns, compose
from diffmamba.reports.statistics import half_width


def rules(sweep):
    return " ".join(compose.rules(sweep.design, sweep.results()))


def headers(sweep):
    return [column.header for column in compose.grid(sweep.design, sweep.results()).columns]


def test_p_is_shown_only_where_the_seeds_could_bring_it_below_the_error_rate():
    two, ten = table2(), table2(seeds=range(10))
    assert "p" not in headers(two)
    assert "never below 2/2^2 = 0.5, and never below 1 once it is corrected for 9 rows" in rules(two)
    assert "so few seeds cannot decide by it" in rules(two)
    assert "p" in headers(ten)
    assert "never below 2/2^10 = 0.00195" in rules(ten)
    assert "corrected by Holm" in rules(ten)
    texts = {columns.P.text(cell) for cell in ten.results().cells}
    assert "0.018" in texts  # all signs alike, times nine rows
    assert columns.P.text(ten.results().cells[0]) == "–"


def test_the_rules_say_what_the_interval_assumes_and_for_how_many_rows_it_holds():
    assert "holds for all 9 rows that are compared, together" in rules(table2())
    assert "roughly normal." in rules(table2())
    assert "roughly normal; with 8 seeds or more it is wider where a bootstrap" in rules(table2(seeds=range(8)))
    assert "holds for the one row that is compared" in rules(table2(VARIANTS[:2]))
    assert "Interval" not in rules(table2(seeds=(0,)))
    assert "between 0.52 and 6.3 times s" in rules(table2(seeds=(0, 1, 2)))


def test_the_rules_speak_of_the_columns_that_there_are():
    sweep = table2(seeds=range(3))
    sweep.design, paper = replace(sweep.design, columns=(columns.MODEL, *columns.OWN_VERDICT)), table2(seeds=range(3))
    for words, there in (
        ("sign: ✓", paper),
        ("seeds needed:", paper),
        ("differs: better", sweep),
        ("could see:", sweep),
    ):
        assert (words in rules(paper), words in rules(sweep)) == (there is paper, there is sweep)
    assert columns.DIFFERS.mark(sweep.results().cells[9]) == "agrees"


def test_one_seed_only_is_said_once_and_gives_no_verdict():
    sweep = table2(seeds=(0,))
    notes = [note for note in sweep.document().data["notes"] if "interval" in note and "because" in note]
    assert notes == ["No interval of Δ, so no verdict, because one seed is shared with the baseline: all 9 rows."]
    assert {cell.sign for cell in sweep.results().cells} == {"–", "~"}
    assert not {"seeds needed", "s", "p"} & set(headers(sweep))


def test_the_seeds_needed_are_for_the_papers_difference():
    results = table2(seeds=(0, 1, 2)).results()
    for cell in results.cells[2:]:
        assert cell.seeds_needed == cell.comparison.seeds_needed(cell.key.published.delta) > 1
        assert columns.NEEDED.text(cell) == (str(cell.seeds_needed) if cell.seeds_needed <= 100 else ">100")
    assert results.cells[1].seeds_needed is None  # the paper has no number


def test_a_narrow_terminal_leaves_out_spare_columns_from_the_right_and_no_others():
    spare = (False, True, False, True, True)
    described = tuple(GridColumn(f"c{place}", spare=is_spare) for place, is_spare in enumerate(spare))
    grid = Grid(described, (RowGroup((tuple(Entry(f"text{place}") for place in range(5)),)),))
    found = [shown(Document("", (grid,), {}), width).split()[:5] for width in (29, 28, 22, 16, 14)]
    left = [[word for word in words if word.startswith("c")] for words in found]
    assert left[:4] == [["c0", "c1", "c2", "c3", "c4"], ["c0", "c1", "c2", "c3"], ["c0", "c1", "c2"], ["c0", "c2"]]
    assert left[4] == ["c0", "c2"]


@pytest.mark.parametrize("seeds", [range(3), range(9)])
def test_differences_over_training_are_paired_and_end_where_the_table_does(seeds):
    sweep = table2(VARIANTS[:4], seeds)
    for cell in sweep.results().cells[1:]:
        points = charts.differences(cell)
        assert list(points["step"]) == [50, 100, 150]
        last = points.iloc[-1]
        expected = (cell.delta, cell.interval.low, cell.interval.high)
        assert (last["mean"], last["low"], last["high"]) == pytest.approx(expected, abs=1e-9)
        for at, point in points.iterrows():
            both = [(run.record, sweep.records[f"00{run.id[2:]}"]) for run in cell.seeds]
            found = [a["evaluations"][at]["test/ppl"] - b["evaluations"][at]["test/ppl"] for a, b in both]
            assert point["mean"] == pytest.approx(mean(found), abs=1e-12)
            assert point["high"] - point["mean"] == pytest.approx(float(half_width(found, 3)), abs=1e-12)


def test_seeds_that_are_texts_are_paired_like_others():
    sweep, plain = table2(VARIANTS[:2], range(3)), table2(VARIANTS[:2], range(3))
    for _, config in sweep.planned:
        config["seed"] = {1: "b"}.get(config["seed"], config["seed"])
    found, expected = sweep.results().cells[1], plain.results().cells[1]
    assert list(found.values) == [0, 2, "b"]
    assert vars(found.interval) == pytest.approx(vars(expected.interval))
    assert charts.differences(found).to_numpy() == pytest.approx(charts.differences(expected).to_numpy())


def test_differences_over_training_leave_out_what_is_not_shared():
    sweep = table2(VARIANTS[:4], (0, 1, 2))
    del sweep.records["00-1"]["evaluations"][1]
    sweep.records["01-2"].update(failed())
    sweep.lose("02-0", "02-1")
    one, two, three = map(charts.differences, sweep.results().cells[1:])
    assert list(one["step"]) == list(three["step"]) == [50, 150]  # seed 1 has no step 100
    assert list(two["step"]) == [50, 100, 150]
    assert two["low"].isna().all()  # of one seed
    assert charts.differences(sweep.results().cells[0])["mean"].eq(0).all()
    sweep.lose("00-0", "00-1", "00-2")
    assert charts.over_training(sweep.results(), "mamba").panels == ()


def test_panels_of_differences_share_axes_within_a_group_and_hold_0():
    results = table1().results()
    panels = [panel for row in charts.over_training(results, "mamba").panels for panel in row]
    assert len(panels) == 6
    for panel in panels:
        zero, line = panel.series
        assert zero.y == (0.0, 0.0)
        assert panel.y_range[0] < min(0, line.y[-1]) <= max(0, line.y[-1]) < panel.y_range[1]
        assert np.array(line.high) - np.array(line.low) == pytest.approx(2 * (np.array(line.high) - line.y))


def test_a_band_of_differences_is_drawn_only_where_there_is_an_interval():
    sweep = table2(VARIANTS[:2])
    for seed in (0, 42):  # the difference at step 100 is the same for both seeds
        sweep.records[f"01-{seed}"]["evaluations"][1]["test/ppl"] = (
            sweep.records[f"00-{seed}"]["evaluations"][1]["test/ppl"] - 0.5
        )
    ((panel,),) = charts.over_training(sweep.results(), "mamba").panels
    _, band, line = panel.series
    assert (len(line.x), line.low, line.y[1]) == (3, (), pytest.approx(-0.5))
    assert (band.x, band.line) == ((line.x[0], line.x[2]), "")
    assert np.isfinite([band.low, band.high]).all()
    sweep.lose("01-42")
    ((panel,),) = charts.over_training(sweep.results(), "mamba").panels
    assert [series.low for series in panel.series] == [(), (), ()]


def test_dots_carry_the_interval_and_stay_in_sight_however_wide_it_is():
    sweep = table2()  # two seeds: intervals of a hundred times s
    panel = sweep.design.charts(sweep.results())[1].panels[0][0]
    dots = [series for series in panel.series if series.x and series.marker]
    ours = [dot for dot in dots if dot.error]
    for dot, cell in zip(ours, sweep.results().cells[1:], strict=True):
        assert (dot.x[0] - dot.error[0], dot.x[0] + dot.error[0]) == pytest.approx(tuple(vars(cell.interval).values()))
    low, high = panel.x_range
    across = [dot.x[0] for dot in dots]
    assert low < min(across) < max(across) < high
    assert high - low < 6 * (max(0, *across) - min(0, *across))
