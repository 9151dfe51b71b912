"""Sequence mixers: modules from `(batch, length, d_model)` to the same shape, which can also decode step by step."""

from diffmamba.mixers.attention import Attention, MapDifference, OneMap
from diffmamba.mixers.combine import Difference, Single
from diffmamba.mixers.mamba import mamba
from diffmamba.mixers.mamba1 import Mamba1
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.mixers.mixer import Mixer

__all__ = ["Attention", "Difference", "Mamba1", "Mamba2", "MapDifference", "Mixer", "OneMap", "Single", "mamba"]
