"""The results of a sweep equal what its run records say, finished or not."""

import math
import subprocess
import sys
from statistics import mean, stdev

import pytest
from by_hand import SEEDS, failed, setting, table1, table2, variant

from diffmamba import reports
from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import designs, statistics
from diffmamba.reports.cells import Cell, Key, compared
from diffmamba.reports.records import Headline, SeedResult


@pytest.fixture
def sweep():
    return table2()


@pytest.mark.parametrize(("make", "row"), [(table1, 2), (table2, 10)])  # `row`: cells that share a baseline
def test_cells_equal_their_records_and_leave_them_unchanged(make, row):
    sweep = make()
    before, results = repr(sweep.records), sweep.results()
    for place, cell in enumerate(results.cells):
        finals, baseline = sweep.final(place), sweep.final(place - place % row)
        pairs = [ours - theirs for ours, theirs in zip(finals, baseline, strict=True)]
        assert (cell.status, list(cell.values), cell.parameters) == ("complete", [0, 42], 201234)
        assert cell.mean == pytest.approx(mean(finals), abs=1e-12)
        assert cell.std == pytest.approx(stdev(finals), abs=1e-12)
        assert cell.delta == pytest.approx(mean(finals) - mean(baseline), abs=1e-12)
        assert cell.spread == (pytest.approx(stdev(pairs), abs=1e-12) if place % row else None)
    assert results.cells[0].delta == 0.0
    assert results.complete
    assert sweep.document() == sweep.document()
    assert repr(sweep.records) == before


def test_a_common_shift_of_a_seed_changes_the_std_but_not_the_spread(sweep):
    before = sweep.results().cells[3]
    for run_id, record in sweep.records.items():
        record["evaluations"][-1]["test/ppl"] += 0.5 * run_id.endswith("-42")
    after = sweep.results().cells[3]
    assert after.std > 10 * before.std
    assert after.spread == pytest.approx(before.spread, abs=1e-9)


def test_a_partial_cell_counts_only_what_finished(sweep):
    sweep.records["07-42"].update(failed())
    results = sweep.results()
    cell = results.cells[7]
    assert (cell.status, list(cell.values), cell.std, cell.sign) == ("partial", [0], None, "~")
    assert cell.mean == sweep.final(7)[0]
    assert not results.complete
    told = "diff_mamba, outer norm, scalar: seed 42 failed at step 120: loss is not finite (run 07-42)"
    assert results.missing == [told]


STATUSES = {
    "finished finished": "complete",
    "finished running": "partial",
    "finished failed": "partial",
    "running failed": "running",
    "failed pending": "failed",
    "failed absent": "failed",
    "interrupted pending": "missing",
    "absent absent": "missing",
}


@pytest.mark.parametrize("statuses", STATUSES)
def test_status_is_the_first_that_holds(sweep, statuses):
    for status, seed in zip(statuses.split(), SEEDS, strict=True):
        sweep.records[f"02-{seed}"]["status"] = status
        if status == "absent":
            sweep.lose(f"02-{seed}")
    assert sweep.results().cells[2].status == STATUSES[statuses]


def test_a_finished_run_without_a_finite_metric_has_no_result(sweep):
    sweep.records["02-0"]["evaluations"][-1]["test/ppl"] = math.nan
    sweep.records["02-42"]["evaluations"] = []
    results = sweep.results()
    assert (results.cells[2].status, results.cells[2].mean, results.cells[2].delta) == ("failed", None, None)
    assert "finished without a finite test/ppl" in results.missing[0]


def test_without_the_baseline_there_is_no_delta_and_without_records_all_cells_are_gaps(sweep):
    sweep.lose("00-0", "00-42")
    results = sweep.results()
    assert {(cell.delta, cell.sign) for cell in results.cells} == {(None, "–")}
    assert results.missing == ["mamba: seeds 0, 42 not started"]
    sweep.lose()
    results = sweep.results()
    assert {cell.status for cell in results.cells} == {"missing"}
    assert results.cells[7].key.published.value == 2.493


@pytest.mark.parametrize(
    ("delta", "spread", "paper", "expected"),
    [
        (-0.1, 0.05, -0.084, "✓"),
        (0.1, 0.05, -0.084, "✗"),
        (0.1, 0.05, 0.084, "✓"),
        (-0.07, 0.05, -0.084, "~"),  # beyond s, but four seeds need 1.6 of it
        (0.07, 0.05, -0.084, "~"),
        (-0.1, None, -0.084, "~"),
        (-0.1, 0.0, -0.084, "~"),
        (-0.1, 0.05, None, "–"),
        (0.0, None, 0.0, "–"),
        (None, None, -0.084, "–"),
    ],
)
def test_a_sign_counts_only_where_the_interval_leaves_out_0(delta, spread, paper, expected):
    spread_out = () if spread is None else (spread * x * 0.75**0.5 for x in (-1, 1, 1, -1))
    ours = () if delta is None else (delta,) if spread is None else tuple(delta + shift for shift in spread_out)
    paired = []
    for values, is_baseline in ((0.0,) * 4, True), (ours, False):
        seeds = tuple(SeedResult(str(seed), seed, "finished", value=value) for seed, value in enumerate(values))
        key = Key({"model": "any"}, "any", is_baseline, published=published.PublishedResult(delta=paper))
        paired.append(Cell(key, seeds, Headline("test/ppl", "PPL")))
    cell = compared(paired)[1]
    assert (cell.delta, cell.spread, cell.sign) == (pytest.approx(delta), pytest.approx(spread), expected)


