"""Labelling: the right symbol at every position that has a target, by macro accuracy; the synthetic tasks of MAD."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric as Measured
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

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
        shares = (self.right[at].double() / self.count[at]).tolist()
        return {
            "at": at.tolist(),
            "accuracy": [round(share, DIGITS) for share in shares],
            "count": self.count[at].int().tolist(),
        }


class Labelling(Task):
    """Trains a network on `(inputs, targets)`, both `(batch, length)`; a target of -100 does not count.

    Accuracy is macro-averaged: the mean over the symbols that are targets, or are predicted where there is a target, of
    the share of their targets that is predicted right. It is taken of a whole split at once. (The suite of MAD
    averages over batches.)

    Batches of evaluations may have a third part, gaps `(batch, length)`: how many positions back the answer stands.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("accuracy", "higher"),
        "loss": Metric("nats per answer", digits=4),
    }
    headline = "test/accuracy"

    def __init__(self, network: nn.Module, optimizer: AdamW):
        super().__init__(network, optimizer)
        self.vocabulary = cast(int, network.vocabulary_size)
        self.accuracy = MetricCollection(
            {split: MulticlassAccuracy(self.vocabulary, average="macro", validate_args=False) for split in SPLITS},
            compute_groups=False,
        )
        self.by = MetricCollection({kind: AccuracyBy() for kind in ("class", "position", "gap")}, compute_groups=False)

    def loss(self, batch: tuple[Tensor, ...], split: str) -> tuple[Tensor, Tensor]:
        inputs, targets, *gaps = batch
        logits = self.network(inputs)
        counted = targets != IGNORED
        if split != "train":
            self._evaluate(split, logits.argmax(-1), targets, counted, gaps)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"), counted.sum()

    def values(self, split: str, loss: Tensor) -> dict[str, Tensor]:
        accuracy = self.accuracy[split].compute()
        self.accuracy[split].reset()
        if split == "test":
            self.details = {split: {kind: shares for kind, by in self.by.items() if (shares := by.compute())["at"]}}
            self.by.reset()
        return {"accuracy": accuracy}

    def _evaluate(self, split: str, found: Tensor, targets: Tensor, counted: Tensor, gaps: list[Tensor]) -> None:
        """Takes the answers `found` `(batch, length)` of a batch into the metrics of its split."""
        answers, right = targets[counted], (found == targets)[counted]
        self.accuracy[split].update(found[counted], answers)
        if split == "test":
            length = targets.shape[1]
            positions = torch.arange(length, device=targets.device).expand_as(targets)[counted]
            self.by["class"].update(right, answers, self.vocabulary)
            self.by["position"].update(right, positions, length)
            if gaps:
                gap = gaps[0][counted]
                self.by["gap"].update(right[gap > 0], gap[gap > 0], length + 1)
