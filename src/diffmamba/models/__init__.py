"""Models: residual blocks around mixers, embeddings and heads, and generation."""

from diffmamba.models.auto_encoder import AutoEncoder
from diffmamba.models.backbone import Backbone
from diffmamba.models.embeddings import AdaptiveEmbedding, TiedEmbedding, UntiedEmbedding, embedding
from diffmamba.models.generation import generate
from diffmamba.models.language_model import LanguageModel

__all__ = [
    "AdaptiveEmbedding",
    "AutoEncoder",
    "Backbone",
    "LanguageModel",
    "TiedEmbedding",
    "UntiedEmbedding",
    "embedding",
    "generate",
]
