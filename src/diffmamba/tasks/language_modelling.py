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
    Logs `train/loss` and `{val,test}/{loss,ppl,bpc}`.
    """

    def __init__(self, network: LanguageModel, optimizer: AdamW):
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self._step_loss: Tensor | float = 0.0  # sum over the parts of a step so far
        self.nats = MetricCollection({split: MeanMetric() for split in SPLITS}, compute_groups=False)

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
        part = index % self.trainer.accumulate_grad_batches
        self._step_loss = loss.detach() if part == 0 else self._step_loss + loss.detach()
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        due = every > 0 and (self.global_step + 1) % every == 0
        if due:  # at every step, `log` would take a millisecond
            self.log("train/loss", self._step_loss / (part + 1), prog_bar=True, sync_dist=True)
        if due or loss.device.type == "cpu":  # looking at a GPU's loss waits for it
            self._finite(loss, "training")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0) -> None:
        split = SPLITS[dataloader_idx]
        predicted = (batch[1] != IGNORED).sum()  # none of them where other ranks have a window more
        loss = self._finite(self.network(*batch).sum() / predicted.clamp(min=1), split)  # the metric leaves NaN out
        self.nats[split].update(loss, weight=predicted)

    def on_validation_epoch_end(self) -> None:
        for split, nats in self.nats.items():
            loss = nats.compute()
            nats.reset()
            self.log(f"{split}/loss", loss)
            self.log(f"{split}/ppl", self._finite(loss.exp(), f"exponential of the {split}"), prog_bar=True)
            self.log(f"{split}/bpc", loss / math.log(2))

    def _finite(self, loss: Tensor, kind: str) -> Tensor:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the {kind} loss is {loss.item()} at step {self.global_step}")
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizer.build(self)
