"""Table 1 and figure 2 compare within a row of the paper, and never pass a stand-in off as the original."""

from itertools import product
from statistics import mean

import pytest
from by_hand import LAYERS, STAND_INS, figure2, setting, table1

from diffmamba.paper.remarks import on_table1
from diffmamba.reports import charts
from diffmamba.reports.compose import caveats
from diffmamba.reports.provenance import warnings

MODELS = ("mamba", "diff_mamba")


@pytest.fixture
def sweep():
    return table1()


def panels(sweep, scale="smoke"):
    """The panels of figure 2 by title."""
    chart = sweep.design.charts(sweep.results(scale))[0]
    return {panel.title: panel for row in chart.panels for panel in row}


def test_rows_have_the_order_of_the_sweep_and_name_what_was_trained(sweep):
    rows = sweep.document().data["rows"]
    assert [tuple(row.values())[:5] for row in rows] == [
        (data, layers, STAND_INS[data], LAYERS[layers], model)
        for data, layers, model in product(STAND_INS, LAYERS, MODELS)
    ]
    assert list(rows[0])[:5] == ["data", "layers", "trained_on", "trained_layers", "model"]
    key = sweep.design.key(setting("enwik8", 12, "diff_mamba", 0, embedded=False))
    assert key.label == "enwik8, 12 layers, diff_mamba"


def test_a_row_without_its_mamba_has_no_delta_and_the_others_keep_theirs(sweep):
    before = sweep.results()
    sweep.lose("04-0", "04-42")
    after = sweep.results()
    assert after.cells[5].delta is None
    assert (len(before.comparisons), len(after.comparisons)) == (6, 5)
    for place in {*range(12)} - {4, 5}:
        was, now = before.cells[place], after.cells[place]
        assert (was.mean, was.delta, was.spread) == (now.mean, now.delta, now.spread)
        if now.interval:  # of five rows together it is narrower than of six
            assert was.interval.low < now.interval.low < now.delta < now.interval.high < was.interval.high
    assert after.missing == ["text8, 6 layers (here pydoc8, 1 layer), mamba: seeds 0, 42 not started"]


def test_bits_are_those_of_the_ppl_and_words_have_none(sweep):
    for row in sweep.document().data["rows"]:
        if row["data"] == "wikitext103":
            assert row["bits_per_symbol"] is row["bits_delta"] is row["paper_bits_delta"] is None
            continue
        assert 2 ** row["bits_per_symbol"] == pytest.approx(row["ppl_mean"])
        assert 2 ** (row["bits_per_symbol"] - row["bits_delta"]) == pytest.approx(row["ppl_mean"] - row["delta"])
        assert 2 ** row["paper_bits_per_symbol"] == pytest.approx(row["paper_ppl"])


def test_only_the_published_setting_needs_no_caveat(sweep):
    as_published = table1(embedded=False)
    assert caveats(sweep.design, as_published.results("paper")) == []
    for results in (as_published.results("small"), sweep.results("paper")):
        assert len(caveats(sweep.design, results)) == 1


def test_corpora_and_seeds_are_compared_within_a_row_only(sweep):
    assert warnings(sweep.results()) == []
    sweep.records["05-0"]["corpus"] = {"name": "pydoc8", "fingerprint": "another"}
    sweep.lose("01-42")
    sweep.lose("06-0", "07-42")
    corpora, seeds, others = warnings(sweep.results())
    assert corpora.startswith("text8, 6 layers (here pydoc8, 1 layer): runs were made on different corpora")
    told = "in: wikitext103, 6 layers (here pydoc_words, 1 layer), diff_mamba."
    assert seeds == f"Δ leaves out the seeds that only one of both has {told}"
    told = "text8, 12 layers (here pydoc8, 2 layers), diff_mamba."
    assert others == f"No Δ, because no seed is shared with the baseline, in: {told}"


def test_remarks_are_computed_from_the_published_numbers():
    text = " ".join(on_table1())
    for told in (
        "295M and 299M",
        "0.046 bits",
        "it is 0.027",
        "0.041 bits",
        "it is 0.025",
        "129M parameters in table 1 and 128M in table 2",
    ):
        assert told in text
    assert "On wikitext103" not in text  # there depth helps


def test_points_of_figure_2_equal_the_records():
    gaps = figure2()
    gaps.lose("02-0", "02-42", "03-0", "03-42", "08-42")  # wikitext103, 12 layers; one run of enwik8
    points = charts.points(gaps.results())
    curves = dict(list(points.groupby(["data", "layers", "model"])))
    drawn = {title.split("\n")[0]: panel for title, panel in panels(gaps).items()}
    assert len(curves) == 10
    for cell in gaps.results().cells:
        data, layers, trained_on, _, model = cell.key.fields.values()
        runs = [gaps.records[run.id] for run in cell.seeds if run.id in gaps.records]
        panel = drawn[f"{data}, {layers} layers"]
        if not runs:
            assert panel.series == ()
            continue
        curve, series = curves[data, layers, model], panel.series[MODELS.index(model)]
        assert set(curve["trained_on"]) == {trained_on}
        assert [len(seeds.split()) for seeds in curve["seeds"]] == [len(runs)] * 3
        assert series.x == tuple(curve["symbols"])
        assert series.y == pytest.approx(tuple(curve["ppl_mean"]), rel=1e-15)
        assert panel.y_range[0] < series.y[-1] < panel.y_range[1]
        for evaluations, (_, point) in zip(
            zip(*(run["evaluations"] for run in runs), strict=True), curve.iterrows(), strict=True
        ):
            ppl = [evaluation["test/ppl"] for evaluation in evaluations]
            assert (point["step"], point["symbols"]) == (evaluations[0]["step"], evaluations[0]["tokens"])
            assert (point["ppl_low"], point["ppl_high"]) == (min(ppl), max(ppl))
            assert point["ppl_mean"] == pytest.approx(mean(ppl), rel=1e-12)


def test_epochs_are_the_axis_once_training_lasted_one():
    for epoch, label in ((0.1, "symbols seen"), (0.5, "training epochs")):
        assert {panel.x_label for panel in panels(table1(epoch=epoch)).values()} == {label}


def test_published_ends_are_drawn_at_the_published_setting_only():
    for scale, embedded, ends in (("paper", False, [2.416, 2.396]), ("paper", True, []), ("small", False, [])):
        found = panels(table1(embedded=embedded), scale)
        panel = next(panel for title, panel in found.items() if title.startswith("text8, 6"))
        assert [series.y[0] for series in panel.series if series.line == "dotted"] == ends
