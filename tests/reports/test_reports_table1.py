"""Table 1 and figure 2 compare within a row of the paper, and never pass a stand-in off as the original."""

from itertools import product
from statistics import mean, stdev

import pandas as pd
import pytest
from by_hand import LAYERS, SEEDS, STAND_INS, setting, table1
from rich.console import Console

from diffmamba import reports
from diffmamba.paper.remarks import on_table1

MODELS = ("mamba", "diff_mamba")
FILES = ["figure2.svg", "figure2.png", "figure2.pdf", "figure2.csv", "index.html"]


@pytest.fixture
def sweep():
    return table1()


@pytest.fixture(scope="module")
def gaps():
    """Figure 2 with all runs but those of WikiText-103 with 12 layers and one of Enwik8."""
    sweep = table1("figure", "figure2")
    sweep.lose("02-0", "02-42", "03-0", "03-42", "08-42")
    return sweep


@pytest.fixture(scope="module")
def folder(gaps, tmp_path_factory):
    directory = tmp_path_factory.mktemp("figure2")
    assert [path.name for path in reports.write(gaps.design, gaps.results(), directory)] == FILES
    return directory


def printed(sweep, width=80):
    console = Console(width=width)
    with console.capture() as captured:
        reports.show(reports.document(sweep.design, sweep.results()), console)
    return captured.get()


def panels(sweep, scale="smoke"):
    """The panels of figure 2 by title."""
    chart = sweep.design.charts(sweep.results(scale))[0]
    return {panel.title: panel for row in chart.panels for panel in row}


def test_rows_have_the_order_of_the_sweep_and_name_what_was_trained(sweep):
    rows = reports.document(sweep.design, sweep.results()).data["rows"]
    assert [tuple(row.values())[:5] for row in rows] == [
        (data, layers, STAND_INS[data], LAYERS[layers], model)
        for data, layers, model in product(STAND_INS, LAYERS, MODELS)
    ]
    assert list(rows[0])[:5] == ["data", "layers", "trained_on", "trained_layers", "model"]
    key = sweep.design.key(setting("enwik8", 12, "diff_mamba", 0, embedded=False))
    assert key.label == "enwik8, 12 layers, diff_mamba"


def test_delta_is_to_the_mamba_of_the_same_row(sweep):
    cells = sweep.results().cells
    for place in range(0, len(cells), 2):
        mamba, diff_mamba = sweep.final(place), sweep.final(place + 1)
        pairs = [ours - theirs for ours, theirs in zip(diff_mamba, mamba, strict=True)]
        assert cells[place + 1].delta == pytest.approx(mean(diff_mamba) - mean(mamba), abs=1e-12)
        assert cells[place + 1].spread == pytest.approx(stdev(pairs), abs=1e-9)
        assert (cells[place].delta, cells[place].spread, cells[place].sign) == (0.0, None, "–")


def test_a_row_without_its_mamba_has_no_delta_and_the_others_keep_theirs(sweep):
    before = [cell.fields() for cell in sweep.results().cells]
    sweep.lose("04-0", "04-42")
    after = sweep.results()
    assert after.cells[5].delta is None
    assert [c.fields() for i, c in enumerate(after.cells) if i not in (4, 5)] == [*before[:4], *before[6:]]
    assert after.missing == ["text8, 6 layers (here pydoc8, 1 layer), mamba: seeds 0, 42 not started"]


def test_bits_are_those_of_the_ppl_and_words_have_none(sweep):
    for row in reports.document(sweep.design, sweep.results()).data["rows"]:
        if row["data"] == "wikitext103":
            assert row["bits_per_symbol"] is row["bits_delta"] is row["paper_bits_delta"] is None
            continue
        assert 2 ** row["bits_per_symbol"] == pytest.approx(row["ppl_mean"])
        assert 2 ** (row["bits_per_symbol"] - row["bits_delta"]) == pytest.approx(row["ppl_mean"] - row["delta"])
        assert 2 ** row["paper_bits_per_symbol"] == pytest.approx(row["paper_ppl"])


def test_only_the_published_setting_needs_no_caveat(sweep):
    as_published = table1(embedded=False)
    assert as_published.design.caveats(as_published.results("paper")) == ()
    for results in (as_published.results("small"), sweep.results("paper")):
        assert len(sweep.design.caveats(results)) == 1


def test_only_corpora_that_differ_within_a_row_are_warned_of(sweep):
    assert "different corpora" not in printed(sweep, 160)
    sweep.records["05-0"]["corpus"] = {"name": "pydoc8", "fingerprint": "another"}
    text = printed(sweep, 250)
    assert "text8, 6 layers (here pydoc8, 1 layer): runs were made on different corpora" in text
    assert text.count("different corpora") == 1


