"""Each number of the audit is what it stands for: a built network, training streams, a stepped scheduler, a counter."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from diffmamba import configuration
from diffmamba.audit.agreement import compare
from diffmamba.audit.budget import SCHEDULES, budget, curve
from diffmamba.audit.cells import Cell, changed, collect, shapes
from diffmamba.audit.compute import Assumed, adaptive, compute, convolution, devices, forward, hours, linear, scan
from diffmamba.audit.counts import parameters, parts
from diffmamba.audit.mechanism import norm_after, norm_before
from diffmamba.build import build_network
from diffmamba.data.streams import EvalWindows, TrainStreams
from diffmamba.errors import SettingError
from diffmamba.mixers import Mamba1, Mamba2
from diffmamba.ops import selective_scan_step, ssd_step
from diffmamba.tasks.optimization import AdamW

TINY = ("scale.d_model=32", "scale.headdim=32", "scale.d_state=4", "scale.n_layers=2", "trainer=cpu")
EXPECTED = {"train": 10_000, "val": 700, "test": 900, "vocabulary": 50}
ADAPTIVE = ("model/embedding=adaptive", "model.embedding.cutoffs=[10,30]", "model.embedding.div_val=2")
MakeCell = Callable[..., Cell]
MODELS = pytest.mark.parametrize("model", ["mamba", "diff_s6", "diff_mamba", "diff_mamba_hybrid"])
SSMS = pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])


@cache
def _resolved(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        return configuration.resolved(compose("train", overrides=[*TINY, *overrides]))


@pytest.fixture
def make_cell() -> Callable[..., Cell]:
    """A tiny cell of some overrides, on a corpus of the sizes given."""

    def make(*overrides: str, **sizes: int) -> Cell:
        config = _resolved(*overrides)
        expected = EXPECTED | sizes
        config = config | {"data": config["data"] | {"expected": expected}, "published": None}
        return Cell("table1", config, shapes(config["model"], expected))

    return make


@MODELS
@pytest.mark.parametrize("embedding", [(), ADAPTIVE], ids=["full", "adaptive"])
def test_parts_add_up_to_a_built_network(make_cell: MakeCell, model: str, embedding: tuple[str, ...]) -> None:
    cell = make_cell(f"model={model}", *embedding)
    built = build_network(cell.config["model"], cell.expected["vocabulary"])
    assert all(parameter.is_meta for parameter in cell.network.parameters())
    assert sum(parts(cell.network).values()) == parameters(cell.network) == parameters(built)
    assert parts(cell.network) == parts(built)


def test_a_changed_cell_has_another_network(make_cell: MakeCell) -> None:
    cell = make_cell("model=diff_mamba")
    wider = changed(cell, {"d_state": 8}, n_layers=3)
    assert len(wider.network.backbone.blocks) == 9
    assert wider.network.backbone.blocks[0].layer.d_state == 8
    assert cell.network.backbone.blocks[0].layer.d_state == 4


@pytest.mark.parametrize(
    ("train", "batch", "length"), [(10_000, 7, 12), (10_000, 16, 128), (4_999, 3, 50), (515, 1, 514)]
)
def test_steps_and_tokens_are_those_of_the_streams(make_cell: MakeCell, train: int, batch: int, length: int) -> None:
    settings = [f"data.batch_size={batch}", f"data.length={length}", "scale.steps=null", "scale.epochs=3"]
    cell = make_cell(*settings, "scale.evaluate_every=null", "data.eval_windows=null", train=train)
    streams = TrainStreams(np.arange(train) % 5, batch, length)
    found = budget(cell)
    assert found.steps_per_epoch == len(streams)
    assert found.tokens_per_epoch == sum(targets.numel() for _, targets in streams)
    assert (found.steps, found.tokens, found.epochs) == (3 * len(streams), 3 * found.tokens_per_epoch, 3)
    assert 0 <= found.dropped < 1
    assert found.dropped == pytest.approx((train - found.tokens_per_epoch) / train)
    splits = [EvalWindows(np.ones(size), 4, length) for size in (found.val, found.test)]
    once = sum(int((targets >= 0).sum()) for windows in splits for _, targets in windows)
    assert found.evaluated_tokens == 3 * once


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_those_of_a_stepped_scheduler(make_cell: MakeCell, schedule: str) -> None:
    settings = ["scale.steps=null", "scale.epochs=10", "scale.schedule_steps=90", "optimizer.warmup_steps=6"]
    cell = make_cell(*settings, f"optimizer.schedule={schedule}", "data.batch_size=10", "data.length=200")
    found, optimizer = curve(cell, schedule), cell.config["optimizer"]
    total = budget(cell).steps
    assert found.length == (90 if schedule == "published" else total)
    assert optimizer["schedule_steps"] in (found.length, None)
    wanted = AdamW(optimizer["learning_rate"], 0.1, (0.9, 0.999), optimizer["warmup_steps"], found.length)
    built = wanted.build(nn.Linear(2, 2))
    scheduler, rates = built["lr_scheduler"]["scheduler"], []
    for _ in range(total + 1):
        rates.append(scheduler.get_last_lr()[0])
        built["optimizer"].step()
        scheduler.step()
    assert [mark.name for mark in found.landmarks] == ["step 0", "end of warm-up", "after epoch 1", "after epoch 10"]
    assert [mark.rate for mark in found.landmarks] == pytest.approx([rates[mark.step] for mark in found.landmarks])
    assert found.landmarks[-1].step == total
    assert found.integral == pytest.approx(sum(rates[:-1]))
    assert found.walked == pytest.approx((total - 6) / (found.length - 6))


@MODELS
@SSMS
def test_linear_operations_are_those_that_torch_counts(make_cell: MakeCell, model: str, ssm: str) -> None:
    """One position at a time, convolution and scan have no matrix product, so torch sees the linear layers only."""
    network = build_network(make_cell(f"model={model}", f"model.ssm={ssm}").config["model"], 50)
    states = network.allocate_state(3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.extend(torch.zeros(3, 1, dtype=torch.long), states)
    counted = forward(network, zipf=True)
    assert counter.get_total_flops() == 3 * (counted.projections + counted.feed_forward + counted.softmax)


@pytest.mark.parametrize("cluster", [0, 1, 2])
def test_adaptive_operations_are_those_that_torch_counts(make_cell: MakeCell, cluster: int) -> None:
    embedding = build_network(make_cell(*ADAPTIVE).config["model"], 50).embedding
    symbols = torch.full((2, 5), embedding.borders[cluster])
    share = [float(i == cluster) for i in range(3)]
    way_in, way_out = adaptive(embedding, share, share)
    with FlopCounterMode(display=False) as counter:
        hidden = embedding.embed(symbols)
    assert counter.get_total_flops() == symbols.numel() * way_in
    with FlopCounterMode(display=False) as counter:
        embedding.nats(hidden.detach(), symbols)
    assert counter.get_total_flops() == symbols.numel() * way_out


def test_zipf_lies_below_the_upper_bound(make_cell: MakeCell) -> None:
    network = make_cell(*ADAPTIVE).network
    assert forward(network, zipf=True).total < forward(network, zipf=False).total
    full = make_cell().network
    assert forward(full, zipf=True) == forward(full, zipf=False)


class Arithmetic(TorchDispatchMode):
    """Counts multiplications and additions, one for each element; exponentials are free."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        name = function.name().split("::")[1].split(".")[0]
        cost = {"mul": lambda: result.numel(), "add": lambda: result.numel()}
        cost |= {"addcmul": lambda: 2 * result.numel(), "sum": lambda: args[0].numel()}
        self.operations += cost.get(name, int)()
        return result


