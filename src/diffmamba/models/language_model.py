"""A language model: symbols in, logits of the next symbol out."""

from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.mixers.mixer import State
from diffmamba.models.backbone import Backbone


class LanguageModel(nn.Module):
    """Embedding, backbone, and a head tied to the embedding (full softmax; the paper's setting for Text8 and Enwik8).

    The embedding starts at N(0, 1/d_model) and is multiplied by √d_model on the way in, as in Transformer-XL, so that
    inputs have unit variance and the tied logits start near zero. The paper is silent here.
    """

    def __init__(self, vocabulary_size: int, backbone: Backbone, d_model: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, d_model)
        self.scale = d_model**0.5
        nn.init.normal_(self.embedding.weight, std=1 / self.scale)
        self.backbone = backbone

    def forward(self, symbols: Tensor) -> Tensor:
        """symbols `(batch, length)` → logits `(batch, length, vocabulary_size)`."""
        return self._logits(self.backbone(self._embed(symbols)))

    def extend(self, symbols: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Logits of further symbols `(batch, length)`, and the states after them."""
        hidden, states = self.backbone.extend(self._embed(symbols), states)
        return self._logits(hidden), states

    def allocate_state(self, batch: int) -> list[State]:
        """The states before the first symbol."""
        return self.backbone.allocate_state(batch)

    def _embed(self, symbols: Tensor) -> Tensor:
        return self.embedding(symbols) * self.scale

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight)
