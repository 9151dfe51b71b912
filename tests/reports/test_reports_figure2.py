"""Figure 2 draws what the run records hold, panel by panel, and says where there is nothing to draw."""

import io
import re
from statistics import mean

import pandas as pd
import pytest
from rich.console import Console
from test_reports_table1 import make_grid, make_records

from diffmamba.errors import SettingError
from diffmamba.reports import build, figures, panels, view

FILES = ["figure2.svg", "figure2.png", "figure2.pdf", "figure2.csv", "index.html"]
VIEW = view(figure="figure2")


@pytest.fixture(scope="module")
def grid():
    return make_grid()


@pytest.fixture(scope="module")
def records(grid):
    """All runs of the grid but those of WikiText-103 with 12 layers and one of Enwik8."""
    found = make_records(grid)
    for cell in grid[2:4]:
        for run_id in cell.runs.values():
            del found[run_id]
    del found[grid[8].runs[42]]
    return found


@pytest.fixture(scope="module")
def table(grid, records):
    return build(VIEW.table, grid, records, "smoke")


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    directory = tmp_path_factory.mktemp("figure2")
    assert [path.name for path in VIEW.write(table, directory)] == FILES
    return directory


@pytest.fixture
def axes(monkeypatch):
    """The panels that are drawn, by title, as matplotlib has them."""
    drawn = {}

    def draw(panel_axes, table, panel):
        draw_panel(panel_axes, table, panel)
        drawn[panel_axes.get_title()] = panel_axes

    draw_panel = panels._draw_panel
    monkeypatch.setattr(panels, "_draw_panel", draw)
    return drawn


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    VIEW.show(table, console)
    return console.file.getvalue()


def test_points_equal_the_records(grid, records, folder):
    points = pd.read_csv(folder / "figure2.csv", dtype={"seeds": str})
    curves = points.groupby(["data", "layers", "model"])
    counted = {cell.key: [records[run] for run in cell.runs.values() if run in records] for cell in grid}
    assert len(curves) == sum(map(bool, counted.values())) == 10
    for key, runs in counted.items():
        if not runs:
            continue
        curve = curves.get_group((key.data, key.layers, key.model))
        assert set(curve["trained_on"]) == {key.trained_on}
        assert [len(seeds.split()) for seeds in curve["seeds"]] == [len(runs)] * 3
        for at, (_, point) in enumerate(curve.iterrows()):
            evaluations = [run["evaluations"][at] for run in runs]
            ppl = [evaluation["test/ppl"] for evaluation in evaluations]
            assert (point["step"], point["symbols"]) == (evaluations[0]["step"], evaluations[0]["tokens"])
            assert (point["ppl_low"], point["ppl_high"]) == (min(ppl), max(ppl))
            assert point["ppl_mean"] == pytest.approx(mean(ppl), rel=1e-12)


def test_panels_draw_those_points(table, axes, folder):
    panels.drawn(table, ["svg"])
    points = pd.read_csv(folder / "figure2.csv")
    panel = axes["text8, 12 layers\n(here pydoc8, 2 layers)"]
    chosen = points[(points["data"] == "text8") & (points["layers"] == 12)]
    for line, model in zip(panel.get_lines(), ("mamba", "diff_mamba"), strict=True):
        curve = chosen[chosen["model"] == model]
        assert list(line.get_xdata()) == list(curve["symbols"])
        assert list(line.get_ydata()) == list(curve["ppl_mean"])
        low, high = panel.get_ylim()
        assert low < curve["ppl_mean"].iloc[-1] < high


def test_a_panel_without_runs_says_so(table, axes):
    panels.drawn(table, ["svg"])
    assert len(axes) == 6
    words = {title: [text.get_text() for text in panel.texts] for title, panel in axes.items()}
    empty = "wikitext103, 12 layers\n(here pydoc_words, 2 layers)"
    assert words.pop(empty) == ["no run yet"]
    assert not any(words.values())
    assert axes[empty].get_lines() == []


def test_epochs_are_the_axis_once_training_lasted_one(grid, axes):
    for epoch, label in ((0.1, "symbols seen"), (0.5, "training epochs")):
        panels.drawn(build("table1", grid, make_records(grid, epoch), "smoke"), ["svg"])
        assert {panel.get_xlabel() for panel in axes.values()} == {label}


def test_published_ends_are_drawn_at_the_published_setting_only(axes):
    for scale, embedded, ends in (("paper", False, [2.416, 2.396]), ("paper", True, []), ("small", False, [])):
        grid = make_grid(embedded)
        axes.clear()
        panels.drawn(build("table1", grid, make_records(grid), scale), ["svg"])
        panel = next(panel for title, panel in axes.items() if title.startswith("text8, 6"))
        assert [line.get_ydata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"] == ends


def test_the_same_records_give_the_same_bytes(table, folder, tmp_path):
    for path in VIEW.write(table, tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_page_needs_nothing_but_itself(folder):
    page = (folder / "index.html").read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/svg+xml;base64,")
    assert "5 of 24 runs missing" in page


def test_summary_says_which_is_lower_in_each_panel(table):
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("no run yet") == 1
    for mamba, diff_mamba in zip(table.rows[::2], table.rows[1::2], strict=True):
        if mamba.ppl_mean is None:
            continue
        lower = "diff_mamba" if diff_mamba.ppl_mean < mamba.ppl_mean else "mamba"
        told = f"{mamba.ppl_mean:.3f} {diff_mamba.ppl_mean:.3f} {lower} by {abs(diff_mamba.delta):.3f}"
        assert told in " ".join(text.split())
    assert "5 of 24 runs missing" in text


def test_a_figure_of_an_empty_grid(grid, tmp_path):
    table = build("table1", grid, {}, "smoke")
    VIEW.write(table, tmp_path)
    assert "No run has finished yet" in (tmp_path / "index.html").read_text()
    assert pd.read_csv(tmp_path / "figure2.csv").empty
    assert printed(table).count("no run yet") == 6


def test_an_unknown_figure_names_those_that_exist():
    assert figures() == ["figure2"]
    with pytest.raises(SettingError, match=r"figure=figure9.*figure2"):
        view(figure="figure9")
    with pytest.raises(SettingError, match="table=table1 and figure=figure2"):
        view("table1", "figure2")
