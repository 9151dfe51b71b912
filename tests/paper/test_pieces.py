"""Each number of the audit is what it stands for: a built network, training streams, a stepped scheduler, a counter."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from diffmamba.configuration import composed
from diffmamba.data.streams import EvalWindows, TrainStreams
from diffmamba.mixers import Mixer
from diffmamba.mixers.combine import Lambda
from diffmamba.ops import selective_scan_step, ssd_step
from diffmamba.paper.budget import SCHEDULES, budget, curve
from diffmamba.paper.cases import Case, case_of, layers_of
from diffmamba.paper.compute import forward, vocabulary, zipf_shares
from diffmamba.paper.counts import parameters, parts
from diffmamba.paper.mechanism import start_of_sigmoid
from diffmamba.runs.work import build_network
from diffmamba.tasks.optimization import AdamW

TINY = ("scale.d_model=32", "scale.headdim=32", "scale.d_state=4", "scale.n_layers=2", "trainer=cpu")
SIZES = {"train": 10_000, "val": 700, "test": 900, "vocabulary": 50}
ADAPTIVE = ("model/embedding=adaptive", "model.embedding.cutoffs=[10,30]", "model.embedding.div_val=2")
MODELS = pytest.mark.parametrize("model", ["mamba", "diff_s6", "diff_mamba", "diff_mamba_hybrid"])
tiny = cache(lambda *words: composed([*TINY, *words]))


def built(*words: str) -> Any:
    return build_network(tiny(*words), SIZES["vocabulary"])


def case(*words: str, **sizes: int) -> Case:
    """A tiny case, on a corpus of the sizes given."""
    config = tiny(*words)
    return case_of("table1", config | {"data": config["data"] | {"expected": SIZES | sizes}, "published": None})


@MODELS
@pytest.mark.parametrize("embedding", [(), ADAPTIVE], ids=["full", "adaptive"])
def test_parts_add_up_to_a_built_network(model: str, embedding: tuple[str, ...]) -> None:
    network, real = case(f"model={model}", *embedding).network, built(f"model={model}", *embedding)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert sum(parts(network).values()) == parameters(network) == parameters(real)
    assert parts(network) == parts(real)


@pytest.mark.parametrize(("train", "batch", "length"), [(10_000, 7, 12), (10_000, 16, 128), (515, 1, 514)])
def test_steps_and_tokens_are_those_of_the_streams(train: int, batch: int, length: int) -> None:
    words = [f"data.batch_size={batch}", f"data.length={length}", "scale.steps=null", "scale.epochs=3"]
    found = budget(case(*words, "scale.evaluate_every=null", "data.eval_windows=null", train=train))
    streams = TrainStreams(np.arange(train) % 5, batch, length)
    assert found["steps_per_epoch"] == len(streams)
    assert found["tokens_per_epoch"] == sum(targets.numel() for _, targets in streams)
    assert (found["steps"], found["tokens"]) == (3 * len(streams), 3 * found["tokens_per_epoch"])
    assert found["dropped"] == pytest.approx((train - found["tokens_per_epoch"]) / train)
    splits = [EvalWindows(np.ones(SIZES[split]), 4, length) for split in ("val", "test")]
    once = sum(int((targets >= 0).sum()) for windows in splits for _, targets in windows)
    assert found["evaluated_tokens"] == 3 * once


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_those_of_a_stepped_scheduler(schedule: str) -> None:
    words = ["scale.steps=null", "scale.epochs=10", "scale.schedule_steps=90", "optimizer.warmup_steps=6"]
    short = case(*words, f"optimizer.schedule={schedule}", "data.batch_size=10", "data.length=200")
    found, total, settings = curve(short, schedule), budget(short)["steps"], short.config["optimizer"]
    assert found["length"] == (90 if schedule == "published" else total)
    optimizer = AdamW(settings["learning_rate"], 0.1, (0.9, 0.999), 6, schedule, settings["schedule_steps"])
    training = optimizer.over(total).build(nn.Linear(2, 2))
    scheduler, rates = training["lr_scheduler"]["scheduler"], []
    for _ in range(total + 1):
        rates.append(scheduler.get_last_lr()[0])
        training["optimizer"].step()
        scheduler.step()
    marks = found["landmarks"]
    assert [mark["name"] for mark in marks] == ["step 0", "end of warm-up", "after epoch 1", "after epoch 10"]
    assert [mark["rate"] for mark in marks] == pytest.approx([rates[mark["step"]] for mark in marks])
    assert marks[-1]["step"] == total
    assert found["integral"] == pytest.approx(sum(rates[:-1]))
    assert found["walked"] == pytest.approx((total - 6) / (found["length"] - 6))


@MODELS
@pytest.mark.parametrize(("ssm", "scan"), [("mamba1", 6), ("mamba2", 5)])
def test_operations_are_those_of_the_closed_forms(model: str, ssm: str, scan: int) -> None:
    """A matrix product is two operations for each weight; scan and convolution have their own formulas."""
    counted = case(f"model={model}", f"model.ssm={ssm}")
    layers = layers_of(counted.network)
    mixers: list[Any] = [layer for layer in layers if isinstance(layer, Mixer)]
    linear = {layer: sum(2 * m.weight.numel() for m in layer.modules() if isinstance(m, nn.Linear)) for layer in layers}
    groups = [2 * mixer.groups * mixer.d_state if ssm == "mamba2" else 0 for mixer in mixers]
    assert forward(counted) == {
        "projections": sum(linear[mixer] for mixer in mixers),
        "feed_forward": sum(linear[layer] for layer in layers if layer not in mixers),
        "convolution": sum(2 * 4 * (mixer.d_inner + more) for mixer, more in zip(mixers, groups, strict=True)),
        "scan": sum((scan * mixer.d_state + 3) * mixer.d_inner for mixer in mixers),
        "embedding": 0,
        "softmax": 2 * 50 * counted.config["model"]["d_model"],
    }


class Arithmetic(TorchDispatchMode):
    """Counts multiplications and additions, one for each element; exponentials are free."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result, name = function(*args, **(kwargs or {})), function.name().split("::")[1].split(".")[0]
        cost = {"mul": 1, "add": 1, "addcmul": 2}.get(name, 0)
        self.operations += args[0].numel() if name == "sum" else cost * result.numel() if cost else 0
        return result


