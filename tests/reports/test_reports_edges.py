"""Nothing that a record, a terminal or a disk does keeps a table from being made, and what is there stays whole."""

import errno
import io
import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
from by_hand import failed, figure2, table1, table2, variant
from rich.console import Console

from diffmamba import atomic, reports, terminal
from diffmamba.document import Chart
from diffmamba.errors import SettingError
from diffmamba.reports import charts, pictures, render

ODD = (None, "odd", [], {}, ["odd"], {"odd": "odd"}, 7, -1.5, math.nan, math.inf, True)
PARTS = [
    *(["status"], ["git"], ["versions"], ["versions", "torch"], ["hardware"], ["parameters"], ["parameters", "total"]),
    *(["corpus"], ["corpus", "sizes"], ["corpus", "sizes", "train"], ["corpus", "vocabulary"], ["corpus", "name"]),
    *(["progress"], ["evaluations"], ["evaluations", 0], ["evaluations", 2], ["evaluations", 1, "step"]),
    *(["evaluations", 1, "epoch"], ["evaluations", 2, "test/ppl"], ["wall_seconds"], ["tokens_per_second"]),
    *(["finished"], ["task"], ["measure"], ["error"], ["stopped"], ["config"], ["kind"], ["values"]),
]


@pytest.mark.parametrize("path", PARTS, ids=lambda path: "/".join(map(str, path)))
def test_a_record_with_an_odd_part_hides_no_other_and_breaks_nothing(path):
    sweep, plain = table2(), table2().results()
    for odd, run_id in zip(ODD, sweep.records, strict=False):  # each in a run of its own
        part = sweep.records[run_id]
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = deepcopy(odd)
    results = sweep.results()
    document = reports.document(sweep.design, results)
    json.dumps(document.data, allow_nan=False)
    assert render.markdown(document)
    assert list(charts.points(results)) == list(charts.points(plain))
    assert [cell.mean for cell in results.cells[6:]] == [cell.mean for cell in plain.cells[6:]]


@pytest.mark.parametrize("record", [None, [], "text", 3, {}, {"status": "finished"}, {"status": None}])
def test_what_is_no_record_counts_as_not_started_or_as_failed(record, tmp_path):
    sweep = table2()
    sweep.records["03-0"] = record
    results = sweep.results()
    assert list(results.cells[3].values) == [42]
    assert any(told in results.missing[0] for told in ("seed 0 not started", "without a finite test/ppl"))
    assert sweep.write(tmp_path)[-1] == "index.html"


def test_seeds_may_be_numbers_and_texts():
    sweep = table2()
    for seed in ("7", "b", 9):
        sweep.add(f"00-{seed}", variant("mamba", False, None, seed), 5.0)
    assert list(sweep.results().cells[0].values) == [0, 9, 42, "7", "b"]
    assert "0, 9, 42, 7, b" in " ".join(sweep.printed().split())


@pytest.mark.parametrize("make", [table1, table2, figure2])
def test_a_sweep_of_one_run_has_every_file(make, tmp_path):
    sweep = make()
    sweep.planned = sweep.planned[:1]
    sweep.records[sweep.planned[0][0]]["evaluations"] = sweep.records[sweep.planned[0][0]]["evaluations"][-1:]
    assert sweep.results().complete
    assert sweep.write(tmp_path)[-1] == "index.html"


@pytest.mark.parametrize("make", [table1, table2, figure2])
def test_a_sweep_where_all_runs_failed_has_every_file(make, tmp_path):
    sweep = make()
    for record in sweep.records.values():
        record.update(failed(), evaluations=[])
    assert not sweep.results().counted
    assert sweep.write(tmp_path)[-1] == "index.html"


def test_a_sweep_without_runs_is_refused():
    sweep = table2()
    sweep.planned = []
    with pytest.raises(SettingError, match="table2: these settings leave no run"):
        sweep.results()


def test_a_picture_without_panels_is_drawn():
    assert pictures.drawn(Chart("none", "None", (), alt="none"), "svg")


def test_a_run_that_a_callback_stopped_does_not_count_and_says_who_did_it():
    sweep = table2()
    stopped = {"status": "stopped", "stopped": {"step": 60, "by": "EarlyStopping"}}
    sweep.records["03-42"].update(stopped, progress={"step": 60, "steps": 100})
    results = sweep.results()
    assert (results.cells[3].status, list(results.cells[3].values)) == ("partial", [0])
    assert "seed 42 stopped at step 60 of 100 by EarlyStopping (run 03-42)" in results.missing[0]
    sweep.records["03-0"].update(stopped)
    assert sweep.results().cells[3].status == "stopped"


