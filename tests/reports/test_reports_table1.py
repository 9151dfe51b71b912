"""Table 1 equals its runs, compares within a row of the paper, and never passes a stand-in off as the original."""

import io
import json
import math
from itertools import product
from statistics import mean, stdev

import pandas as pd
import pytest
from rich.console import Console
from test_reports_table2 import fail, make_record

from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import build, cells, show, write
from diffmamba.reports.contradictions import of_table1
from diffmamba.reports.setting import Setting
from diffmamba.reports.table import missing

STAND_INS = {"wikitext103": "pydoc_words", "text8": "pydoc8", "enwik8": "pysrc8"}
LAYERS = {6: 1, 12: 2}
MODELS = ("mamba", "diff_mamba")
SEEDS = (0, 42)


def make_config(data, layers, model, seed, embedded=True):
    """What a table reads of a resolved configuration of sweeps/table1."""
    return {
        "published": {"data": data, "layers": layers},
        "data": {"name": STAND_INS[data] if embedded else data},
        "model": {"name": model, "n_layers": LAYERS[layers] if embedded else layers},
        "seed": seed,
    }


def make_grid(embedded=True):
    """The cells of table 1 in the order of its sweep."""
    grid = product(STAND_INS, LAYERS, MODELS, SEEDS)
    return cells("table1", [("-".join(map(str, run)), make_config(*run, embedded)) for run in grid])


def make_records(grid, epoch=0.1):
    """Every run finished; PPL differ by cell and by seed, and are of another size for each corpus."""
    records = {}
    for place, cell in enumerate(grid):
        size = {"wikitext103": 300, "text8": 8, "enwik8": 12}[cell.key.data]
        corpus = {"name": cell.key.trained_on, "fingerprint": f"of {cell.key.trained_on}"}
        for seed, run_id in cell.runs.items():
            record = make_record(run_id, size * (1 - 0.01 * place + 0.003 * math.sin(7 * place + seed)), corpus=corpus)
            for k, evaluation in enumerate(record["evaluations"], start=1):
                evaluation["epoch"] = epoch * k
            records[run_id] = record
    return records


def final(records, run_id):
    return records[run_id]["evaluations"][-1]["test/ppl"]


def printed(table, width):
    console = Console(file=io.StringIO(), width=width)
    show(table, console)
    return console.file.getvalue()


@pytest.fixture
def grid():
    return make_grid()


@pytest.fixture
def records(grid):
    return make_records(grid)


def test_lines_have_the_order_of_the_grid_and_name_what_was_trained(grid, records):
    content = build("table1", grid, records, "smoke").content()
    expected = [
        {
            "data": data,
            "layers": layers,
            "trained_on": STAND_INS[data],
            "trained_layers": LAYERS[layers],
            "model": model,
        }
        for data, layers, model in product(STAND_INS, LAYERS, MODELS)
    ]
    assert [{key: row[key] for key in list(row)[:5]} for row in content] == expected


def test_delta_is_to_the_mamba_of_the_same_row(grid, records):
    table = build("table1", grid, records, "smoke")
    for mamba, diff_mamba in zip(table.lines[::2], table.lines[1::2], strict=True):
        ours = [final(records, run_id) for run_id in diff_mamba.cell.runs.values()]
        theirs = [final(records, run_id) for run_id in mamba.cell.runs.values()]
        assert diff_mamba.row.ppl_mean == pytest.approx(mean(ours), abs=1e-12)
        assert diff_mamba.row.delta == pytest.approx(mean(ours) - mean(theirs), abs=1e-12)
        assert diff_mamba.spread == pytest.approx(stdev([a - b for a, b in zip(ours, theirs, strict=True)]), abs=1e-9)
        assert (mamba.row.delta, mamba.spread, mamba.sign) == (0.0, None, "–")


def test_a_row_without_its_mamba_has_no_delta_and_the_others_keep_theirs(grid, records):
    before = build("table1", grid, records, "smoke")
    for run_id in grid[4].runs.values():
        del records[run_id]
    after = build("table1", grid, records, "smoke")
    assert after.rows[5].delta is None
    assert [row for place, row in enumerate(after.rows) if place not in (4, 5)] == [
        row for place, row in enumerate(before.rows) if place not in (4, 5)
    ]
    assert missing(after) == ["text8, 6 layers (here pydoc8, 1 layer), mamba: seeds 0, 42 not started"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("text8", 12, "diff_mamba"), (2.479, -0.046, 259)),
        (("wikitext103", 6, "mamba"), (22.357, 0.0, 167)),
        (("enwik8", 6, "diff_s6"), (None, None, None)),
        (("pydoc8", 6, "mamba"), (None, None, None)),
    ],
)
def test_published_numbers(cell, expected):
    paper = published.table1(*cell)
    assert (paper.ppl, paper.delta, paper.params_m) == expected


