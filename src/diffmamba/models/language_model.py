"""The language model: from symbols to the logits, or to the loss, of the next symbol."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from diffmamba.mixers.mixer import State
from diffmamba.models.backbone import Backbone
from diffmamba.models.embeddings import AdaptiveEmbedding, TiedEmbedding, UntiedEmbedding
from diffmamba.ranges import Size

Embedding = TiedEmbedding | UntiedEmbedding | AdaptiveEmbedding


class Embedded(nn.Module):
    """A backbone between an embedding and the softmax of the same embedding: what networks of symbols share.

    Args:
        vocabulary_size: number of symbols.
        backbone: a module that maps `(batch, length, d_model)` to the same shape, or a function without arguments that
            builds it. The function is called before the embedding is built, so the backbone always draws its random
            numbers first.
        d_model: width of the backbone; None takes `backbone.d_model`.
        embedding: builds the embedding, one of `diffmamba.models.embeddings`, from `(vocabulary_size, d_model)`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        backbone: Backbone | Callable[[], Backbone],
        d_model: Size | None = None,
        embedding: Callable[..., nn.Module] = TiedEmbedding,
    ):
        super().__init__()
        built = cast(Backbone, backbone if isinstance(backbone, nn.Module) else backbone())
        self.vocabulary_size = vocabulary_size
        width = built.d_model if d_model is None else d_model
        self.embedding = cast(Embedding, embedding(vocabulary_size, width))
        self.backbone = built

    def predicted(self, hidden: Tensor, targets: Tensor | None) -> Tensor:
        """The logits of hidden states `(batch, length, d_model)`, or with targets -ln p of each."""
        return self.embedding.logits(hidden) if targets is None else self.embedding.nats(hidden, targets)


class LanguageModel(Embedded):
    """Predicts the next symbol from each position."""

    def forward(self, symbols: Tensor, targets: Tensor | None = None) -> Tensor:
        """symbols `(batch, length)` → logits `(batch, length, vocabulary_size)`.

        With targets `(batch, length)` it returns -ln p of each target instead, in nats and in the same shape. It is 0
        where the target is -100. An adaptive softmax does not compute all logits for this.
        """
        return self.predicted(self.backbone(self.embedding.embed(symbols)), targets)

    def extend(self, symbols: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Reads further symbols `(batch, length)` from the states on. Returns their logits and the next states."""
        hidden, states = self.backbone.extend(self.embedding.embed(symbols), states)
        return self.embedding.logits(hidden), states

    def allocate_state(self, batch: int) -> list[State]:
        """The states before the first symbol, one per block."""
        return self.backbone.allocate_state(batch)
