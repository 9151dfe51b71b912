"""What a reader gets, in the terminal, as files and as a page, holds the numbers of the table and nothing unsafe."""

import json
import re

import matplotlib as mpl
import pandas as pd
import pytest
from by_hand import VARIANTS, failed, figure2, shown, table1, table2
from matplotlib.figure import Figure

from diffmamba import reports
from diffmamba.document import Bullets, Chart, Document, Folded, Grid, Panel, Paragraph, Section, Series
from diffmamba.reports import charts, columns, pictures
from diffmamba.reports.columns import parameters
from diffmamba.reports.records import Headline

MEASURED = ["status", "seeds", "params", "ppl_mean", "ppl_std", "delta", "paper_ppl", "paper_delta"]
MEASURED += ["ppl_low", "ppl_high", "s", "delta_low", "delta_high", "p", "p_corrected", "smallest_delta"]
MEASURED += ["seeds_needed", "sign"]
BITS = ["paper_params_m", "bits_per_symbol", "bits_delta", "paper_bits_per_symbol", "paper_bits_delta"]
ROW_KEYS = {
    "table1": ["data", "layers", "trained_on", "trained_layers", "model", *MEASURED, *BITS],
    "table2": ["model", "outer_norm", "lambda_form", *MEASURED],
}
INJECTION = "<script>alert('x')</script> | [red]not markup[/red]\nsecond line"


@pytest.fixture(scope="module", params=[table1, table2, figure2])
def sweep(request):
    """A sweep with one run failed, with a hostile message, and one not started."""
    sweep = request.param()
    sweep.records["09-42"].update(failed(INJECTION))
    sweep.lose("05-42")
    return sweep


@pytest.fixture(scope="module")
def folder(sweep, tmp_path_factory):
    """Its files."""
    directory = tmp_path_factory.mktemp(sweep.design.name)
    names = sweep.write(directory)
    assert sorted(names) == sorted(path.name for path in directory.iterdir())
    assert names[-1] == "index.html"
    return directory


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_shows_every_number_and_the_name_of_each_group_once(sweep, width):
    text, results = sweep.printed(width), sweep.results()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(text.splitlines().count(group) == 1 for group in results.groups if group)
    lines = [line.split() for line in text.splitlines()]
    for cell in results.cells:
        shown = [column for column in sweep.design.columns[1:] if width == 160 or not column.spare]
        words = " ".join(column.text(cell) for column in shown if column is not columns.P).split()
        assert any(all(word in left for word in words) for left in map(iter, lines)), words


def test_the_terminal_names_what_is_missing_and_takes_messages_literally(sweep):
    text, results = sweep.printed(200), sweep.results()
    assert f"2 of {len(results.runs)} runs missing" in text
    assert f"{results.cells[5].key.label}: seed 42 not started" in text
    assert "seed 42 failed at step 120: <script>alert('x')</script> | [red]not markup[/red] (run 09-42)" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("make", [table2, figure2])
def test_an_empty_sweep_shows_each_status_and_has_a_page(make, tmp_path):
    sweep = make()
    sweep.lose()
    text, results, whole = sweep.printed(), sweep.results(), make().results()
    assert text.count(" missing ") == len(results.cells)
    assert f"{len(results.runs)} of {len(results.runs)} runs missing" in text
    assert "negative is better" in text
    sweep.write(tmp_path)
    assert "No run has finished yet" in (tmp_path / "index.html").read_text()
    assert list(charts.points(results)) == list(charts.points(whole))
    assert charts.points(results).empty
    assert not any(panel.series for row in sweep.design.charts(results)[0].panels for panel in row)


def test_settings_that_make_another_table_are_in_its_title_and_its_json():
    sweep = table2()
    document = reports.document(sweep.design, sweep.results(settings=("data=pysrc8", "seed=1,2")))
    assert document.title == f"{sweep.design.title}, with data=pysrc8 seed=1,2"
    assert document.data["settings"] == ["data=pysrc8", "seed=1,2"]
    assert (sweep.document().title, sweep.document().data["settings"]) == (sweep.design.title, [])


