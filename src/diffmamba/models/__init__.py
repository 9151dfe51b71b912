"""Models: residual blocks around mixers, embeddings and heads, and generation."""

from diffmamba.models.backbone import Backbone
from diffmamba.models.embeddings import AdaptiveEmbedding, TiedEmbedding, embedding
from diffmamba.models.generation import generate
from diffmamba.models.language_model import LanguageModel

__all__ = ["AdaptiveEmbedding", "Backbone", "LanguageModel", "TiedEmbedding", "embedding", "generate"]
