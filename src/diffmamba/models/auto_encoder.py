"""The auto-encoder: reads a sequence, and tells all of its symbols from what it knows at the last position."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffmamba.models.backbone import Backbone
from diffmamba.models.embeddings import TiedEmbedding
from diffmamba.models.language_model import Embedded
from diffmamba.ranges import Size


class AutoEncoder(Embedded):
    """Embedding, backbone as encoder, a decoder that reads the last position alone, and a softmax.

    As in the suite of MAD (arXiv 2403.17844): the state of the last position plus the sine and cosine vector of each
    position goes through RMSNorm, Linear, GELU, RMSNorm, Linear, GELU, RMSNorm, and then to logits, one position apart
    from the other. There the linear layers start from N(0, 0.02²). Here they start as PyTorch's do, which at the
    published width of 1024 has a standard deviation of 0.018 and suits other widths too.

    The arguments are those of `Embedded`. The norm at the end of the backbone is left out, since the decoder begins
    with one.
    """

    def __init__(
        self,
        vocabulary_size: int,
        backbone: Backbone | Callable[[], Backbone],
        d_model: Size | None = None,
        embedding: Callable[..., nn.Module] = TiedEmbedding,
    ):
        super().__init__(vocabulary_size, backbone, d_model, embedding)
        self.backbone.final_norm = nn.Identity()
        width = self.backbone.d_model if d_model is None else d_model
        layers = [(nn.RMSNorm(width, eps=1e-5), nn.Linear(width, width), nn.GELU()) for _ in range(2)]
        self.decoder = nn.Sequential(*(part for layer in layers for part in layer), nn.RMSNorm(width, eps=1e-5))

    def forward(self, symbols: Tensor, targets: Tensor | None = None) -> Tensor:
        """symbols `(batch, length)` → logits `(batch, length, vocabulary_size)`, each from the last position.

        With targets it returns -ln p of each instead, as `LanguageModel` does.
        """
        last = self.backbone(self.embedding.embed(symbols))[:, -1:]
        return self.predicted(self.decoder(last + sine_positions(symbols.shape[1], last)), targets)


def sine_positions(length: int, like: Tensor) -> Tensor:
    """A vector for each position `(length, width)`: sines, then cosines, of wavelengths from 2π to 20,000π.

    Width, device and number type are those of a tensor `(..., width)`.
    """
    width, device = like.shape[-1], like.device
    half = width // 2
    rates = 10_000 ** (-torch.arange(half, device=device) / max(1, half - 1))
    angles = torch.arange(length, device=device)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos(), angles.new_zeros(length, width - 2 * half)], dim=1)
    return waves.to(like.dtype)
