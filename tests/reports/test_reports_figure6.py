"""Figure 6: its cells, its curves by layer, and differences where layers correspond, from rows made by hand."""

import math

import pandas as pd
import pytest

from diffmamba import reports
from diffmamba.configuration import composed
from diffmamba.document import Chart
from diffmamba.measures import Lens
from diffmamba.reports.designs import figure6, lens_charts

SEEDS = (0, 42, 77)
MODELS = {"mamba": 3, "diff_s6": 3, "diff_mamba": 4}  # blocks


def config(model, seed, **measure):
    return {
        "model": {"name": model, "layer": ["mixer"], "n_layers": MODELS[model]},
        "data": {"name": "pydoc8"},
        "measure": {"prompts": None, **measure},
        "seed": seed,
    }


def probability(model, seed, layer):
    return 10.0 * layer + (2 if model == "diff_s6" else 0) + 0.1 * seed


def kl(run_id):
    """That of Diff-S6 is 0.1, 0.2 and 0.3 lower."""
    model, seed = run_id.split(":")
    return 0.5 - (SEEDS.index(int(seed)) + 1) * 0.1 * (model == "diff_s6")


def rows_of(run_id):
    model, seed = run_id.split(":")
    found = []
    for lens in ("logit", "tuned"):
        for layer in range(MODELS[model] + 1):
            value = probability(model, int(seed), layer) + 100 * (lens == "logit")
            named = {"layer": layer, "lens": lens}
            for measure in lens_charts.MEASURES:
                found += [{"measure": measure, "value": value, **named}]
                found += [{"measure": f"{measure}_error", "value": 0.5, **named}]
    return pd.DataFrame(found)


def results(seeds=SEEDS, **measure):
    planned = [(f"{model}:{seed}", config(model, seed, **measure)) for model in MODELS for seed in seeds]
    described = Lens.described()
    found = {
        run_id: {
            "kind": "measurement",
            "status": "finished",
            "measure": described,
            "values": dict.fromkeys(described["metrics"], 1.0 + seed / 100) | {"kl": kl(run_id)},
            "corpus": {"name": "pydoc8", "vocabulary": 27},
        }
        for run_id, seed in ((run_id, one["seed"]) for run_id, one in planned)
    }
    return reports.results(figure6.DESIGN, planned, found, "smoke", rows_of=rows_of)


def test_a_difference_at_each_layer_before_the_last_where_layers_correspond():
    """Diff-Mamba has another number of blocks here. The other is 2 higher everywhere, whatever the seed."""
    effects = figure6.effects(results())
    assert [cell.key.fields["effect"] for cell in effects] == [f"diff_s6, layer {layer}" for layer in range(3)]
    for layer, cell in enumerate(effects):
        assert cell.delta == pytest.approx(2.0)
        assert cell.mean == pytest.approx(10 * layer + 2 + 0.1 * 119 / 3)
        assert cell.metric.better == "higher"


def test_curves_have_intervals_over_seeds_and_of_one_seed_over_sequences():
    several, one = results().cells[0], results((42,)).cells[0]
    found = lens_charts.at_layers(several, "probability", "tuned")
    assert found["layer"].tolist() == [0, 1, 2, 3]
    assert found["mean"].tolist() == pytest.approx([10 * layer + 0.1 * 119 / 3 for layer in range(4)])
    assert (found["high"] - found["mean"]).iloc[0] == pytest.approx(several_half())
    alone = lens_charts.at_layers(one, "probability", "tuned")
    assert (alone["high"] - alone["mean"]).tolist() == pytest.approx([1.96 * 0.5] * 4)


def test_the_difference_of_kl_is_paired_by_seed():
    """Student's t with 2 degrees of freedom: 4.3027."""
    mamba, diff_s6, _ = results().cells
    half = 4.302653 * 0.1 / math.sqrt(3)
    told = figure6.further(diff_s6)
    assert [told[f"delta_kl{end}"] for end in ("", "_low", "_high")] == pytest.approx([-0.2, -0.2 - half, -0.2 + half])
    assert figure6.further(mamba)["delta_kl"] is None
    column = next(column for column in figure6.DESIGN.columns if column.header == "Δ KL tuned")
    assert [column.text(cell) for cell in (mamba, diff_s6)] == ["–", "−0.200 (−0.448, +0.048)"]


def several_half():
    """Student's t with 2 degrees of freedom: 4.3027."""
    values = [0.1 * seed for seed in SEEDS]
    mean = sum(values) / 3
    return 4.302653 * math.sqrt(sum((value - mean) ** 2 for value in values) / 2 / 3)


def test_the_page_and_its_points():
    found = results()
    document = reports.document(figure6.DESIGN, found)
    assert document.data["rows"][0] | {"kl": 0.5, "model": "mamba", "blocks": 3} == document.data["rows"][0]
    assert document.data["effects"][0]["effect"] == "diff_s6, layer 0"
    effects = next(block for block in document.blocks if getattr(block, "title", "") == "Effects")
    pictures = [block.name for block in effects.blocks if isinstance(block, Chart)]
    assert pictures == ["deltas_of_effects"]  # a measurement has no curve over training
    points = lens_charts.points(found)
    assert len(points) == (4 + 4 + 5) * 2 * len(lens_charts.MEASURES)
    at = points.query("model == 'diff_mamba' and measure == 'kl' and lens == 'logit' and layer == 4")
    assert at["mean"].item() == pytest.approx(140 + 0.1 * 119 / 3)
    first, *_ = figure6.DESIGN.charts(found)
    assert {panel.y_label[-1] for row in first.panels for panel in row} == {"%"}
    uniform = next(series for series in first.panels[0][0].series if series.label == "uniform")
    assert uniform.y[0] == pytest.approx(100 / 27)
    kl = next(chart for chart in figure6.DESIGN.charts(found) if chart.name == "lenses").panels[0][0]
    assert [max(series.x) for series in kl.series] == [2.0, 2.0, 2.0, 2.0, 3.0, 3.0]  # KL is 0 at the last layer


def test_prompts_are_a_group_of_their_own():
    assert figure6.key(config("mamba", 0, prompts="somewhere/qa1.csv")).group == "qa1"
    assert figure6.key(config("mamba", 0)).group == "pydoc8"


def test_the_axis_says_how_layers_are_counted():
    """And layers that are counted in two ways are two groups."""
    for numbering, told in (("embedding", "layer (0: embedding)"), ("published", "layer as published (1: block 2)")):
        found = results((42,), numbering=numbering)
        panels = [
            panel
            for draw in (lens_charts.probabilities, lens_charts.lenses)
            for row in draw(found).panels
            for panel in row
        ]
        assert {panel.x_label for panel in panels} == {told}
    keys = [figure6.key(config("mamba", 0, numbering=one)) for one in ("embedding", "published")]
    assert len({key.group for key in keys}) == len({key.label for key in keys}) == 2


@pytest.mark.parametrize(("words", "model"), [(["experiments=mad"], "mamba"), (["experiments=table2"], "diff_s6")])
def test_blocks_are_those_of_the_network(words, model):
    found = composed([*words, f"model={model}", "measure=lens", "weights=trained"], "measure")
    layers = found["model"]["network"]["backbone"]
    assert figure6.key(found).fields["blocks"] == len(layers["layer"]) * layers["n_layers"]
