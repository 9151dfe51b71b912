"""Sequence mixers: modules `(batch, length, d_model)` → the same, that also decode step by step."""

from diffmamba.mixers.attention import Attention, MapDifference, OneMap
from diffmamba.mixers.combine import Difference, Single
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.mixers.mixer import Mixer

__all__ = ["Attention", "Difference", "Mamba2", "MapDifference", "Mixer", "OneMap", "Single"]
