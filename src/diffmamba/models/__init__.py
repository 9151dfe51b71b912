"""Models: residual blocks around mixers, embeddings and heads, and generation."""

from diffmamba.models.backbone import Backbone
from diffmamba.models.generation import generate
from diffmamba.models.language_model import LanguageModel

__all__ = ["Backbone", "LanguageModel", "generate"]
