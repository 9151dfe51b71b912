"""Next-symbol prediction: PPL = exp(nats per symbol), bpc = nats per symbol / ln 2."""

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from diffmamba.data.streams import IGNORED
from diffmamba.metric import Metric
from diffmamba.tasks.task import Task


class LanguageModelling(Task):
    """Trains a language model on `(inputs, targets)`, both `(batch, length)`; a target of -100 does not count.

    Further parts of a batch are not read. The paper evaluates the test split at every epoch, and so does this.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "ppl": Metric("PPL"),
        "loss": Metric("nats per symbol", digits=4),
        "bpc": Metric("bits per symbol", digits=4),
    }
    headline = "test/ppl"

    def loss(self, batch: tuple[Tensor, ...], split: str) -> tuple[Tensor, Tensor]:
        inputs, targets = batch[:2]
        return self.network(inputs, targets).sum(), (targets != IGNORED).sum()

    def values(self, split: str, loss: Tensor) -> dict[str, Tensor]:
        return {"ppl": loss.exp(), "bpc": loss / math.log(2)}
