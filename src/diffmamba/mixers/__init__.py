"""Sequence mixers: modules `(batch, length, d_model)` → the same, that also decode step by step."""

from diffmamba.mixers.combine import Difference, Single
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.mixers.mixer import Mixer

__all__ = ["Difference", "Mamba2", "Mixer", "Single"]