@pytest.mark.parametrize("sweep", [table1, table2], indirect=True)
def test_json_and_csv_have_exactly_the_promised_fields(sweep, folder):
    name, keys = sweep.design.name, ROW_KEYS[sweep.design.name]
    files = {path.name for path in folder.iterdir() if path.suffix not in (".svg", ".png")}
    assert files == {"index.html", "table.csv", "table.json", "table.md", "curves.csv"}
    assert {path.stem for path in folder.glob("*.svg")} == {path.stem for path in folder.glob("*.png")} != set()
    text = (folder / "table.json").read_text()
    content = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in table.json"))
    assert list(content) == [
        "table",
        "scale",
        "settings",
        "metric",
        "data",
        "git",
        "notes",
        "missing",
        "rows_compared",
        "rows",
    ]
    assert (content["table"], content["scale"], content["metric"]) == (name, "smoke", "test/ppl")
    assert all(list(row) == keys for row in content["rows"])
    assert [row["ppl_mean"] for row in content["rows"]] == [cell.mean for cell in sweep.results().cells]
    frame = pd.read_csv(folder / "table.csv", dtype={"seeds": str})
    assert list(frame.columns) == keys
    for (_, read), row in zip(frame.iterrows(), content["rows"], strict=True):
        assert read["seeds"].split() == [str(seed) for seed in row["seeds"]]
        for key in set(keys) - {"seeds"}:
            assert row[key] is None if pd.isna(read[key]) else read[key] == row[key], key


def test_markdown_and_page_hold_every_number_and_markdown_rows_keep_their_columns(sweep, folder):
    groups, cells = sweep.results().groups, sweep.results().cells
    markdown, page = next(folder.glob("*.md")).read_text(), (folder / "index.html").read_text()
    for text in (markdown.replace("\\", ""), page):  # Markdown escapes the underscore of a name
        assert all(f"{cell.mean:.3f}" in text for cell in cells)
        assert all(group in text for group in groups)
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert len(tables[0].splitlines()) == 2 + len(cells) + sum(map(bool, groups))


def test_the_page_needs_nothing_but_itself_and_escapes_what_runs_say(sweep, folder):
    whole = (folder / "index.html").read_text()
    ours = r"""<script (?:defer src="\.\./assets/[a-z.-]+"|type="application/json" class="chart")>[^<]*</script>"""
    page = re.sub(ours, "", whole)  # a page without them shows its pictures
    assert re.findall(r"<(?:link|script|iframe|object|embed)\b", page) == []
    assert not any(word in page for word in ("@import", "url("))
    sources = re.findall(r"""\s(?:src|href)\s*=\s*["']([^"'#]+)""", page)
    assert [source[:26] for source in sources] == ["data:image/svg+xml;base64,"] * len(
        sweep.design.charts(sweep.results())
    )
    assert all(re.findall(r'<img [^>]*alt="([^"]+)"', page))
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page


