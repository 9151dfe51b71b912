"""AdamW as in the paper: which parameters decay, and the learning rate by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Len
from torch import nn

from diffmamba.ranges import Count, Dropout, Size, Weight

UNDECAYED = ("A_log", "dt_bias", "D")  # besides biases and the gains of norms


@dataclass(frozen=True)
class AdamW:
    """The settings of `conf/optimizer/`.

    `schedule_steps` is the length of the cosine, warm-up included, where `schedule` is "published". It is the length
    of the run where `schedule_steps` is None or `schedule` is "to_end". With "constant" there is no cosine.

    The cosine ends at `final_learning_rate`. A learning rate is held for `hold` steps: those of an epoch, for a cosine
    by epoch.
    """

    learning_rate: Weight
    weight_decay: Weight
    betas: Annotated[Sequence[Dropout], Len(2, 2)]
    warmup_steps: Count
    schedule: Literal["published", "to_end", "constant"] = "to_end"
    schedule_steps: Size | None = None
    final_learning_rate: Weight = 0.0
    hold: Size = 1

    def over(self, steps: int) -> "AdamW":
        """The same optimiser with the length of the cosine as a number, for a run of so many steps."""
        if self.schedule == "constant":
            return replace(self, schedule_steps=None, final_learning_rate=0.0, hold=1)
        published = self.schedule_steps if self.schedule == "published" else None
        return replace(self, schedule="published", schedule_steps=published or steps)

    def build(self, module: nn.Module) -> dict[str, Any]:
        """What `LightningModule.configure_optimizers` returns. The length of the cosine must be known (`over`)."""
        groups = parameter_groups(module, self.weight_decay)
        first, second = self.betas
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(first, second), fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def share(self, step: int) -> float:
        """Share of the learning rate at a step."""
        if self.schedule == "constant":
            return min(1.0, (step + 1) / max(1, self.warmup_steps))
        assert self.schedule_steps is not None
        held = step - step % self.hold
        share, final = warmup_cosine(held, self.warmup_steps, self.schedule_steps), self.final_learning_rate
        if held < self.warmup_steps or not final:
            return share
        return share + (1 - share) * final / self.learning_rate


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: decayed, and not (biases, gains of norms, A, D and dt_bias: the paper's published command).

    So embeddings and the parameters of λ decay, which draws λ towards its value at λ̄ = 0.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        *owners, own = name.split(".")
        is_gain = own == "weight" and bool(owners) and "norm" in owners[-1]
        (undecayed if own in UNDECAYED or own == "bias" or is_gain else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]


def warmup_cosine(step: int, warmup_steps: int, schedule_steps: int) -> float:
    """Share of the learning rate at a step: linear over the warm-up, then a cosine down to 0 at schedule_steps."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, schedule_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
