"""The loss and the metrics of next-symbol prediction."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F

from diffmamba.data.streams import IGNORED
from diffmamba.tasks import AdamW, LanguageModelling, NonFiniteLossError

OPTIMIZER = AdamW(learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.999), warmup_steps=2, schedule_steps=10)


class Table(nn.Module):
    """Probabilities of the next symbol that depend on the current one alone."""

    def __init__(self, symbols: int = 5) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(symbols, symbols, generator=torch.Generator().manual_seed(0)))

    def forward(self, symbols: Tensor, targets: Tensor | None = None) -> Tensor:
        logits = self.logits[symbols]
        return logits if targets is None else F.cross_entropy(logits.mT, targets, reduction="none")


def new_task(devices: int = 1) -> LanguageModelling:
    """A task whose trainer is a stand-in."""
    made = LanguageModelling(Table(), OPTIMIZER)
    alone = SimpleNamespace(reduce=lambda loss, reduce_op: loss)
    made._trainer = SimpleNamespace(accumulate_grad_batches=1, strategy=alone, global_step=0, world_size=devices)
    return made


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> LanguageModelling:
    made = new_task()
    made.logged = {}
    monkeypatch.setattr(made, "log", lambda name, value, **_: made.logged.update({name: value.item()}))
    return made


def sequence(length: int) -> tuple[Tensor, Tensor]:
    symbols = torch.randint(5, (1, length + 1), generator=torch.Generator().manual_seed(length))
    return symbols[:, :-1], symbols[:, 1:].clone()


def nats(task: LanguageModelling, inputs: Tensor, targets: Tensor) -> list[float]:
    """What each target costs, one by one; an ignored one costs nothing."""
    table = task.network.logits.double().log_softmax(dim=-1)
    pairs = zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True)
    return [-table[before, after].item() for before, after in pairs if after != IGNORED]


def masked(length: int, counted: int) -> tuple[Tensor, Tensor]:
    """A batch in which only the first targets count."""
    inputs, targets = sequence(length)
    targets[:, counted:] = IGNORED
    return inputs, targets


def plain(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """PyTorch's own cross entropy of all batches together, and its gradient."""
    inputs, targets = (torch.cat(parts, dim=1) for parts in zip(*batches, strict=True))
    network = Table()
    loss = F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    loss.backward()
    return loss.detach(), network.logits.grad


@pytest.mark.parametrize("counted", [12, 7, 1])
def test_the_training_loss_is_the_mean_over_the_targets_that_count(task: LanguageModelling, counted: int) -> None:
    batch = masked(12, counted)
    loss = task.training_step(batch, 0)
    assert task.step_loss() == loss
    loss.backward()
    torch.testing.assert_close((loss.detach(), task.network.logits.grad), plain([batch]))


def test_a_batch_without_a_target_has_no_gradient(task: LanguageModelling) -> None:
    loss = task.training_step(masked(12, 0), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert not task.network.logits.grad.any()


UNEQUAL = [(12, 3), (7, 0), (0, 1)]  # targets that count on each of two devices


def train_as_rank(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    task, found = new_task(devices=2), []
    for counts in UNEQUAL:
        loss = task.training_step(masked(12 + rank, counts[rank]), 0)
        task.network.zero_grad()
        loss.backward()
        for value in (loss.detach(), task.network.logits.grad):
            distributed.all_reduce(value)
            found.append(value / 2)  # as Lightning does
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_devices_with_unequal_numbers_of_targets_are_one_batch(tmp_path: Path) -> None:
    multiprocessing.start_processes(train_as_rank, (tmp_path,), nprocs=2, start_method="fork")
    expected = [value for one, other in UNEQUAL for value in plain([masked(12, one), masked(13, other)])]
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)


def test_the_loss_of_a_step_is_the_mean_over_the_parts_of_a_step(task: LanguageModelling) -> None:
    task.trainer.accumulate_grad_batches = 3
    for step in range(2):
        losses = [task.training_step(sequence(4 + 3 * step + part), 3 * step + part).item() for part in range(3)]
        assert task.step_loss().item() == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_symbols_that_are_not_predicted_cost_nothing(task: LanguageModelling) -> None:
    batch = masked(12, 7)
    for index in (0, 1):
        task.validation_step(batch, 0, dataloader_idx=index)
    task.on_validation_epoch_end()
    assert task.logged["val/loss"] == task.logged["test/loss"] == pytest.approx(plain([batch])[0].item(), rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_without_a_predicted_symbol_changes_no_metric(task: LanguageModelling, place: int) -> None:
    """A rank has one where others have a window more."""

    def evaluate(batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        for index in (0, 1):
            for number, batch in enumerate(batches):
                task.validation_step(batch, number, dataloader_idx=index)
        task.on_validation_epoch_end()
        return dict(task.logged)

    batches = [sequence(9), sequence(4)]
    nothing = torch.zeros(2, 5, dtype=torch.long), torch.full((2, 5), IGNORED)
    expected = evaluate(batches)
    assert set(expected) == {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "ppl", "bpc")}
    assert evaluate([*batches[:place], nothing, *batches[place:]]) == expected


def test_metrics_weigh_symbols_and_not_batches(task: LanguageModelling) -> None:
    splits: list[list[tuple[Tensor, Tensor]]] = [[sequence(9), sequence(2)], [sequence(4), sequence(7), sequence(1)]]
    splits[0][1][1][0, 1] = IGNORED
    for index, batches in enumerate(splits):
        for place, batch in enumerate(batches):
            task.validation_step(batch, place, dataloader_idx=index)
    task.on_validation_epoch_end()
    for name, batches in zip(("val", "test"), splits, strict=True):
        costs = [cost for batch in batches for cost in nats(task, *batch)]
        mean = sum(costs) / len(costs)
        assert task.logged[f"{name}/loss"] == pytest.approx(mean, rel=1e-6)
        assert task.logged[f"{name}/ppl"] == pytest.approx(math.exp(mean), rel=1e-5)
        assert task.logged[f"{name}/bpc"] == pytest.approx(math.log2(math.exp(mean)), rel=1e-6)


def test_evaluations_do_not_mix(task: LanguageModelling) -> None:
    def evaluate(batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
        for index in (0, 1):
            task.validation_step(batch, 0, dataloader_idx=index)
        task.on_validation_epoch_end()
        return dict(task.logged)

    first = evaluate(sequence(6))
    assert evaluate(sequence(8)) != first
    assert evaluate(sequence(6)) == first


def test_evaluation_does_not_leave_out_what_is_not_finite(task: LanguageModelling) -> None:
    """Else a model that has diverged on some windows only would look better than it is."""
    with torch.no_grad():
        task.network.logits[4] = math.nan
    task.validation_step((torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)), 0)
    with pytest.raises(NonFiniteLossError, match=r"val.* nan at step 0"):
        task.validation_step((torch.full((1, 2), 4), torch.full((1, 2), 3)), 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_training(task: LanguageModelling, value: float) -> None:
    with torch.no_grad():
        task.network.logits[0] = value
    batch = torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(NonFiniteLossError, match="step 0"):
        task.training_step(batch, 0)
