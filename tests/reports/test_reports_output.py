"""What a reader gets, in the terminal, as files and as a page, holds the numbers of the table and nothing unsafe."""

import io
import json
import re

import pandas as pd
import pytest
from rich.console import Console
from test_reports_table2 import fail, make_cells, make_records

from diffmamba.reports import Cell, build, show, write
from diffmamba.reports.columns import delta, params
from diffmamba.reports.table2 import Variant

ROW_KEYS = [
    "model",
    "outer_norm",
    "lambda_form",
    "status",
    "seeds",
    "params",
    "ppl_mean",
    "ppl_std",
    "delta",
    "paper_ppl",
    "paper_delta",
]
INJECTION = "<script>alert('x')</script> | [red]not markup[/red]\nsecond line"


@pytest.fixture(scope="module")
def table():
    """A grid with one run failed, with a hostile message, and one not started."""
    cells = make_cells()
    records = make_records(cells)
    records[cells[9].runs[42]].update(fail(INJECTION))
    del records[cells[5].runs[42]]
    return build("table2", cells, records, "smoke")


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    directory = tmp_path_factory.mktemp("reports") / "table2"
    write(table, directory)
    return directory


def printed(table, width):
    console = Console(file=io.StringIO(), width=width)
    show(table, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_shows_every_number(table, width):
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    for line in table.lines:
        numbers = " ".join(column.text(line) for column in table.design.columns[3:]).split()
        assert any(words[-len(numbers) :] == numbers for words in lines), numbers


def test_the_terminal_names_what_is_missing_and_takes_messages_literally(table):
    text = printed(table, 160)
    assert "2 of 20 runs missing" in text
    assert "diff_s6, outer norm, reparam: seed 42 not started" in text
    assert "seed 42 failed at step 120: <script>alert('x')</script> | [red]not markup[/red]" in text
    assert "\x1b" not in text


def test_a_row_without_a_result_shows_its_status():
    cells = make_cells()
    text = printed(build("table2", cells, {}, "smoke"), 80)
    assert text.count(" missing ") == len(cells)
    assert "20 of 20 runs missing" in text


def test_json_has_exactly_the_promised_keys_and_no_nan(table, folder):
    text = (folder / "table.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in table.json"))
    assert (content["table"], content["scale"]) == ("table2", "smoke")
    assert all(list(row) == ROW_KEYS for row in content["rows"])
    assert content["rows"] == table.content()


def test_csv_round_trip(table, folder):
    frame = pd.read_csv(folder / "table.csv", dtype={"seeds": str})
    assert list(frame.columns) == ROW_KEYS
    for (_, read), row in zip(frame.iterrows(), table.content(), strict=True):
        assert read["seeds"].split() == [str(seed) for seed in row["seeds"]]
        for key in ("ppl_mean", "ppl_std", "delta", "paper_ppl", "paper_delta", "lambda_form"):
            assert row[key] is None if pd.isna(read[key]) else read[key] == row[key]
        assert (read["outer_norm"], read["params"]) == (row["outer_norm"], row["params"])


def test_markdown_rows_keep_their_columns(table, folder):
    rows = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(table.rows)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_page_needs_nothing_but_itself(folder):
    page = (folder / "index.html").read_text()
    assert re.findall(r"<(?:link|script|iframe|object|embed)\b", page) == []
    assert "@import" not in page
    assert "url(" not in page
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(re.findall(r'<img [^>]*alt="([^"]+)"', page))


def test_page_escapes_what_runs_say(folder):
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page


def test_page_warns_of_mixed_and_dirty_revisions_and_of_other_corpora(tmp_path):
    cells = make_cells()
    records = make_records(cells)
    records[cells[0].runs[0]]["git"] = {"revision": "beef" * 10, "dirty": True}
    records[cells[1].runs[0]]["corpus"] = {"name": "text8", "fingerprint": "0000"}
    write(build("table2", cells, records, "smoke"), tmp_path)
    page = (tmp_path / "index.html").read_text()
    for warning in ("Rows mix git revisions", "1 of 20 runs were made with uncommitted changes", "different corpora"):
        assert warning in page
        assert warning in (tmp_path / "table.md").read_text()


def test_page_of_an_empty_grid(tmp_path):
    write(build("table2", make_cells(), {}, "smoke"), tmp_path)
    assert "No run has finished yet" in (tmp_path / "index.html").read_text()


def test_writing_replaces_and_leaves_no_other_files(table, folder):
    paths = write(table, folder)
    assert sorted(path.name for path in paths) == sorted(path.name for path in folder.iterdir())
    assert paths[-1].name == "index.html"


def test_pictures_are_a_function_of_the_records(table):
    first, again = table.design.pictures(table), table.design.pictures(table)
    assert len(first) == 2
    assert first == again
    assert all(b"<svg" in picture.svg for picture in first)


def test_pictures_draw_models_they_have_no_hue_for():
    cells = [*make_cells(), Cell(Variant("mamba_grouped", True, None), {0: "other-0"})]
    table = build("table2", cells, make_records(cells), "smoke")
    assert b"#009e73" in table.design.pictures(table)[0].svg


@pytest.mark.parametrize(
    ("number", "text"), [(-0.0841, "−0.084"), (0.1, "+0.100"), (0.0, "0.000"), (-0.0001, "0.000"), (None, "–")]
)
def test_differences_print_with_their_sign(number, text):
    assert delta(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(201234, "201k"), (99_960, "100k"), (1234567, "1.23M"), (127_345_678, "127M"), (None, "–")]
)
def test_parameters_print_with_three_digits(number, text):
    assert params(number) == text
