"""Labelling: macro accuracy, the loss, and the details of a record, against plain NumPy."""

import json
import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from diffmamba.data import FuzzyInContextRecall, InContextRecall
from diffmamba.data.examples import SyntheticData
from diffmamba.data.streams import IGNORED
from diffmamba.tasks import NonFiniteLossError
from tests.labelled import Alone

SYMBOLS, LENGTH = 7, 9


class Table(nn.Module):
    """Logits that depend on the symbol and on its position."""

    vocabulary_size = SYMBOLS

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(LENGTH, SYMBOLS, SYMBOLS, generator=torch.Generator().manual_seed(0)))

    def forward(self, symbols: Tensor) -> Tensor:
        return self.table[torch.arange(symbols.shape[1]), symbols]


def split_of(seed: int, examples: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets of which many are left out, and gaps; symbol 6 is no target."""
    random = np.random.default_rng(seed)
    inputs, targets = random.integers(SYMBOLS, size=(examples, LENGTH)), random.integers(6, size=(examples, LENGTH))
    targets[random.random(targets.shape) < 0.4] = IGNORED
    return inputs, targets, random.integers(LENGTH + 1, size=targets.shape)


def batches(split: tuple[np.ndarray, ...], *ends: int) -> list[tuple[Tensor, ...]]:
    pairs = zip((0, *ends), (*ends, None), strict=True)
    return [tuple(torch.from_numpy(part[start:end]) for part in split) for start, end in pairs]


def plain(task: Alone, split: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """The definition, of a whole split: answers, those that count, and the macro accuracy."""
    inputs, targets, gaps = split
    logits = task.network(torch.from_numpy(inputs)).detach().double().numpy()
    counted = targets != IGNORED
    right = logits.argmax(-1) == targets
    shares = [right[targets == symbol].mean() for symbol in set(targets[counted].tolist())]
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets.clip(0)[..., None], -1)[..., 0]
    numbers = {"class": targets, "position": np.broadcast_to(np.arange(LENGTH), targets.shape), "gap": gaps}
    details = {}
    for kind, at in numbers.items():
        here = counted & (gaps > 0) if kind == "gap" else counted
        values = sorted(set(at[here].tolist()))
        details[kind] = {
            "at": values,
            "accuracy": [round(float(right[here & (at == value)].mean()), 5) for value in values],
            "count": [int((here & (at == value)).sum()) for value in values],
        }
    return {"accuracy": np.mean(shares), "loss": nats[counted].mean(), "details": details}


def test_metrics_are_those_of_a_whole_split_however_it_is_divided() -> None:
    task = Alone(Table())
    splits = [split_of(1), split_of(2, 37)]
    expected = [plain(task, split) for split in splits]
    for ends in ([], [1, 20], [*range(1, 37, 4)]):
        logged = task.evaluate(*(batches(split, *ends) for split in splits))
        for name, values in zip(("val", "test"), expected, strict=True):
            assert logged[f"{name}/accuracy"] == pytest.approx(values["accuracy"], rel=1e-6)
            assert logged[f"{name}/loss"] == pytest.approx(values["loss"], rel=1e-6)
        assert task.details == {"test": expected[1]["details"]}
        assert set(logged) == {f"{name}/{metric}" for name in ("val", "test") for metric in ("accuracy", "loss")}
    accuracies = [values["accuracy"] for values in expected]
    assert accuracies[0] != accuracies[1]


def answering(answers: dict[int, int]) -> Alone:
    """A task whose network answers so to symbol 0 at each of these positions."""
    task = Alone(Table())
    task.network.table.data[:] = 0
    for position, answer in answers.items():
        task.network.table.data[position, 0, answer] = 1
    return task


def test_a_symbol_that_is_no_target_is_no_class_also_where_it_is_answered() -> None:
    """A wrong answer costs its share of the target's class, and as much whatever symbol it is."""
    inputs, targets = torch.zeros(1, 4, dtype=torch.long), torch.tensor([[0, 1, 1, IGNORED]])
    for wrong in range(SYMBOLS):
        if wrong != 1:
            logged = answering(dict(enumerate((0, 1, wrong, 5)))).evaluate([(inputs, targets)], [(inputs, targets)])
            assert logged["test/accuracy"] == logged["val/accuracy"] == pytest.approx((1 + 0.5) / 2)


def test_a_target_that_is_never_answered_is_a_class() -> None:
    """So a constant answer has the accuracy of chance, whatever the numbers of answers are."""
    inputs, targets = torch.zeros(1, 6, dtype=torch.long), torch.tensor([[2, 2, 2, 2, 3, 4]])
    logged = answering(dict.fromkeys(range(6), 2)).evaluate([(inputs, targets)], [(inputs, targets)])
    assert logged["test/accuracy"] == logged["val/accuracy"] == pytest.approx(1 / 3)


def test_evaluations_do_not_mix() -> None:
    task, one, other = Alone(Table()), batches(split_of(1)), batches(split_of(2))
    first, details = task.evaluate(one, one), task.details
    assert task.evaluate(other, other) != first
    assert task.details != details
    assert task.evaluate(one, one) == first
    assert task.details == details


def test_a_batch_without_a_target_or_without_an_example_changes_nothing() -> None:
    """A rank has one where others have an example more."""
    task, some = Alone(Table()), batches(split_of(3))
    expected, details = task.evaluate(some, some), task.details
    nothing = tuple(torch.full((2, LENGTH), value) for value in (0, IGNORED, 0))
    none = tuple(part[:0] for part in nothing)
    for batch in (nothing, none):
        assert task.evaluate([batch, *some], [*some, batch]) == expected
        assert task.details == details


@pytest.mark.filterwarnings("error")
def test_batches_without_gaps_have_no_details_of_them() -> None:
    task, some = Alone(Table()), [batch[:2] for batch in batches(split_of(3))]
    task.evaluate(some, some)
    assert set(task.details["test"]) == {"class", "position"}


def test_the_training_loss_is_the_mean_over_all_targets_of_a_batch_and_leaves_the_metrics_alone() -> None:
    task, (inputs, targets, gaps) = Alone(Table()), split_of(4)
    loss = task.training_step((torch.from_numpy(inputs), torch.from_numpy(targets)), 0)
    assert loss.item() == pytest.approx(plain(task, (inputs, targets, gaps))["loss"], rel=1e-6)
    loss.backward()
    assert task.network.table.grad is not None
    assert not any(metric.update_called for metric in (*task.classes.values(), *task.places.values()))


def test_what_is_not_finite_stops_an_evaluation() -> None:
    task = Alone(Table())
    task.network.table.data[0] = math.nan
    with pytest.raises(NonFiniteLossError, match=r"test loss is nan at step 0"):
        task.validation_step(batches(split_of(1))[0], 0, dataloader_idx=1)


@pytest.mark.parametrize("rule", [InContextRecall(12, 20), FuzzyInContextRecall(9, 30, 2)])
def test_every_answer_of_the_recall_tasks_is_counted_once_by_class_position_and_gap(rule: Any) -> None:
    data = SyntheticData(rule=rule, examples=8, evaluated=30, batch_size=8, eval_batch_size=7, seed=0)
    table = nn.Embedding(rule.vocabulary, rule.vocabulary)
    table.vocabulary_size = rule.vocabulary  # type: ignore[assignment]
    task = Alone(table)
    task.evaluate(*data.val_dataloader())
    targets, gaps = data.splits["test"].targets, data.splits["test"].gaps
    for kind, numbers in (("class", targets), ("gap", gaps), ("position", np.nonzero(targets >= 0)[1])):
        at, counts = np.unique(numbers[numbers >= (1 if kind == "gap" else 0)], return_counts=True)
        assert task.details["test"][kind]["at"] == at.tolist()
        assert task.details["test"][kind]["count"] == counts.tolist()
        assert sum(counts) == (targets >= 0).sum()


def one_rank(rank: int, place: Path, rule: Any, sizes: dict[str, int]) -> None:
    """Evaluates a rank's share of the examples, and writes what the ranks together found."""
    distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=2)
    (place / f"{rank}.json").write_text(json.dumps(evaluated(rule, sizes, rank, 2)))
    distributed.destroy_process_group()


def evaluated(rule: Any, sizes: dict[str, int], rank: int = 0, world_size: int = 1) -> Any:
    data = SyntheticData(rule=rule, **sizes)  # type: ignore[arg-type]
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    task = Alone(Table())
    return [task.evaluate(*data.val_dataloader()), task.details]


@pytest.mark.parametrize("size", [1, 3])
def test_two_ranks_find_what_one_finds(tmp_path: Path, size: int) -> None:
    """Of 7 examples one has 4 and the other 3, in as many batches."""
    rule = InContextRecall(SYMBOLS, LENGTH + 1)
    sizes = {"examples": 8, "evaluated": 7, "batch_size": 8, "eval_batch_size": size, "seed": 0}
    forked = multiprocessing.get_context("fork")  # an import takes seconds
    ranks = [forked.Process(target=one_rank, args=(rank, tmp_path, rule, sizes)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(100)
        assert rank.exitcode == 0
    logged, details = evaluated(rule, sizes)
    for number in range(2):
        its, of_all = json.loads((tmp_path / f"{number}.json").read_text())
        assert its == pytest.approx(logged, rel=1e-6)
        assert of_all == details
