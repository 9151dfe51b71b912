"""Curves of measurements over the seeds of a cell, against means and intervals by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from diffmamba import reports
from diffmamba.reports import columns, measured, statistics
from diffmamba.reports.cells import Key
from diffmamba.reports.design import Design

MEASURE = {"name": "Depth", "headline": "nats", "metrics": {"nats": {"label": "nats", "better": "lower", "digits": 2}}}
SEEDS = (0, 1, 2)
PLACES = (1, 2, 5)


def key(config):
    return Key({"model": config["model"]["name"]}, config["model"]["name"], config["model"]["name"] == "mamba")


DESIGN = Design("table_any", "Any", "any", key, "mamba", (columns.MODEL,), lambda results: [])


def value(model, seed, place):
    return place + (10 if model == "diff_mamba" else 0) + seed * (1 + place) / 7


def rows_of(run_id):
    model, seed = run_id.split(":")
    places = PLACES if (model, seed) != ("diff_mamba", "2") else PLACES[:2]  # one seed lacks the last place
    rows = [("nats", value(model, int(seed), place), place, "tuned") for place in places]
    rows += [("nats", 99.0, place, "logit") for place in places] + [("nats", 7.0, math.nan, None)]
    return pd.DataFrame(rows, columns=["measure", "value", "position", "lens"])


@pytest.fixture
def results():
    ids = [f"{model}:{seed}" for model in ("mamba", "diff_mamba") for seed in SEEDS]
    planned = [(one, {"model": {"name": one.split(":")[0]}, "seed": int(one.split(":")[1])}) for one in ids]
    record = {"kind": "measurement", "status": "finished", "measure": MEASURE, "values": {"nats": 7.0}}
    found = dict.fromkeys(ids, record) | {"mamba:1": {**record, "status": "running"}}
    return reports.results(DESIGN, planned, found, "smoke", rows_of=rows_of)


def test_a_curve_is_the_mean_over_the_seeds_that_count(results):
    mamba, other = results.cells
    found = measured.curve(mamba, "nats", "position", lens="tuned")
    assert found["position"].tolist() == list(PLACES)
    for place, mean, low, high in found.itertuples(index=False):
        interval = statistics.mean_interval([value("mamba", seed, place) for seed in (0, 2)])
        assert mean == pytest.approx(np.mean([value("mamba", seed, place) for seed in (0, 2)]))
        assert (low, high) == pytest.approx((interval.low, interval.high))
    assert measured.curve(other, "nats", "position", lens="tuned")["position"].tolist() == [1, 2]
    assert measured.curve(mamba, "other", "position").empty
    with pytest.raises(ValueError, match="nats has several rows of one position"):
        measured.curve(mamba, "nats", "position")


def test_a_difference_is_paired_by_seed(results):
    mamba, other = results.cells
    found = measured.difference(other, "nats", "position", lens="tuned")
    pairs = [[value("diff_mamba", seed, place) - value("mamba", seed, place) for seed in (0, 2)] for place in (1, 2)]
    assert found["mean"].tolist() == pytest.approx([10, 10]) == [np.mean(pair) for pair in pairs]
    assert found["low"].isna().all()  # equal differences have no interval
    assert measured.difference(mamba, "nats", "position", lens="tuned")["mean"].tolist() == [0, 0, 0]


def test_only_measurements_that_count_have_rows(results):
    mamba, _ = results.cells
    assert [len(run.rows) for run in mamba.seeds] == [7, 0, 7]
    assert len(measured.chosen(mamba.seeds[0].rows, "nats", lens=None, position=None)) == 1
