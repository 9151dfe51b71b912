"""The state-space mixers of a network and the symbols that they read, for measures of these alone."""

from typing import Any

import numpy as np
from torch import nn

from diffmamba.data import Data
from diffmamba.errors import SettingError
from diffmamba.mixers import Mamba1, Mamba2


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers of the residual blocks in their order; none where the network has no such blocks."""
    blocks: Any = getattr(getattr(network, "backbone", None), "blocks", ())
    return [block.layer for block in blocks]


def mixers_of(network: nn.Module, measure: str) -> dict[int, Mamba1 | Mamba2]:
    """The state-space mixers by the index of their residual block, from 0. Raises SettingError if there is none."""
    found = {at: layer for at, layer in enumerate(layers_of(network)) if isinstance(layer, Mamba1 | Mamba2)}
    if not found:
        raise SettingError(
            f"measure={measure} needs state-space layers, and this network has none; choose another model or weights"
        )
    return found


def split_of(data: Data, split: str, measure: str) -> np.ndarray:
    """The symbols of a split. Raises SettingError if the data are no corpus."""
    corpus = getattr(data, "corpus", None)
    if corpus is None:
        raise SettingError(f"measure={measure} needs a corpus, and {data.facts['name']} is none")
    return corpus.split(split)