@pytest.mark.parametrize("sweep", [figure2], indirect=True)
def test_a_figure_is_written_as_pictures_and_points_the_same_bytes_each_time_without_a_date(sweep, folder, tmp_path):
    pictures.drawn.cache_clear()
    kinds = ("csv", "json", "md", "pdf", "png", "svg")
    assert sorted(sweep.write(tmp_path)) == [*(f"figure2.{kind}" for kind in kinds), "index.html"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    assert (folder / "figure2.csv").read_text() == charts.points(sweep.results()).to_csv(index=False)
    for name, date in (("figure2.svg", b"<dc:date>"), ("figure2.pdf", b"CreationDate")):
        assert date not in (folder / name).read_bytes()


def test_mixed_and_dirty_revisions_and_other_corpora_are_warned_of():
    sweep = table2()
    sweep.records["00-0"]["git"] = {"revision": "beef" * 10, "dirty": True}
    sweep.records["01-0"]["corpus"] = {"name": "text8", "fingerprint": "0000"}
    text, notes = sweep.printed(400), " ".join(sweep.document().data["notes"])
    for told in ("Rows mix git revisions", "1 of 20 runs were made with uncommitted changes", "different corpora"):
        assert told in text
        assert told in notes


def test_models_without_a_colour_of_their_own_are_drawn_in_another():
    sweep = table2([*VARIANTS, ("mamba_grouped", True, None)])
    curves, deltas, over_training = sweep.design.charts(sweep.results())
    drawn = {series.label: series.colour for series in curves.panels[0][0].series}
    assert drawn["mamba_grouped, outer norm"] == "#009e73"
    assert drawn["diff_mamba, scalar"] == "#0072b2"
    assert len(deltas.panels[0][0].y_names) == 10
    assert [panel.title for row in over_training.panels for panel in row] == list(deltas.panels[0][0].y_names)


@pytest.mark.parametrize(
    ("number", "text"), [(-0.0841, "−0.084"), (0.1, "+0.100"), (0.0, "0.000"), (-0.0001, "0.000"), (None, "–")]
)
def test_differences_print_with_their_sign(number, text):
    assert Headline("test/ppl", "PPL").difference(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(201234, "201k"), (99_960, "100k"), (1234567, "1.23M"), (127_345_678, "127M"), (None, "–")]
)
def test_parameters_print_with_three_digits(number, text):
    assert parameters(number) == text


SERIES = Series("a", (1.0, 2.0), (1.0, 0.5), "#0072b2", line="dotted", low=(0.9, 0.4), high=(1.1, 0.6))
CHART = Chart("rates", "Rates", ((Panel("one", (SERIES,), y_range=(0.0, 2.0)), Panel("none", ())), ()), alt="two")
LONG = "A reason of many words that has to take several lines in a table, on a page and in the terminal, to be read."
GRID = Grid.of(("what", "why"), (("x", LONG), ("y", "–")), words=2, title="Grid & co.")
BLOCKS = (
    Bullets(("first", "second"), tone="strong"),
    Section("Outer", (Paragraph("small print", tone="note"), Section("Inner", (GRID,)), CHART)),
    Section("Left out", (Paragraph("torch 2.13"),), terminal=False),
    Folded("To open", (Paragraph("folded words"),)),
)
ANY = Document("Any <document>", BLOCKS, data={"found": [1, None]})


def test_any_document_is_drawn_everywhere(tmp_path):
    paths = reports.write_document(ANY, tmp_path, "any")
    assert [path.name for path in paths] == ["any.json", "any.md", "index.html"]
    data, marked_down, page = (path.read_text() for path in paths)
    text = shown(ANY)
    for told in ("first", "Outer", "small print", "Inner", "Grid & co."):
        assert all(told in drawn for drawn in (text, marked_down, page.replace("&amp;", "&")))
    for detail in ("torch", "Left out", "To open", "folded words"):
        assert detail not in text
        assert detail in page
        assert detail in marked_down
    assert LONG in " ".join(line.removeprefix("x").strip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80
    assert "<h2>Outer</h2>" in page
    assert "<h3>Inner</h3>" in page
    assert page.count("<img ") == 1
    assert json.loads(data) == ANY.data


def test_a_panel_is_drawn_as_it_says():
    with mpl.rc_context(fname=pictures.STYLE):
        axes, other = Figure().subplots(1, 2)
        pictures.draw(axes, CHART.panels[0][0])
        pictures.draw(other, CHART.panels[0][1])
    (line,) = axes.get_lines()
    assert (axes.get_ylim(), line.get_linestyle(), line.get_color()) == ((0.0, 2.0), ":", SERIES.colour)
    assert (tuple(line.get_xdata()), tuple(line.get_ydata())) == (SERIES.x, SERIES.y)
    assert len(axes.collections) == 1  # the band
    assert [text.get_text() for text in other.texts] == ["no run yet"]
