"""The page of the published answers says what its data say, and the data are those of the four known means."""

import json

import pages
import pandas as pd
import pytest

DATA = pages.ROOT / "docs" / "answers"
TEXT = (DATA.parent / "answers.md").read_text()
NAMES = {"mamba": "Mamba", "diff_mamba": "Diff-Mamba"}


@pytest.fixture(scope="module")
def whole():
    found = json.loads((DATA / "whole.json").read_text())["whole"]
    return {(row["apart"], row["model"]): row for row in found}


@pytest.fixture(scope="module")
def cells():
    found = pd.read_csv(DATA / "cells.csv", keep_default_na=False, na_values={"benchmark_difference_low": [""]})
    return found[found["apart"] == ""]


def told(row, name, sign=""):
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]".replace("-", "−")


def test_the_data_have_the_known_means(whole, cells):
    """Of 40 cells and three seeds; by the benchmark's rule, by the first label, and the share of two labels or more."""
    for model, benchmark, first, more in (("mamba", 15.9, 36.1, 53), ("diff_mamba", 18.9, 33.6, 39)):
        row = whole["", model]
        assert (round(row["benchmark"], 1), round(row["first"], 1), round(row["names_more"])) == (
            benchmark,
            first,
            more,
        )
        for rule in ("benchmark", "first", "exact", "names_more"):
            assert cells[cells["model"] == model][rule].mean() == pytest.approx(row[rule], abs=1e-3)


@pytest.mark.parametrize(("rule", "name"), [("benchmark", "benchmark"), ("first", "first label")])
def test_the_tables_are_those_of_the_data(whole, cells, rule, name):
    ours, theirs = whole["", "diff_mamba"], whole["", "mamba"]
    alone = {
        "x": ours[f"{rule}_difference"],
        "x_low": ours[f"{rule}_of_these_low"],
        "x_high": ours[f"{rule}_of_these_high"],
    }
    line = [name, told(theirs, rule), told(ours, rule), told(ours, f"{rule}_difference", "+"), told(alone, "x", "+")]
    assert f"| {' | '.join(line)} |" in TEXT
    compared = cells[cells["model"] == "diff_mamba"]
    ends = [(f"{rule}_difference", f"{rule}_difference")]
    ends += [(f"{rule}_{kind}_low", f"{rule}_{kind}_high") for kind in ("of_these", "difference")]
    columns = [(pd.to_numeric(compared[low]), pd.to_numeric(compared[high])) for low, high in ends]
    counts = [f"{(low > 0).sum()} : {(high < 0).sum()}" for low, high in columns]
    assert f"| {name} | {' | '.join(counts)} |" in TEXT


def test_the_seeds_are_those_of_the_data(whole):
    for model, name in NAMES.items():
        row = whole["", model]
        by_seed = zip(row["seeds"].split(), row["benchmark_by_seed"].split(), row["first_by_seed"].split(), strict=True)
        for seed, benchmark, first in by_seed:
            assert f"| {name}, {seed} | {float(benchmark):.1f} | {float(first):.1f} |" in TEXT
        assert f"{row['names_more']:.0f} %" in TEXT
        assert told(whole["pg19", model], "benchmark") in TEXT


def test_what_is_said_of_the_papers_values_is_so(cells):
    assert (cells["inside"].astype(str) == "True").sum() == 62
    ratios = cells[cells["model"] == "diff_mamba"][["benchmark_ratio", "benchmark_ratio_low", "benchmark_ratio_high"]]
    value, low, high = (pd.to_numeric(ratios[name]) for name in ratios)
    assert round(value.clip(lower=1 / value).max(), 1) == 2.1
    assert ((low < 1) & (high > 1)).all()
    chance = json.loads((DATA / "whole.json").read_text())["chance"][""]
    assert ", ".join(f"{level:.1f}" for level in chance.values()) in TEXT
    below = cells.assign(level=cells["task"].map(chance))
    for rule, expected in (("benchmark", {"mamba": 26, "diff_mamba": 26}), ("first", {"mamba": 5, "diff_mamba": 6})):
        assert below[below[rule] < below["level"]].groupby("model").size().to_dict() == expected
