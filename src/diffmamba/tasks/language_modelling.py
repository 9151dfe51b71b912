"""Next-symbol prediction: PPL = exp(nats per symbol), bpc = nats per symbol / ln 2."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torchmetrics import MeanMetric, MetricCollection

from diffmamba.data.streams import IGNORED
from diffmamba.models import LanguageModel
from diffmamba.tasks.optimization import AdamW

SPLITS = ("val", "test")


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; training stops there."""


class LanguageModelling(L.LightningModule):
    """Trains a language model on `(inputs, targets)`, both `(batch, length)`.

    The validation loaders are the splits val and test: the paper evaluates the test split at every epoch.
    Logs `{val,test}/{loss,ppl,bpc}`. The loss of a training step is left to whoever logs it at intervals: Lightning's
    own way takes a millisecond and a half, also at the steps that are not logged.
    """

    def __init__(self, network: LanguageModel, optimizer: AdamW):
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self._losses: list[Tensor] = []  # of the parts of the last step
        self.nats = MetricCollection({split: MeanMetric() for split in SPLITS}, compute_groups=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning sets this one 46 times a step; a module's own way of setting it looks for parameters: 0.25 ms."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_model(self) -> None:
        """Under `trainer.strategy=fsdp`, divides every residual block among the devices, and then what is left."""
        if self.device_mesh is not None:
            for block in self.network.backbone.blocks:
                fully_shard(block, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def forward(self, symbols: Tensor) -> Tensor:
        return self.network(symbols)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = self.network(*batch).mean()  # every position has a target
        self._losses = [*self._losses, loss.detach()][-self.trainer.accumulate_grad_batches :]
        if loss.device.type == "cpu":  # looking at a GPU's loss waits for it; there whoever logs it looks
            self.finite(loss, "training")
        return loss

    def step_loss(self) -> Tensor:
        """Loss of the last training step: the mean over its parts and over ranks, all of which must ask."""
        loss = torch.stack(self._losses).mean()
        return self.finite(self.trainer.strategy.reduce(loss, reduce_op="mean"), "training")

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0) -> None:
        split = SPLITS[dataloader_idx]
        predicted = (batch[1] != IGNORED).sum()  # none of them where other ranks have a window more
        loss = self.finite(self.network(*batch).sum() / predicted.clamp(min=1), split)  # the metric leaves NaN out
        self.nats[split].update(loss, weight=predicted)

    def on_validation_epoch_end(self) -> None:
        for split, nats in self.nats.items():
            loss = nats.compute()
            nats.reset()
            self.log(f"{split}/loss", loss)
            self.log(f"{split}/ppl", self.finite(loss.exp(), f"exponential of the {split}"), prog_bar=True)
            self.log(f"{split}/bpc", loss / math.log(2))

    def finite(self, loss: Tensor, kind: str) -> Tensor:
        """The loss itself; raises NonFiniteLossError if it is NaN or infinite."""
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the {kind} loss is {loss.item()} at step {self.global_step}")
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizer.build(self)
