"""An optimiser step of a language model, as a call that can be timed."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.passes import precision
from benchmarks.timing import Call
from diffmamba.models import LanguageModel


def training_step(network: LanguageModel, symbols: Tensor) -> Call:
    """Loss, backward and fused AdamW on symbols `(batch, length + 1)`."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    inputs, labels = symbols[:, :-1], symbols[:, 1:]

    def step() -> None:
        optimizer.zero_grad()
        with precision(symbols.device):
            loss = F.cross_entropy(network(inputs).flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()

    return step