def test_scan_operations_are_those_of_its_definition() -> None:
    heads, headdim, state = 4, 6, 5
    x, dt, A, D = torch.randn(1, heads, headdim), torch.rand(1, heads), -torch.rand(heads), torch.ones(heads)
    B, C = torch.randn(2, 1, 2, state)
    with Arithmetic() as counter:
        ssd_step(x, dt, A, B, C, D, torch.zeros(1, heads, headdim, state))
    mixer = Mamba2(heads * headdim // 2, 1, headdim, state, expand=2)
    assert counter.operations - heads == scan(mixer)  # dt · A, one for each head, is not counted


def test_selective_scan_operations_are_those_of_its_definition() -> None:
    channels, state = 12, 5
    x, dt = torch.randn(2, 1, channels)
    B, C = torch.randn(2, 1, 1, state)
    with Arithmetic() as counter:
        selective_scan_step(
            x, dt, -torch.rand(channels, state), B, C, torch.ones(channels), torch.zeros(1, channels, state)
        )
    assert counter.operations == scan(Mamba1(channels // 2, 1, state, expand=2))


@SSMS
def test_two_branches_cost_what_one_of_twice_the_width_costs(make_cell: MakeCell, ssm: str) -> None:
    one, two = (make_cell(f"model={model}", f"model.ssm={ssm}") for model in ("mamba", "diff_mamba"))
    vanilla, differential = (cell.network.backbone.blocks[0].layer for cell in (one, two))
    assert scan(vanilla) == scan(differential)
    assert convolution(vanilla) <= convolution(differential) < 1.2 * convolution(vanilla)
    assert linear(vanilla.out_proj) == linear(differential.out_proj)


def test_hours_follow_from_operations_and_assumptions(make_cell: MakeCell) -> None:
    cell = make_cell()
    spent = budget(cell)
    found = compute(cell, spent, Assumed(device="a100", bf16=0.5))
    assert found.training_per_token == 3 * found.forward_per_token
    assert found.total == found.forward_per_token * (3 * spent.tokens + spent.evaluated_tokens)
    assert found.hours["bf16"] == pytest.approx(found.total / (0.5 * 312e12) / 3600)
    slow, fast = (hours(1e18, device, Assumed())["fp32"] for device in ("a100", "h100"))
    assert slow > fast
    assert all(set(device["tflops"]) == {"fp32", "tf32", "bf16"} for device in devices().values())


def test_the_norm_before_ignores_what_the_norm_after_sees() -> None:
    first, second = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm_before(first, 2 * second, 0.8), norm_before(first, second, 0.8), rtol=0, atol=1e-4)
    assert (norm_after(first, 2 * second, 0.8) - norm_after(first, second, 0.8)).norm() > 0.1
    torch.testing.assert_close(norm_after(first, second, 0.8).square().mean(-1), torch.ones(3), rtol=0, atol=1e-4)


def test_another_value_than_the_printed_one_is_seen(make_cell: MakeCell) -> None:
    found = compare(make_cell("scale.dropout=0.1"), "table 3", {"dropout": "scale.dropout"}, {"dropout": 0.4})
    assert [(agreement.ours, agreement.published, agreement.equal) for agreement in found] == [(0.1, 0.4, False)]


@pytest.mark.parametrize("word", ["model=mamba", "data=text8", "experiments=table2", "sweeps=table1"])
def test_what_the_tables_vary_is_refused(word: str) -> None:
    with pytest.raises(SettingError, match=f"set {word.partition('=')[0]} themselves"):
        collect([word])
