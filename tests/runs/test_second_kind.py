"""The test of the structure: a new task and a new measure are two files each, and nothing of the package changes.

The files are a user's own: Python modules in the working directory, and YAML in its `conf`.
"""

import sys
from pathlib import Path

import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.runs import Record, RunStore
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.measured import read_rows
from diffmamba.runs.summary import figures, summary
from diffmamba.runs.work import Training

TASK = '''
"""A toy: which symbol came first? The answer is read at the last position."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from diffmamba.data import Data
from diffmamba.metric import Metric
from diffmamba.tasks import Task

SYMBOLS = 4


class FirstSymbolData(Data):
    def __init__(self, batch_size: int, length: int, examples: int, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.batch_size = batch_size
        self.inputs = torch.randint(SYMBOLS, (3, examples, length), generator=generator)

    @property
    def facts(self):
        sizes = {split: len(inputs) for split, inputs in zip(("train", "val", "test"), self.inputs)}
        return {"name": "first_symbol", "fingerprint": None, "sizes": sizes, "vocabulary": SYMBOLS}

    @classmethod
    def steps_in_epoch(cls, facts, **settings):
        return settings["examples"] // settings["batch_size"]

    @property
    def steps_per_epoch(self):
        return self.inputs.shape[1] // self.batch_size

    def _loader(self, split, shuffle=False):
        inputs = self.inputs[split]
        return DataLoader(TensorDataset(inputs, inputs[:, 0]), self.batch_size, shuffle, drop_last=True)

    def train_dataloader(self):
        return self._loader(0, shuffle=True)

    def val_dataloader(self):
        return [self._loader(1), self._loader(2)]


class FirstSymbol(Task):
    metrics: Mapping[str, Metric] = {
        "loss": Metric("nats", digits=4),
        "accuracy": Metric("accuracy", "higher", 3),
    }
    monitor = "val/accuracy"
    headline = "test/accuracy"

    def __init__(self, network, optimizer):
        super().__init__(network, optimizer)
        self.accuracy = MetricCollection(
            {split: MulticlassAccuracy(SYMBOLS) for split in ("val", "test")}, compute_groups=False
        )

    def loss(self, batch, split):
        inputs, answers = batch
        logits = self.network(inputs)[:, -1]
        if split != "train":
            self.accuracy[split].update(logits, answers)
        return F.cross_entropy(logits, answers, reduction="sum"), torch.tensor(len(answers))

    def values(self, split, loss):
        accuracy = self.accuracy[split].compute()
        self.accuracy[split].reset()
        return {"accuracy": accuracy}
'''
TASK_YAML = """
# @package _global_
defaults:
  - override /data: generated
data:
  name: first_symbol
  module:
    _target_: first_symbol.FirstSymbolData
    batch_size: ${data.batch_size}
    length: ${data.length}
    examples: 256
task:
  _target_: first_symbol.FirstSymbol
"""
MEASURE = '''
"""A toy: the norm of each parameter, and of all together."""

from dataclasses import dataclass

from diffmamba.errors import SettingError
from diffmamba.measures import Measure, Row
from diffmamba.metric import Metric


@dataclass(frozen=True)
class ParameterNorm(Measure):
    order: float = 2.0

    metrics = {"norm": Metric("norm", digits=2)}
    headline = "norm"

    def check_network(self, network):
        if not any(True for _ in network.parameters()):
            raise SettingError("measure.order: there is no parameter")
        if self.order < 1:
            raise SettingError(f"measure.order={self.order} is no norm of {network.vocabulary_size} symbols")

    def rows(self, subject):
        subject.keep("order.txt", str(self.order).encode())
        norms = {name: weight.norm(self.order).item() for name, weight in subject.network.named_parameters()}
        yield Row("norm", sum(norm**self.order for norm in norms.values()) ** (1 / self.order))
        for name, norm in norms.items():
            yield Row("norm", norm, {"parameter": name})
'''
MEASURE_YAML = """
_target_: parameter_norm.ParameterNorm
order: 2.0
"""
TINY = (
    *("model=mamba", "model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.d_model=32", "scale.headdim=16"),
    *("scale.d_state=8", "scale.batch_size=16", "scale.length=3", "trainer=cpu", "logger=csv", "threads=1"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the user's four files."""
    for place, content in {
        "first_symbol.py": TASK,
        "conf/experiments/first_symbol.yaml": TASK_YAML,
        "parameter_norm.py": MEASURE,
        "conf/measure/norm.yaml": MEASURE_YAML,
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("first_symbol", "parameter_norm"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def do(*settings: str) -> Record:
    return execute(work_of(composed([*TINY, *settings])), progress_bar=False)


def test_a_second_task_is_trained_recorded_and_summed_up(folder: Path) -> None:
    settings = ("experiments=first_symbol", "scale.steps=null", "scale.epochs=6", "scale.evaluate_every=24")
    record = do(*settings)
    assert record["status"] == "finished"
    assert record["progress"] == {"step": 96, "steps": 96}
    last = record["evaluations"][-1]
    assert last["test/accuracy"] > 0.9  # of 4 symbols: chance is 0.25
    assert {"test/loss", "val/loss", "val/accuracy"} <= last.keys()
    assert (record["task"]["headline"], record["task"]["metrics"]["accuracy"]["better"]) == ("test/accuracy", "higher")
    assert f"test accuracy {last['test/accuracy']:.3f}" in summary(record, folder / "runs")
    best = max(entry["val/accuracy"] for entry in record["evaluations"])
    steps = [entry["step"] for entry in record["evaluations"] if entry["val/accuracy"] == best]
    checkpoint = torch.load(RunStore("runs").run(record["id"]).checkpoint("best"), weights_only=True)
    assert checkpoint["global_step"] == steps[0]
    assert do(*settings)["finished"] == record["finished"]  # not trained again
    assert do(*settings, "data.module.examples=128")["id"] != record["id"]


def test_a_second_measure_is_a_work_of_the_store(folder: Path) -> None:
    settings = ("experiments=first_symbol", "scale.steps=4", "scale.evaluate_every=4", "measure=norm")
    measured = do(*settings, "weights=trained")
    assert measured["status"] == "finished"
    assert set(RunStore("runs").records()) == {measured["id"], measured["weights"]["run"]}
    work = work_of(composed([*TINY, *settings[:3]]))
    assert isinstance(work, Training)
    assert measured["weights"] == {"kind": "OfRun", "run": work.identity(), "checkpoint": "last", "step": 4}
    rows = read_rows(RunStore("runs").run(measured["id"]))
    by_parameter = rows[rows.parameter.notna()]
    assert measured["values"]["norm"] == pytest.approx((by_parameter.value**2).sum() ** 0.5)
    assert figures(measured) == f"norm {measured['values']['norm']:.2f}"
    assert (RunStore("runs").run(measured["id"]).directory / "order.txt").read_text() == "2.0"
    with pytest.raises(SettingError, match=r"^measure.order=0.5 is no norm of 4 symbols$"):
        do(*settings, "weights=trained", "measure.order=0.5", "seed=7")
    assert len(RunStore("runs").records()) == 2  # nothing was trained
    given = do("measure=norm", "weights=run", f"weights.run={work.identity()}", "experiments=first_symbol")
    assert given["id"] == measured["id"]  # the same weights, however they are named
    fresh = do(*settings, "weights=fresh")
    assert fresh["id"] != measured["id"]
    assert fresh["values"]["norm"] != measured["values"]["norm"]