def test_a_table_without_its_baseline_says_which_one_and_why():
    sweep = table1()
    sweep.planned = [(i, c) for i, c in sweep.planned if c["model"]["name"] != "mamba" or c["data"]["name"] == "pydoc8"]
    told = "the baseline, mamba of the same data and layers, is no run of this table"
    notes, printed = sweep.document().data["notes"], " ".join(sweep.printed(400).split())
    (note,) = [note for note in notes if "No Δ" in note]
    assert told in note
    assert "wikitext103, 6 layers" in note
    assert "text8" not in note
    assert note in printed
    results = replace(sweep.results(), without_baseline=("model=diff_mamba",))
    assert any("because of model=diff_mamba." in n for n in reports.document(sweep.design, results).data["notes"])
    assert not any("No Δ" in note for note in table1().document().data["notes"])


@pytest.mark.parametrize("width", [1, 20, 40])
def test_a_narrow_terminal_is_no_error(width):
    assert "Table 2" in " ".join(table2().printed(max(width, 20)).split())
    assert table2().printed(width)


def printed(encoding):
    """What a console of this encoding is given, as text."""
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors=terminal.LETTERS)
    sweep = table2()
    reports.show(sweep.document(), Console(file=file, width=100))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_a_terminal_without_our_signs_shows_the_same_table_with_letters_for_them():
    whole, poor = printed("utf-8").splitlines(), printed("ascii").splitlines()
    assert len(poor) == len(whole)
    rows = [(a, b) for a, b in zip(whole, poor, strict=True) if " ± " in a and "PPL" not in a]
    assert len(rows) == 10
    for row, spelled in rows:
        assert len(spelled) == len(row)
        assert spelled.replace("|", " ") == row.translate(str.maketrans(terminal.SIGNS))
    assert "?" not in "".join(poor)
    assert len({terminal.SIGNS.get(sign, sign) for sign in "✓✗–~"}) == 4  # they stay different


def test_without_a_terminal_every_row_is_one_line(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    console, sweep = terminal.terminal(), table2()
    sweep.records["03-42"].update(failed("a reason of many words " * 10))
    with console.capture() as captured:
        reports.show(sweep.document(), console)
    lines = captured.get().splitlines()
    assert any(("a reason of many words " * 10).strip() in line for line in lines)
    assert sum(" ± " in line for line in lines) == 10
    monkeypatch.setenv("COLUMNS", "60")
    assert terminal.terminal().width == 60


def test_a_full_disk_leaves_all_files_of_a_page_as_they_were(tmp_path, monkeypatch):
    sweep, replacing = table2(), atomic.replacing
    sweep.write(tmp_path / "page")
    before = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    sweep.records["03-0"]["evaluations"][-1]["test/ppl"] = 1.0

    def full(path):
        if path.name == "index.html":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replacing(path)

    monkeypatch.setattr(atomic, "replacing", full)
    with pytest.raises(OSError, match="No space left"):
        sweep.write(tmp_path / "page")
    assert {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()} == before
    with pytest.raises(OSError, match="No space left"):
        sweep.write(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_page_of_other_settings_has_a_directory_of_its_own(tmp_path):
    place = lambda *words: reports.pages.directory(tmp_path, "table2-smoke", reports.pages.telling(words)).name  # noqa: E731
    assert place() == place("threads=1", "logger=csv", "runs=x", "trainer=cpu", "hydra.launcher.partition=gpu")
    assert place() == "table2-smoke"
    assert place("seed=1,2", "data=pysrc8", "threads=1") == "table2-smoke-data=pysrc8-seed=1,2"
    assert place("data=pysrc8", "seed=1,2") == place("seed=1,2", "data=pysrc8")
    odd = [place("data.path=/a/é b.txt"), place("data.path=/a/è b.txt"), place(*(f"model.x{i}=1" for i in range(99)))]
    assert len(set(odd)) == 3
    for name in odd:
        assert len(name) < 120
        assert name.isascii()
        assert not set("/ \\") & set(name)
    assert place("trainer.precision=bf16-mixed") != place("trainer.devices=2") == "table2-smoke"


def test_pages_of_other_settings_are_found(tmp_path):
    for make, words in ((table2, ()), (table2, ("seed=1",)), (figure2, ("data=text",))):
        sweep = make()
        name = f"{sweep.design.name}-smoke"
        reports.write(sweep.design, sweep.results(settings=words), reports.pages.directory(tmp_path, name, words))
    (tmp_path / "table2-smoke-broken").mkdir()
    (tmp_path / "table2-smoke-broken" / "table.json").write_text("[]")
    assert list(reports.pages.others(tmp_path, "table2-smoke")) == [(tmp_path / "table2-smoke-seed=1", "seed=1")]
    assert [words for _, words in reports.pages.others(tmp_path, "figure2-smoke")] == ["data=text"]
    assert list(reports.pages.others(tmp_path / "none", "table2-smoke")) == []
