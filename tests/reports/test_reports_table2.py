"""Table 2 equals what its run records say, finished or not, and knows the paper's numbers."""

import math
import subprocess
import sys
from statistics import mean, stdev

import pytest

from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import Cell, build, tables
from diffmamba.reports.table import missing, sign
from diffmamba.reports.table2 import Variant

SEEDS = (0, 42)


def make_cells(seeds=SEEDS):
    """The ten cells of table 2."""
    variants = [("mamba", norm, None) for norm in (False, True)] + [
        (model, norm, form)
        for model in ("diff_s6", "diff_mamba")
        for form in ("scalar", "reparam")
        for norm in (False, True)
    ]
    return [
        Cell(Variant(*variant), {seed: f"{place:02d}-{seed}" for seed in seeds})
        for place, variant in enumerate(variants)
    ]


def make_record(run_id, final, **changes):
    """A finished run whose test PPL falls to `final`."""
    evaluations = [
        {"step": 50 * k, "epoch": 0.1 * k, "tokens": 4096 * k, "val/ppl": 1.0, "test/ppl": final + 3.0 / k - 1.0}
        for k in (1, 2, 3)
    ]
    return {
        "schema": 1,
        "id": run_id,
        "status": "finished",
        "error": None,
        "git": {"revision": "7df0" * 10, "dirty": False},
        "versions": {"torch": "2.13.0"},
        "hardware": {"device": "cpu", "cores": 2},
        "parameters": {"total": 201234},
        "corpus": {
            "name": "pydoc8",
            "fingerprint": "9c1d",
            "sizes": {"train": 3000, "val": 100, "test": 100},
            "vocabulary": 27,
        },
        "progress": {"step": 150, "steps": 150},
        "evaluations": evaluations,
        "wall_seconds": 40.0,
        "tokens_per_second": 25000.0,
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


def make_records(cells):
    """Every run finished; PPL differ by cell and by seed."""
    return {
        run_id: make_record(run_id, 6.0 - 0.05 * place + 0.01 * math.sin(7 * place + seed))
        for place, cell in enumerate(cells)
        for seed, run_id in cell.runs.items()
    }


def fail(message="loss is not finite", step=120):
    """The changes that turn a record into that of a failed run."""
    error = {"type": "FloatingPointError", "message": message, "traceback": "", "step": step}
    return {"status": "failed", "error": error}


@pytest.fixture
def cells():
    return make_cells()


@pytest.fixture
def records(cells):
    return make_records(cells)


def row_of(table, model, outer_norm, lambda_form):
    return next(line.row for line in table.lines if line.cell.key == Variant(model, outer_norm, lambda_form))


def test_rows_equal_their_records(cells, records):
    table = build("table2", cells, records, "smoke")
    baseline = mean(records[run_id]["evaluations"][-1]["test/ppl"] for run_id in cells[0].runs.values())
    for cell, row in zip(cells, table.rows, strict=True):
        finals = [records[run_id]["evaluations"][-1]["test/ppl"] for run_id in cell.runs.values()]
        assert (row.status, row.seeds, row.params) == ("complete", [0, 42], 201234)
        assert row.ppl_mean == pytest.approx(mean(finals), abs=1e-12)
        assert row.ppl_std == pytest.approx(stdev(finals), abs=1e-12)
        assert row.delta == pytest.approx(mean(finals) - baseline, abs=1e-12)
    assert [line.cell for line in table.lines] == cells
    assert table.rows[0].delta == 0.0


def test_spread_is_that_of_the_paired_differences(cells, records):
    line = build("table2", cells, records, "smoke").lines[3]
    pairs = [
        records[cells[3].runs[seed]]["evaluations"][-1]["test/ppl"]
        - records[cells[0].runs[seed]]["evaluations"][-1]["test/ppl"]
        for seed in SEEDS
    ]
    assert line.spread == pytest.approx(stdev(pairs), abs=1e-12)


def test_a_common_shift_of_a_seed_changes_the_std_but_not_the_spread(cells, records):
    before = build("table2", cells, records, "smoke").lines[3]
    for cell in cells:
        records[cell.runs[42]]["evaluations"][-1]["test/ppl"] += 0.5
    after = build("table2", cells, records, "smoke").lines[3]
    assert after.row.ppl_std > 10 * before.row.ppl_std
    assert after.spread == pytest.approx(before.spread, abs=1e-9)


def test_a_partial_cell_counts_only_what_finished(cells, records):
    run_id = cells[7].runs[42]
    records[run_id].update(fail())
    table = build("table2", cells, records, "smoke")
    row = table.rows[7]
    assert (row.status, row.seeds, row.ppl_std) == ("partial", [0], None)
    assert row.ppl_mean == records[cells[7].runs[0]]["evaluations"][-1]["test/ppl"]
    assert table.lines[7].sign == "~"
    assert missing(table) == [
        f"diff_mamba, outer norm, scalar: seed 42 failed at step 120: loss is not finite (run {run_id})"
    ]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("finished", "finished"), "complete"),
        (("finished", "running"), "partial"),
        (("finished", "failed"), "partial"),
        (("running", "failed"), "running"),
        (("failed", "pending"), "failed"),
        (("failed", None), "failed"),
        (("interrupted", "pending"), "missing"),
        ((None, None), "missing"),
    ],
)
def test_status_is_the_first_that_holds(cells, records, statuses, expected):
    for status, run_id in zip(statuses, cells[2].runs.values(), strict=True):
        if status is None:
            del records[run_id]
        else:
            records[run_id]["status"] = status
    assert build("table2", cells, records, "smoke").rows[2].status == expected


