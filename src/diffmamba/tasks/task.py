"""What every task shares: the steps of training and evaluation, and what a record says of the task.

A new task is a subclass with `loss`, and with the metrics it gives.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torchmetrics import MeanMetric, MetricCollection

from diffmamba.metric import Metric, described
from diffmamba.tasks.optimization import AdamW

SPLITS = ("val", "test")


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; training stops there."""


class Task(L.LightningModule):
    """Trains a network and evaluates it on the splits val and test, the first and the second validation loader.

    Logs `{val,test}/loss` and `{val,test}/NAME` for the other metrics. The loss of a training step is left to the
    recorder, which logs it at intervals: Lightning's own way takes 1.5 ms, also at the steps that are not logged.

    Args:
        network: what is trained.
        optimizer: how.
    """

    version: ClassVar[int] = 1
    """Raised when the meaning of a result changes: runs of another version are other runs."""
    metrics: ClassVar[Mapping[str, Metric]] = {"loss": Metric("loss")}
    """What an evaluation gives for each split."""
    monitor: ClassVar[str] = "val/loss"
    """The metric whose best checkpoint is kept."""
    headline: ClassVar[str] = "test/loss"
    """The metric that tables show."""

    def __init__(self, network: nn.Module, optimizer: AdamW):
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.details: dict[str, Any] = {}
        """What the last evaluation gives beside its metrics, such as lists, as plain data for the record."""
        self._losses: list[Tensor] = []  # of the parts of the last step
        self.means = MetricCollection({split: MeanMetric() for split in SPLITS}, compute_groups=False)

    @abstractmethod
    def loss(self, batch: Any, split: str) -> tuple[Tensor, Tensor]:
        """The sum of the losses of a batch, and the number of targets they are of.

        `split` is train, val or test. A task with metrics of its own updates them here for val and test.
        """

    def values(self, split: str, loss: Tensor) -> dict[str, Tensor]:
        """The metrics of a split beside its mean `loss`, at the end of an evaluation."""
        return {}

    @classmethod
    def described(cls) -> dict[str, Any]:
        """What a record says of this task."""
        return described(cls.__name__, cls.version, cls.headline, cls.metrics, monitor=cls.monitor)

    def training_step(self, batch: Any, index: int) -> Tensor:
        """The mean over the targets of this step on all devices; with accumulated parts, over those of each part."""
        total, count = self.loss(batch, "train")
        devices = self.trainer.world_size
        if devices > 1:  # Lightning averages over devices, whatever the number of targets on each
            count = count.clone()
            distributed.all_reduce(count)
        loss = total * devices / count.clamp(min=1)
        self._losses = [*self._losses, loss.detach()][-self.trainer.accumulate_grad_batches :]
        if loss.device.type == "cpu":  # to look at a GPU's loss is to wait for it; there the recorder looks
            self.finite(loss, "training")
        return loss

    def step_loss(self) -> Tensor:
        """Loss of the last training step: the mean over its parts and over devices, all of which must ask."""
        loss = torch.stack(self._losses).mean()
        return self.finite(self.trainer.strategy.reduce(loss, reduce_op="mean"), "training")

    def validation_step(self, batch: Any, index: int, dataloader_idx: int = 0) -> None:
        split = SPLITS[dataloader_idx]
        total, count = self.loss(batch, split)  # no targets at all where other devices have a window more
        loss = self.finite(total / count.clamp(min=1), split)  # the metric would leave NaN out
        self.means[split].update(loss, weight=count)

    def on_validation_epoch_end(self) -> None:
        for split, mean in self.means.items():
            loss = mean.compute()
            mean.reset()
            self.log(f"{split}/loss", loss)
            for name, value in self.values(split, loss).items():
                self.log(f"{split}/{name}", self.finite(value, f"{split} {name} of the"), prog_bar=True)

    def finite(self, loss: Tensor, kind: str) -> Tensor:
        """The loss itself. Raises NonFiniteLossError if it is NaN or infinite."""
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the {kind} loss is {loss.item()} at step {self.global_step}")
        return loss

    def configure_model(self) -> None:
        """Under `trainer.strategy=fsdp`, divides every residual block among the devices, and then what is left."""
        if self.device_mesh is not None:
            for block in self.network.backbone.blocks:  # type: ignore[union-attr]
                fully_shard(block, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        return self.optimizer.build(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning sets this name 46 times a step. A module looks for parameters each time, 0.25 ms in all."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)
