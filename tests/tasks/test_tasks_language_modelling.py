"""The loss and the metrics of next-symbol prediction."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from diffmamba.data.streams import IGNORED
from diffmamba.tasks import AdamW, LanguageModelling, NonFiniteLossError

OPTIMIZER = AdamW(learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.999), warmup_steps=2, schedule_steps=10)


class Table(nn.Module):
    """Probabilities of the next symbol that depend on the current one alone."""

    def __init__(self, symbols=5):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(symbols, symbols, generator=torch.Generator().manual_seed(0)))

    def forward(self, symbols, targets):
        return F.cross_entropy(self.logits[symbols].mT, targets, reduction="none")


class Task(LanguageModelling):
    """A task whose trainer is a stand-in, and which keeps what it logs."""

    def __init__(self, devices=1):
        super().__init__(Table(), OPTIMIZER)
        alone = SimpleNamespace(reduce=lambda loss, reduce_op: loss)
        self._trainer = SimpleNamespace(accumulate_grad_batches=1, strategy=alone, global_step=0, world_size=devices)
        self.logged = {}

    def log(self, name, value, **_):
        self.logged[name] = value.item()

    def evaluate(self, *splits):
        """What is logged of the batches of val and test; one list is for both."""
        for index, batches in enumerate(splits * (3 - len(splits))):
            for place, batch in enumerate(batches):
                self.validation_step(batch, place, dataloader_idx=index)
        self.on_validation_epoch_end()
        return dict(self.logged)


def sequence(length, counted=None):
    """A batch in which only the first targets count."""
    symbols = torch.randint(5, (1, length + 1), generator=torch.Generator().manual_seed(length))
    inputs, targets = symbols[:, :-1], symbols[:, 1:].clone()
    targets[:, counted if counted is not None else length :] = IGNORED
    return inputs, targets


def plain(batches):
    """PyTorch's own cross entropy of all batches together, and its gradient."""
    inputs, targets = (torch.cat(parts, dim=1) for parts in zip(*batches, strict=True))
    network = Table()
    loss = F.cross_entropy(network.logits[inputs].flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    loss.backward()
    return loss.detach(), network.logits.grad


@pytest.mark.parametrize("counted", [12, 7, 1])
def test_the_training_loss_is_the_mean_over_the_targets_that_count(counted):
    task, batch = Task(), sequence(12, counted)
    loss = task.training_step(batch, 0)
    assert task.step_loss() == loss
    loss.backward()
    torch.testing.assert_close((loss.detach(), task.network.logits.grad), plain([batch]))
    logged = task.evaluate([batch])
    assert logged["val/loss"] == logged["test/loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_a_batch_without_a_target_has_no_gradient():
    task = Task()
    loss = task.training_step(sequence(12, 0), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert not task.network.logits.grad.any()


@pytest.mark.parametrize("counts", [(12, 3), (7, 0), (0, 1)])
def test_devices_with_unequal_numbers_of_targets_are_one_batch(monkeypatch, counts):
    """Each device has its share of the targets; real ones are in `tests/end_to_end/test_run_ranks.py`."""
    batches, task, losses = [sequence(12, counts[0]), sequence(13, counts[1])], Task(devices=2), []
    for batch, others in zip(batches, reversed(counts), strict=True):
        monkeypatch.setattr(distributed, "all_reduce", lambda count, others=others: count.add_(others))
        losses.append(task.training_step(batch, 0) / 2)  # Lightning averages losses and gradients
        losses[-1].backward()
    torch.testing.assert_close((torch.stack(losses).sum().detach(), task.network.logits.grad), plain(batches))


def test_the_loss_of_a_step_is_the_mean_over_the_parts_of_a_step():
    task = Task()
    task.trainer.accumulate_grad_batches = 3
    for step in range(2):
        losses = [task.training_step(sequence(4 + 3 * step + part), 3 * step + part).item() for part in range(3)]
        assert task.step_loss().item() == pytest.approx(sum(losses) / 3, rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_without_a_predicted_symbol_changes_no_metric(place):
    """A rank has one where others have a window more."""
    batches = [sequence(9), sequence(4)]
    nothing = torch.zeros(2, 5, dtype=torch.long), torch.full((2, 5), IGNORED)
    expected = Task().evaluate(batches)
    assert set(expected) == {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "ppl", "bpc")}
    assert Task().evaluate([*batches[:place], nothing, *batches[place:]]) == expected


def test_metrics_weigh_symbols_and_not_batches_and_evaluations_do_not_mix():
    task, splits = Task(), ([sequence(9), sequence(2, 1)], [sequence(4), sequence(7), sequence(1)])
    first = task.evaluate(*splits)
    for name, batches in zip(("val", "test"), splits, strict=True):
        mean = plain(batches)[0].item()
        assert first[f"{name}/loss"] == pytest.approx(mean, rel=1e-6)
        assert first[f"{name}/ppl"] == pytest.approx(math.exp(mean), rel=1e-5)
        assert first[f"{name}/bpc"] == pytest.approx(math.log2(math.exp(mean)), rel=1e-6)
    assert task.evaluate([sequence(8)]) != first
    assert task.evaluate(*splits) == first


def test_evaluation_does_not_leave_out_what_is_not_finite():
    """Else a model that has diverged on some windows only would look better than it is."""
    task = Task()
    task.network.logits.data[4] = math.nan
    task.validation_step((torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)), 0)
    with pytest.raises(NonFiniteLossError, match=r"val.* nan at step 0"):
        task.validation_step((torch.full((1, 2), 4), torch.full((1, 2), 3)), 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_training(value):
    task = Task()
    task.network.logits.data[0] = value
    with pytest.raises(NonFiniteLossError, match="step 0"):
        task.training_step((torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)), 0)