def test_closed_forms_of_the_scans_are_those_of_their_definitions() -> None:
    heads, headdim, state, channels = 4, 6, 5, 12
    x, dt, A, D = torch.randn(1, heads, headdim), torch.rand(1, heads), -torch.rand(heads), torch.ones(heads)
    B, C = torch.randn(2, 1, 2, state)
    with Arithmetic() as counter:
        ssd_step(x, dt, A, B, C, D, torch.zeros(1, heads, headdim, state))
    assert counter.operations - heads == (5 * state + 3) * heads * headdim  # dt · A, one for each head, is not counted
    x, dt = torch.randn(2, 1, channels)
    A, D, h = -torch.rand(channels, state), torch.ones(channels), torch.zeros(1, channels, state)
    with Arithmetic() as counter:
        selective_scan_step(x, dt, A, *torch.randn(2, 1, 1, state), D, h)
    assert counter.operations == (6 * state + 3) * channels


def test_zipf_is_the_expectation_over_what_torch_counts_for_each_cluster() -> None:
    embedding, ways = built(*ADAPTIVE).embedding, []
    for first in embedding.borders[:-1]:
        symbols = torch.full((2, 5), first)
        with FlopCounterMode(display=False) as way_in:
            hidden = embedding.embed(symbols)
        with FlopCounterMode(display=False) as way_out:
            embedding.nats(hidden.detach(), symbols)
        ways.append([counter.get_total_flops() / symbols.numel() for counter in (way_in, way_out)])
    shares, weights = zipf_shares((10, 20, 20)), 1 / np.arange(1, 51)
    assert shares == pytest.approx([part.sum() / weights.sum() for part in np.split(weights, [10, 30])])
    expected, upper = (list(vocabulary(case(*ADAPTIVE), zipf).values()) for zipf in (True, False))
    assert expected == pytest.approx(np.average(ways, axis=0, weights=shares))
    assert upper[0] == max(way_in for way_in, _ in ways)
    assert upper[1] > max(way_out for _, way_out in ways)


@pytest.mark.parametrize(("form", "summed"), [("reparam", 1024), ("scalar", 1)])
@torch.no_grad()
def test_the_start_of_the_sigmoid_is_that_of_drawn_lambdas(form: str, summed: int) -> None:
    torch.manual_seed(0)
    drawn = [Lambda(form, summed, 1, 0.0) for _ in range(2000)]
    sums, found = torch.stack([weight.bar.double().sum() for weight in drawn]), start_of_sigmoid(summed)
    assert [float(weight()) for weight in drawn] == pytest.approx(sums.sigmoid().tolist(), rel=0, abs=1e-5)
    slopes = sums.sigmoid() * (-sums).sigmoid()
    assert float((slopes < 0.01 * 0.99).double().mean()) == pytest.approx(found["settled"], abs=0.02)
    assert math.log(slopes.median()) == pytest.approx(math.log(found["median_derivative"]), rel=0.05)
