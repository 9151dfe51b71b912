"""What mixers attend to, as rows: against the matrices themselves, and what is refused."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from diffmamba.data import InContextRecall, LanguageModellingData, Memorization, SyntheticData
from diffmamba.errors import SettingError
from diffmamba.measures import ImplicitAttention, Subject
from diffmamba.mixers.implicit_attention import attended
from tests.models.conftest import VOCABULARY, build  # noqa: F401 - a fixture

SYMBOLS = np.random.default_rng(0).integers(0, VOCABULARY, 200)
MODELS = (["model=mamba"], ["model=diff_mamba"], ["model=diff_s6", "model.ssm=mamba1"], ["model=diff_transformer"])


class Corpus:
    name, fingerprint = "numbers", "of numbers"

    @staticmethod
    def split(name):
        return SYMBOLS


TEXT = LanguageModellingData(corpus=Corpus(), batch_size=2, length=24, eval_batch_size=2)
RECALL = partial(SyntheticData, examples=16, evaluated=8, batch_size=4, eval_batch_size=4, seed=0)
NEEDLES = RECALL(rule=InContextRecall(VOCABULARY - 1, 16, 0.5, 2))
ON_TEXT, ON_NEEDLES = ImplicitAttention(examples=4, window=24, positions=6), ImplicitAttention(examples=8)


def table(network, measure, data):
    rows = measure.rows(Subject(network, data))
    return pd.DataFrame([{"measure": row.measure, "value": row.value, **row.coordinates} for row in rows])


def one(rows, name, **where):
    found = rows[rows["measure"] == name]
    for column in {"part", "block", "head", "distance"} & set(rows.columns):
        wanted = where.get(column)
        found = found[found[column].isna() if wanted is None else found[column] == wanted]
    (value,) = found["value"]
    return value


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
@torch.no_grad()
def test_rows_are_those_of_the_matrices(build, words):  # noqa: F811
    """Of the second mixer on the first window: the mass on the first position, of a branch, a head and the output."""
    network = build(*words).double().eval()
    measure = ImplicitAttention(examples=1, window=24, positions=2, heads=True)
    rows = table(network, measure, TEXT)
    symbols = torch.from_numpy(SYMBOLS[None, :24])
    block = network.backbone.blocks[1]
    at = torch.tensor([17, 23])
    found = attended(block.layer, block.read(network.backbone.hidden(network.embedding.embed(symbols))[1]), at)
    weights = {f"branch{number}": part[0] for number, part in enumerate(found.branches, 1)}
    weights |= {} if found.difference is None else {"difference": found.difference[0]}
    weights["output"] = found.output.norm(dim=-1)
    assert set(rows["part"].dropna()) == {"uniform", *weights}
    for part, matrix in weights.items():
        first = torch.stack(
            [row[..., 0].abs() / row[..., :t].abs().sum(-1) for row, t in zip(matrix.unbind(1), at, strict=True)]
        ).mean(0)
        assert one(rows, "first", part=part, block=2) == pytest.approx(first.mean().item())
        for head, value in enumerate(first.flatten().tolist() if part != "output" else [], 1):
            assert one(rows, "first", part=part, block=2, head=head) == pytest.approx(value)
    assert set(rows.loc[rows["head"].notna(), "part"]) == set(weights) - {"output"}  # the output is of all heads


@pytest.mark.parametrize(("measure", "data"), [(ON_TEXT, TEXT), (ON_NEEDLES, NEEDLES)], ids=["text", "needles"])
@torch.no_grad()
def test_figures_are_means_over_mixers_for_any_batch(build, measure, data):  # noqa: F811
    network = build("model=diff_mamba").eval()
    measure.check(data)
    measure.check_network(network)
    rows = table(network, measure, data)
    others = table(network, ImplicitAttention(**{**vars(measure), "batch": 3}), data)
    pd.testing.assert_frame_equal(rows, others, rtol=1e-4)
    for name in ("entropy", "own", "distance"):
        blocks = [one(rows, name, part="output", block=block) for block in (1, 2)]
        assert one(rows, name) == one(rows, name, part="output") == pytest.approx(sum(blocks) / 2)
    masses = rows[(rows["measure"] == "mass") & (rows["part"] == "uniform")]
    assert list(masses["distance"]) == sorted(masses["distance"])
    assert 0 < masses["value"].sum() <= 1 + 1e-9


@torch.no_grad()
def test_equal_weights_find_a_needle_as_often_as_anything(build):  # noqa: F811
    rows = table(build("model=mamba").eval(), ON_NEEDLES, NEEDLES)
    assert one(rows, "needle", part="uniform") > 0
    assert one(rows, "rest", part="uniform") > 0
    for part in ("uniform", "branch1", "output"):
        block = None if part == "uniform" else 1
        shares = [one(rows, name, part=part, block=block) for name in ("needle", "distractors", "rest")]
        assert sum(shares) == pytest.approx(1)
    assert 0 <= one(rows, "accuracy") <= 1


@torch.no_grad()
def test_a_map_has_the_shares_of_its_cells(build):  # noqa: F811
    measure = ImplicitAttention(**{**vars(ON_TEXT), "cells": 8})
    rows = table(build("model=mamba").eval(), measure, TEXT)
    found = rows[(rows["measure"] == "map") & (rows["block"] == 1) & (rows["part"] == "output")]
    square = found.pivot_table(index="row", columns="column", values="value")
    assert square.shape == (8, 8)
    assert (np.triu(square.fillna(0), 1) == 0).all()
    assert square.sum(axis=1).tolist() == pytest.approx([2 / 3, *[1] * 7])  # the first position takes from nothing


def test_settings_that_are_left_open():
    settings = {"data": {"length": 24}}
    assert ImplicitAttention().completed(settings) == ImplicitAttention(window=24, positions=12)
    assert ImplicitAttention(window=99).completed(settings) == ImplicitAttention(window=99, positions=16)
    alike = (ImplicitAttention(window=9, positions=3), ImplicitAttention(window=5, positions=1))
    assert len({one.over(NEEDLES.facts) for one in alike}) == 1  # examples have no windows


@pytest.mark.parametrize(
    ("measure", "data", "message"),
    [
        (ON_NEEDLES, RECALL(rule=Memorization(VOCABULARY, 8)), r"no answer of memorization stands in its context"),
        (ImplicitAttention(window=24, positions=13), TEXT, r"measure\.positions=13 must be at most half of a window"),
        (ImplicitAttention(window=0), TEXT, "window"),
        (
            ImplicitAttention(window=200, positions=3),
            TEXT,
            r"measure\.window=200 must be at most 199: test has no more",
        ),
    ],
    ids=["nothing to find", "too many positions", "no window", "a window that is too long"],
)
def test_data_that_do_not_fit_are_refused(measure, data, message):
    with pytest.raises(SettingError, match=message):
        measure.check(data)


def test_networks_without_mixers_are_refused(build):  # noqa: F811
    with pytest.raises(SettingError, match="needs a language model with mixers"):
        ON_TEXT.check_network(build("model=mamba", layer=["ffn"]))
    with pytest.raises(SettingError, match="needs a language model, and this is a Linear"):
        ON_TEXT.check_network(torch.nn.Linear(2, 2))
    ON_TEXT.check_network(build("model=transformer"))
