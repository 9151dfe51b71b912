"""The auto-encoder: reads a sequence, and tells all of its symbols from what it knows at the last position."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from diffmamba.models.backbone import Backbone
from diffmamba.models.embeddings import TiedEmbedding
from diffmamba.models.language_model import Embedding
from diffmamba.ranges import Size


class AutoEncoder(nn.Module):
    """Embedding, backbone as encoder, a decoder that reads the last position alone, and a softmax.

    As in the suite of MAD (arXiv 2403.17844): the state of the last position plus the sine and cosine vector of each
    position goes through RMSNorm, Linear, GELU, RMSNorm, Linear, GELU, RMSNorm, and then to logits, one position apart
    from the other. There the linear layers start from N(0, 0.02²). Here they start as PyTorch's do, which at the
    published width of 1024 has a standard deviation of 0.018 and suits other widths too.

    Args:
        vocabulary_size: number of symbols.
        backbone: as in `LanguageModel`. The norm at its end is left out, since the decoder begins with one.
        length: positions of a sequence.
        d_model: width of the backbone; None takes `backbone.d_model`.
        embedding: as in `LanguageModel`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        backbone: Backbone | Callable[[], Backbone],
        length: Size,
        d_model: Size | None = None,
        embedding: Callable[..., nn.Module] = TiedEmbedding,
    ):
        super().__init__()
        built = cast(Backbone, backbone if isinstance(backbone, nn.Module) else backbone())
        self.vocabulary_size = vocabulary_size
        width = built.d_model if d_model is None else d_model
        self.embedding = cast(Embedding, embedding(vocabulary_size, width))
        self.backbone = built
        self.backbone.final_norm = nn.Identity()
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(length, width), persistent=False)
        layers = [(nn.RMSNorm(width, eps=1e-5), nn.Linear(width, width), nn.GELU()) for _ in range(2)]
        self.decoder = nn.Sequential(*(part for layer in layers for part in layer), nn.RMSNorm(width, eps=1e-5))

    def forward(self, symbols: Tensor) -> Tensor:
        """symbols `(batch, length)` → logits `(batch, length, vocabulary_size)`, each from the last position."""
        last = self.backbone(self.embedding.embed(symbols))[:, -1:]
        return self.embedding.logits(self.decoder(last + self.positions))


def sine_positions(length: int, width: int) -> Tensor:
    """A vector for each position `(length, width)`: sines, then cosines, of wavelengths from 2π to 20,000π."""
    half = width // 2
    angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(half) / max(1, half - 1))
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(length, width - 2 * half)], dim=1)