def test_seeds_are_compared_within_a_row(sweep):
    sweep.lose("01-42")
    told = "Δ is taken over other seeds than the baseline has in: wikitext103, 6 layers (here pydoc_words, 1 layer), "
    assert f"{told}diff_mamba." in printed(sweep, 250)


def test_remarks_are_computed_from_the_published_numbers():
    text = " ".join(on_table1())
    for told in ("295M and 299M", "0.046 bits", "it is 0.027", "0.041 bits", "it is 0.025", "1 and 128M in table 2"):
        assert told in text
    assert "On wikitext103" not in text  # there depth helps


def test_points_of_figure_2_equal_the_records(gaps, folder):
    points = pd.read_csv(folder / "figure2.csv", dtype={"seeds": str})
    curves = dict(list(points.groupby(["data", "layers", "model"])))
    drawn = {title.split("\n")[0]: panel for title, panel in panels(gaps).items()}
    assert len(curves) == 10
    for place, cell in enumerate(gaps.results().cells):
        runs = [gaps.records[f"{place:02d}-{s}"] for s in SEEDS if f"{place:02d}-{s}" in gaps.records]
        if not runs:
            continue
        data, layers, trained_on, _, model = cell.key.fields.values()
        curve = curves[data, layers, model]
        assert set(curve["trained_on"]) == {trained_on}
        assert [len(seeds.split()) for seeds in curve["seeds"]] == [len(runs)] * 3
        panel = drawn[f"{data}, {layers} layers"]
        series = panel.series[MODELS.index(model)]
        assert series.x == tuple(curve["symbols"])
        assert series.y == pytest.approx(tuple(curve["ppl_mean"]), rel=1e-15)
        assert panel.y_range[0] < series.y[-1] < panel.y_range[1]
        for at, (_, point) in enumerate(curve.iterrows()):
            evaluations = [run["evaluations"][at] for run in runs]
            ppl = [evaluation["test/ppl"] for evaluation in evaluations]
            assert (point["step"], point["symbols"]) == (evaluations[0]["step"], evaluations[0]["tokens"])
            assert (point["ppl_low"], point["ppl_high"]) == (min(ppl), max(ppl))
            assert point["ppl_mean"] == pytest.approx(mean(ppl), rel=1e-12)


def test_a_panel_without_runs_is_empty(gaps):
    found = panels(gaps)
    empty = "wikitext103, 12 layers\n(here pydoc_words, 2 layers)"
    assert {title for title, panel in found.items() if not panel.series} == {empty}
    assert len(found) == 6


def test_epochs_are_the_axis_once_training_lasted_one():
    for epoch, label in ((0.1, "symbols seen"), (0.5, "training epochs")):
        assert {panel.x_label for panel in panels(table1(epoch=epoch)).values()} == {label}


def test_published_ends_are_drawn_at_the_published_setting_only():
    for scale, embedded, ends in (("paper", False, [2.416, 2.396]), ("paper", True, []), ("small", False, [])):
        found = panels(table1(embedded=embedded), scale)
        panel = next(panel for title, panel in found.items() if title.startswith("text8, 6"))
        assert [series.y[0] for series in panel.series if series.line == "dotted"] == ends


def test_the_same_records_give_the_same_bytes(gaps, folder, tmp_path):
    for path in reports.write(gaps.design, gaps.results(), tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_the_figure_says_which_is_lowest_in_each_panel(gaps):
    text, cells = printed(gaps), gaps.results().cells
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("no run yet") == 1
    assert "5 of 24 runs missing" in text
    for mamba, diff_mamba in zip(cells[::2], cells[1::2], strict=True):
        if mamba.mean is not None:
            lower = "diff_mamba" if diff_mamba.mean < mamba.mean else "mamba"
            told = f"{mamba.mean:.3f} {diff_mamba.mean:.3f} {lower} by {abs(diff_mamba.delta):.3f}"
            assert told in " ".join(text.split())


def test_a_figure_of_an_empty_sweep(gaps, tmp_path):
    empty = table1("figure", "figure2")
    empty.records.clear()
    reports.write(empty.design, empty.results(), tmp_path)
    assert "No run has finished yet" in (tmp_path / "index.html").read_text()
    points = pd.read_csv(tmp_path / "figure2.csv")
    assert points.empty
    assert list(points) == list(gaps.design.points(gaps.results()))
    assert printed(empty).count("no run yet") == 6