def test_bits_are_those_of_the_ppl_and_words_have_none(grid, records):
    for row in build("table1", grid, records, "smoke").content():
        if row["data"] == "wikitext103":
            assert row["bits_per_symbol"] is row["bits_delta"] is row["paper_bits_delta"] is None
            continue
        assert 2 ** row["bits_per_symbol"] == pytest.approx(row["ppl_mean"])
        assert 2 ** (row["bits_per_symbol"] - row["bits_delta"]) == pytest.approx(row["ppl_mean"] - row["delta"])
        assert 2 ** row["paper_bits_per_symbol"] == pytest.approx(row["paper_ppl"])


def test_only_the_published_setting_needs_no_caveat(grid, records):
    as_published = make_grid(embedded=False)
    assert build("table1", as_published, {}, "paper").caveats == ()
    for table in (build("table1", as_published, {}, "small"), build("table1", grid, records, "paper")):
        assert len(table.caveats) == 1
    assert as_published[0].label == "wikitext103, 6 layers, mamba"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_shows_every_number_and_each_name_once(grid, records, width):
    del records[grid[0].runs[0]]
    records[grid[3].runs[42]].update(fail())
    table = build("table1", grid, records, "smoke")
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    lines = text.splitlines()
    for name in table.groups:
        assert lines.count(name) == 1
    for line in table.lines:
        numbers = " ".join(column.text(line) for column in table.design.columns[1:]).split()
        assert any(words.split() == numbers for words in lines), numbers


def test_files_and_page_hold_the_table(grid, records, tmp_path):
    table = build("table1", grid, records, "smoke")
    write(table, tmp_path)
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == table.content()
    frame = pd.read_csv(tmp_path / "table.csv")
    assert list(frame.columns) == list(table.content()[0])
    assert list(frame["ppl_mean"]) == [row.ppl_mean for row in table.rows]
    for name in ("table.md", "index.html"):
        text = (tmp_path / name).read_text().replace("\\", "")  # Markdown escapes the underscore of a name
        assert all(f"{row.ppl_mean:.3f}" in text for row in table.rows)
        assert all(f"{data}, 6 layers (here {trained}, 1 layer)" in text for data, trained in STAND_INS.items())
    assert (tmp_path / "index.html").read_text().count("<img ") == 2


def test_only_corpora_that_differ_within_a_row_are_warned_of(grid, records, tmp_path):
    assert "different corpora" not in printed(build("table1", grid, records, "smoke"), 160)
    records[grid[5].runs[0]]["corpus"] = {"name": "pydoc8", "fingerprint": "another"}
    text = printed(build("table1", grid, records, "smoke"), 250)
    assert "text8, 6 layers (here pydoc8, 1 layer): runs were trained on different corpora" in text
    assert text.count("different corpora") == 1


def test_seeds_are_compared_within_a_row(grid, records):
    del records[grid[1].runs[42]]
    text = printed(build("table1", grid, records, "smoke"), 250)
    assert (
        "Δ is taken over other seeds than mamba's in: wikitext103, 6 layers (here pydoc_words, 1 layer), diff_mamba."
        in text
    )


def test_two_runs_for_one_place_are_refused_and_so_is_a_run_of_no_row():
    run = make_config("text8", 6, "mamba", 0)
    with pytest.raises(SettingError, match=r"table1 has one run for text8, 6 layers .*mamba, seed 0"):
        cells("table1", [("a", run), ("b", run)])
    with pytest.raises(SettingError, match="published is not set"):
        cells("table1", [("a", run | {"published": None})])


def test_the_key_of_a_cell_is_read_from_its_configuration():
    key = Setting.of(make_config("enwik8", 12, "diff_mamba", 0, embedded=False))
    assert key == Setting("enwik8", 12, "enwik8", 12, "diff_mamba")
    assert key.is_as_published


def test_contradictions_are_computed_from_the_published_numbers():
    text = " ".join(of_table1())
    for told in (
        "295M and 299M",
        "0.046 bits",
        "in bits it is 0.027",
        "0.041 bits",
        "in bits it is 0.025",
        "129M parameters here and 128M in",
    ):
        assert told in text
    assert "On wikitext103" not in text  # there depth helps