def test_delta_is_taken_over_the_seeds_of_both_so_that_a_lost_run_does_not_shift_it(sweep):
    sweep.records["00-42"]["evaluations"][-1]["test/ppl"] += 5.0
    sweep.lose("03-42")
    cell = sweep.results().cells[3]
    assert cell.delta == sweep.records["03-0"]["evaluations"][-1]["test/ppl"] - sweep.final(0)[0]
    assert (cell.sign, cell.interval, cell.comparison.reason) == ("~", None, "one seed is shared with the baseline")
    told = "No interval of Δ, so no verdict, because one seed is shared with the baseline: diff_s6, outer norm, scalar."
    assert told in sweep.document().data["notes"]
    assert told in sweep.printed(400)


def test_the_rows_of_a_table_are_compared_together(sweep):
    results = sweep.results()
    pairs = [(sweep.final(place), sweep.final(0)) for place in range(1, 10)]
    assert list(results.comparisons.values()) == statistics.compared(pairs)
    assert {comparison.rows for comparison in results.comparisons.values()} == {9}
    assert results.cells[0].comparison is None
    assert sweep.document().data["rows_compared"] == 9


def test_published_numbers():
    for table, cell, expected in (
        (published.table2, ("mamba", False, None), (2.577, 0.0, 127)),
        (published.table2, ("mamba", True, None), (None, None, 127)),
        (published.table2, ("diff_mamba", True, "scalar"), (2.493, -0.084, 128)),
        (published.table2, ("diff_mamba", False, "reparam"), (2.517, -0.060, 128)),
        (published.table2, ("diff_mamba", True, "channel"), (None, None, None)),
        (published.table1, ("text8", 12, "diff_mamba"), (2.479, -0.046, 259)),
        (published.table1, ("wikitext103", 6, "mamba"), (22.357, 0.0, 167)),
        (published.table1, ("enwik8", 6, "diff_s6"), (None, None, None)),
        (published.table1, ("pydoc8", 6, "mamba"), (None, None, None)),
    ):
        found = table(*cell)
        assert (found.value, found.delta, found.params_m) == expected


def test_two_runs_for_one_cell_and_seed_are_refused_and_so_is_a_run_of_no_cell():
    one, two = setting("text8", 6, "mamba", 0), variant("mamba", False, None, 0)
    other_data = two | {"data": {"name": "text8"}}
    for sweep, runs, told in (
        (table1(), (one, one), r"table1 has one run for text8, 6 layers .*mamba, seed 0"),
        (table1(), (one | {"published": None},), "published is not set"),
        (table2(), (two, two), "table2 has one run for mamba, seed 0"),
        (table2(), (two, other_data), "table2 has one run for mamba, seed 0"),
    ):
        with pytest.raises(SettingError, match=told):
            reports.results(sweep.design, list(zip("ab", runs, strict=False)), {}, "smoke")


def test_designs_are_found_by_their_file_and_an_unknown_one_names_those_that_exist():
    tables, figures = designs.names("table"), designs.names("figure")
    assert {"table1", "table2", "table2_controls"} <= set(tables)
    assert {"figure2", "figure5"} <= set(figures)
    for kind in ("table", "figure"):
        for name in designs.names(kind):
            design = designs.find(kind, name)
            assert (design.kind, design.name) == (kind, name)
    assert designs.find("figure", "figure2").sweep == designs.find("table", "table1").sweep == "table1"
    for kind, name, advice in (
        ("table", "tabel2", rf"did you mean table=table2\? There are {', '.join(tables)}"),
        ("table", "other", f"There are {', '.join(tables)}"),
        ("figure", "fig2", rf"did you mean figure=figure2\? There are {', '.join(figures)}"),
        ("figure", "table1", "it is a table: use table=table1"),
    ):
        with pytest.raises(SettingError, match=rf"^{kind}={name} is not known; .*{advice}$"):
            designs.find(kind, name)


@pytest.mark.parametrize("variable", [True, False])
def test_a_file_in_the_users_configuration_directory_is_a_new_design(tmp_path, monkeypatch, variable):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFMAMBA_CONF", raising=False)
    if variable:
        monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path / "mine"))
    own = tmp_path / ("mine" if variable else "conf") / "designs"
    own.mkdir(parents=True)
    name = f"table_9{variable}"
    text = "from dataclasses import replace\nfrom diffmamba.reports.designs import table2\n"
    (own / f"{name}.py").write_text(f"{text}DESIGN = replace(table2.DESIGN, name='{name}')\n")
    (own / "table2.py").write_text("raise RuntimeError")  # does not replace ours
    assert {"table1", "table2", "table2_controls", name} <= set(designs.names("table"))
    assert designs.find("table", name).name == designs.find("table", name.removeprefix("table_")).name == name
    assert designs.find("table", "table2").title.startswith("Table 2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("DESIGN = (", "SyntaxError"),
        ("", "AttributeError"),
        ("DESIGN = 3", "must be a Design"),
        ("from diffmamba.reports.designs.table2 import DESIGN", "with name='table_{}'"),
    ],
)
def test_a_design_that_cannot_be_used_is_told_in_one_line(tmp_path, monkeypatch, text, told):
    name = f"table_{abs(hash(text))}"
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    (tmp_path / "designs").mkdir()
    (tmp_path / "designs" / f"{name}.py").write_text(text)
    with pytest.raises(SettingError, match=rf"^table={name}: .*{told.format(abs(hash(text)))}.*$"):
        designs.find("table", name)


def test_reports_need_no_training_stack():
    heavy = "{'torch', 'lightning', 'wandb', 'hydra'}"
    code = "import sys; from diffmamba.reports import designs; designs.find('figure', 'figure2');"
    code += f"designs.find('table', 'table2'); sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
