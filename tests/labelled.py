"""Labelling without a trainer: what it logs of given answers to the examples of a synthetic task."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.tasks import AdamW, Labelling

OPTIMIZER = AdamW(learning_rate=1e-3, weight_decay=0.0, betas=(0.9, 0.999), warmup_steps=0, schedule_steps=10)


class Told(nn.Module):
    """A network whose answers `(batch, length)` are a function of its inputs."""

    def __init__(self, vocabulary: int, answers: Callable[[Tensor], Tensor]):
        super().__init__()
        self.vocabulary_size, self.answers = vocabulary, answers

    def forward(self, symbols: Tensor) -> Tensor:
        return F.one_hot(self.answers(symbols), self.vocabulary_size).float()


class Alone(Labelling):
    """The task with a stand-in for its trainer; it keeps what it logs."""

    def __init__(self, network: nn.Module):
        super().__init__(network, OPTIMIZER)
        self._trainer = SimpleNamespace(global_step=0, world_size=1, accumulate_grad_batches=1)
        self.logged: dict[str, float] = {}

    def log(self, name: str, value: Tensor, **_: Any) -> None:
        self.logged[name] = value.item()

    def evaluate(self, *loaders: Iterable[Any]) -> dict[str, float]:
        """What is logged of the loaders of val and test."""
        with torch.no_grad():
            for index, loader in enumerate(loaders):
                for place, batch in enumerate(loader):
                    self.validation_step(batch, place, dataloader_idx=index)
        self.on_validation_epoch_end()
        return dict(self.logged)
