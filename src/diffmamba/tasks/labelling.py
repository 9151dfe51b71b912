"""Labelling: the right symbol at every position that has a target, by macro accuracy; the synthetic tasks of MAD."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric as Measured
from torchmetrics import MetricCollection

from diffmamba.data.streams import IGNORED
from diffmamba.metric import Metric
from diffmamba.tasks.optimization import AdamW
from diffmamba.tasks.task import SPLITS, Task

DIGITS = 5  # of a share of right answers in a record


class AccuracyBy(Measured):
    """The share of right answers by a whole number that each answer has, such as its position."""

    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.zeros(0), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(0), dist_reduce_fx="sum")

    def update(self, right: Tensor, at: Tensor, size: int) -> None:
        """Answers `(answers,)`: whether each is right, and its number, which is below `size`."""
        counts = (at.bincount(right.float(), size), at.bincount(minlength=size).float())
        sizes = self.count.numel()
        self.right, self.count = counts if not sizes else (self.right + counts[0], self.count + counts[1])

    def compute(self) -> dict[str, list[Any]]:
        """The numbers that there are, the share of right answers at each, and how many answers there were."""
        at = self.count.nonzero()[:, 0]
        shares = self.right[at].double() / self.count[at]
        return {"at": at.tolist(), "accuracy": shares.tolist(), "count": self.count[at].int().tolist()}


class Labelling(Task):
    """Trains a network on `(inputs, targets)`, both `(batch, length)`; a target of -100 does not count.

    Accuracy is macro-averaged: the mean, over the symbols that are targets, of the share of their targets that is
    predicted right. It is taken of a whole split at once. A constant answer has 1 / (symbols that are targets).

    The suite of MAD averages over batches, and its metric, torchmetrics' `MulticlassAccuracy`, also counts a symbol
    that is never a target as soon as it is predicted once, with a share of 0. Of a whole split, one such answer among
    ten thousand would take 1/9 from the accuracy of a task with 8 answers.

    Batches of evaluations may have a third part, gaps `(batch, length)`: how many positions back the answer stands.
    """

    version = 2  # 1 counted symbols that are predicted and never a target
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("accuracy", "higher"),
        "loss": Metric("nats per answer", digits=4),
    }
    headline = "test/accuracy"

    def __init__(self, network: nn.Module, optimizer: AdamW):
        super().__init__(network, optimizer)
        self.vocabulary = cast(int, network.vocabulary_size)
        self.classes = MetricCollection({split: AccuracyBy() for split in SPLITS}, compute_groups=False)
        self.places = MetricCollection({kind: AccuracyBy() for kind in ("position", "gap")}, compute_groups=False)

    def loss(self, batch: tuple[Tensor, ...], split: str) -> tuple[Tensor, Tensor]:
        inputs, targets, *gaps = batch
        logits = self.network(inputs)
        counted = targets != IGNORED
        if split != "train":
            self._evaluate(split, logits.argmax(-1), targets, counted, gaps)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"), counted.sum()

    def values(self, split: str, loss: Tensor) -> dict[str, Tensor]:
        shares = self.classes[split].compute()
        self.classes[split].reset()
        if split == "test":
            found = {"class": shares} | {kind: by.compute() for kind, by in self.places.items() if by.update_called}
            self.details = {split: {kind: _rounded(by) for kind, by in found.items() if by["at"]}}
            self.places.reset()
        return {"accuracy": loss.new_tensor(shares["accuracy"]).mean()}

    def _evaluate(self, split: str, found: Tensor, targets: Tensor, counted: Tensor, gaps: list[Tensor]) -> None:
        """Takes the answers `found` `(batch, length)` of a batch into the metrics of its split."""
        answers, right = targets[counted], (found == targets)[counted]
        self.classes[split].update(right, answers, self.vocabulary)
        if split == "test":
            length = targets.shape[1]
            positions = torch.arange(length, device=targets.device).expand_as(targets)[counted]
            self.places["position"].update(right, positions, length)
            if gaps:
                gap = gaps[0][counted]
                self.places["gap"].update(right[gap > 0], gap[gap > 0], length + 1)


def _rounded(by: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return by | {"accuracy": [round(share, DIGITS) for share in by["accuracy"]]}