def test_a_finished_run_without_a_finite_metric_has_no_result(cells, records):
    records[cells[2].runs[0]]["evaluations"][-1]["test/ppl"] = math.nan
    records[cells[2].runs[42]]["evaluations"] = []
    table = build("table2", cells, records, "smoke")
    assert (table.rows[2].status, table.rows[2].ppl_mean, table.rows[2].delta) == ("failed", None, None)
    assert "finished without a finite test/ppl" in missing(table)[0]


def test_without_mamba_there_is_no_delta(cells, records):
    for run_id in cells[0].runs.values():
        del records[run_id]
    table = build("table2", cells, records, "smoke")
    assert all(row.delta is None for row in table.rows)
    assert {line.sign for line in table.lines} == {"–"}
    assert missing(table) == ["mamba: seeds 0, 42 not started"]


def test_an_empty_grid_is_a_table_of_gaps(cells):
    table = build("table2", cells, {}, "smoke")
    assert {row.status for row in table.rows} == {"missing"}
    assert row_of(table, "diff_mamba", True, "scalar").paper_ppl == 2.493


@pytest.mark.parametrize(
    ("delta", "spread", "paper", "expected"),
    [
        (-0.1, 0.05, -0.084, "✓"),
        (0.1, 0.05, -0.084, "✗"),
        (-0.04, 0.05, -0.084, "~"),
        (0.04, 0.05, -0.084, "~"),
        (-0.1, None, -0.084, "~"),
        (-0.1, 0.05, None, "–"),
        (0.0, None, 0.0, "–"),
        (None, None, -0.084, "–"),
    ],
)
def test_a_sign_counts_only_beyond_the_spread(delta, spread, paper, expected):
    assert sign(delta, spread, paper) == expected


@pytest.mark.parametrize(
    ("cell", "ppl", "delta"),
    [
        (("mamba", False, None), 2.577, 0.0),
        (("mamba", True, None), None, None),
        (("diff_s6", False, "scalar"), 2.520, -0.057),
        (("diff_s6", True, "reparam"), 2.517, -0.060),
        (("diff_mamba", True, "scalar"), 2.493, -0.084),
        (("diff_mamba", False, "reparam"), 2.517, -0.060),
        (("diff_mamba", True, "channel"), None, None),
        (("transformer", False, None), None, None),
    ],
)
def test_published_numbers(cell, ppl, delta):
    paper = published.table2(*cell)
    assert (paper.ppl, paper.delta) == (ppl, delta)


def test_records_are_not_changed(cells, records):
    before = repr(records)
    first = build("table2", cells, records, "smoke")
    assert repr(records) == before
    assert first.content() == build("table2", cells, records, "smoke").content()


def test_an_unknown_table_names_those_that_exist(cells):
    assert tables() == ["table1", "table2"]
    with pytest.raises(SettingError, match=r"table9.*table2"):
        build("table9", cells, {}, "smoke")


def test_reports_need_no_training_stack():
    heavy = "{'torch', 'lightning', 'wandb', 'hydra'}"
    code = f"import sys, diffmamba.reports; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
