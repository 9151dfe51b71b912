"""The exponents of a whole network on a text: against the explicit Jacobian of all its states, and in any windows."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.autograd.functional import jacobian

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.measures import Lyapunov, Subject
from diffmamba.runs.execution import work_of
from diffmamba.runs.search import _better
from tests.models.conftest import VOCABULARY, build  # noqa: F401 - a fixture

SYMBOLS = np.random.default_rng(0).integers(0, VOCABULARY, 41).astype(np.uint8)
TWO_LAYERS = (
    "model.layer=[mixer]",
    "scale.n_layers=2",
    "model.d_model=4",
    "model.headdim=2",
    "scale.d_state=2",
    "model.d_conv=2",
)


def measured(network, symbols=SYMBOLS, **settings):
    data = SimpleNamespace(corpus=SimpleNamespace(split={"test": symbols}.get), facts={"name": "made"})
    found = Lyapunov(**settings).rows(Subject(network.eval(), data))
    rows = pd.DataFrame([{"measure": row.measure, "value": row.value, **row.coordinates} for row in found])
    coordinates = [name for name in rows if name not in ("measure", "value")]
    return dict(rows[rows[coordinates].isna().all(axis=1)][["measure", "value"]].to_numpy()), rows


def test_the_exponents_of_a_stack_are_those_of_its_layers_together(build):  # noqa: F811
    """The Jacobian of all states of two layers is block triangular: a state does not depend on a later layer's."""
    network, symbols = build(*TWO_LAYERS, "model=diff_mamba").double(), torch.from_numpy(SYMBOLS[:3].astype(np.int64))
    states = network.allocate_state(1)
    sizes = [part.numel() for state in states for part in state]

    def step(flat, symbol):
        parts = iter(flat.split(sizes))
        given = [tuple(next(parts).view_as(part) for part in state) for state in states]
        _, following = network.extend(symbol.view(1, 1), given)
        return torch.cat([part.flatten() for state in following for part in state])

    flat, product = torch.zeros(sum(sizes), dtype=torch.float64), torch.eye(sum(sizes), dtype=torch.float64)
    for symbol in symbols:
        product = jacobian(lambda x, symbol=symbol: step(x, symbol), flat) @ product
        flat = step(flat, symbol).detach()
    at = np.cumsum([0, *sizes])  # convolution and scan of layer 0, then those of layer 1
    first, second = slice(at[0], at[2]), slice(at[2], at[4])
    assert product[second, first].abs().max() > 1e-9  # the second layer reads the first one
    assert (product[first, second] == 0).all()
    found = []
    for conv, scan in ((slice(at[0], at[1]), slice(at[1], at[2])), (slice(at[2], at[3]), slice(at[3], at[4]))):
        assert (product[conv, conv] == 0).all()  # gone after the width of the convolution
        assert (product[conv, scan] == 0).all()
        diagonal = product[scan, scan].diagonal()
        torch.testing.assert_close(product[scan, scan], torch.diag(diagonal), rtol=0, atol=1e-12)
        found += (diagonal.log() / len(symbols)).tolist()
    figures, rows = measured(network, SYMBOLS[:3])
    exponents = rows[(rows["measure"] == "exponent") & rows["quantile"].isna()]["value"].iloc[1:]  # without the largest
    assert sorted(np.repeat(exponents, len(found) // len(exponents))) == pytest.approx(sorted(found), abs=1e-10)
    assert figures["exponent"] == pytest.approx(max(found), abs=1e-10)


@pytest.mark.parametrize("words", [["model=mamba"], ["model=diff_mamba", "model.residual=pre_norm"]])
def test_windows_do_not_change_them(build, words):  # noqa: F811
    network = build(*words).double()
    (_, expected), shapes = measured(network, window=100), []
    network.backbone.blocks[0].register_forward_pre_hook(lambda *_: pytest.fail("the whole text at once"))
    embed = network.embedding.embed
    network.embedding.embed = lambda symbols: shapes.append(tuple(symbols.shape)) or embed(symbols)
    _, found = measured(network, window=7)
    assert shapes == [(1, 7)] * 5 + [(1, 6)]
    assert found["value"].tolist() == pytest.approx(expected["value"].tolist(), abs=1e-12)
    assert found.drop(columns="value").equals(expected.drop(columns="value"))


def test_what_the_rows_say(build):  # noqa: F811
    figures, rows = measured(build("model=diff_mamba").double(), limit=20)
    single, of_branch = rows[rows["head"].notna()], rows[rows["quantile"].notna()]
    assert set(zip(single["block"], single["branch"], strict=True)) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert figures["exponents"] == len(single)
    assert (figures["blocks"], figures["left_out"], figures["symbols"], figures["positive"]) == (2, 1, 20, 0)
    assert figures["exponent"] == single["value"].max() == of_branch[of_branch["quantile"] == 1]["value"].max()
    assert figures["smallest"] == single["value"].min() == of_branch[of_branch["quantile"] == 0]["value"].min()
    assert figures["median"] == pytest.approx(single["value"].median())
    assert figures["half_life"] == pytest.approx(math.log(2) / -figures["exponent"])
    assert (rows[rows["measure"] == "exponent"]["value"] < 0).all()


def test_a_branch_with_many_exponents_has_quantiles_alone(build):  # noqa: F811
    network = build("model=mamba", "model.ssm=mamba1").double()
    few, many = (measured(network, each=each) for each in (1023, 1024))
    assert few[0] == many[0]
    assert "channel" not in few[1]
    assert many[1]["channel"].notna().sum() == 2 * 1024 == few[0]["exponents"]
    assert few[1]["quantile"].notna().sum() == many[1]["quantile"].notna().sum() == 2 * 7


def test_a_state_that_forgets_nothing_has_no_half_life(build):  # noqa: F811
    network = build("model=mamba")
    for block in network.backbone.blocks[:2]:
        torch.nn.init.zeros_(block.layer.in_proj.weight)
        torch.nn.init.constant_(block.layer.dt_bias, -200)
    figures, _ = measured(network)
    assert figures["exponent"] == figures["smallest"] == 0
    assert "half_life" not in figures


def test_an_exponent_is_neither_better_nor_worse_so_a_search_has_no_direction():
    work = work_of(composed(["measure=lyapunov", "weights=fresh"]))
    with pytest.raises(SettingError, match="a search needs a figure that can be better: exponent of Lyapunov"):
        _better(work)


def test_a_network_or_data_that_it_cannot_measure_are_refused(build):  # noqa: F811
    with pytest.raises(SettingError, match=r"^measure=lyapunov needs state-space layers, and this network has none"):
        Lyapunov().check_network(build("model=transformer"))
    for data, told in (
        (SimpleNamespace(facts={"name": "mad"}), "measure=lyapunov needs a corpus, and mad is none"),
        (SimpleNamespace(corpus=SimpleNamespace(split=lambda name: SYMBOLS[:0])), "measure.split=test has no symbols"),
    ):
        with pytest.raises(SettingError, match=f"^{told}$"):
            Lyapunov().check(data)
