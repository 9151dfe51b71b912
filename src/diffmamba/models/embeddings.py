"""Embeddings: how symbols enter a language model, and how the same vectors predict the next symbol.

`TiedEmbedding` has a vector of full width for each symbol (Text8, Enwik8). `AdaptiveEmbedding` gives rare symbols
narrower vectors, and predicts in two steps: first a cluster of symbols, then the symbol in it. Its sources are Grave et
al. (arXiv 1609.04309) for the output, Baevski and Auli (arXiv 1809.10853) for the input, and Transformer-XL (arXiv
1901.02860) for sharing the vectors. It is for large vocabularies: WikiText-103 has 267,735 words, for which a full
table of width 1024 has 274M parameters, and each position 267,735 logits. `UntiedEmbedding` has vectors for the input
and others for the output.

All have the methods `embed`, `logits` and `nats`. As in PyTorch's losses, a target of -100 is ignored.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.ranges import Dropout, Size


class TiedEmbedding(nn.Embedding):
    """One table `(vocabulary_size, d_model)` for the input and for a full softmax.

    Its entries start from N(0, 1/d_model), and the input is multiplied by √d_model, as in Transformer-XL. So inputs
    have variance 1, and the tied logits start small. The paper does not state this.
    """

    def __init__(self, vocabulary_size: int, d_model: int):
        super().__init__(vocabulary_size, d_model)
        self.scale = d_model**0.5
        nn.init.normal_(self.weight, std=1 / self.scale)

    def embed(self, symbols: Tensor) -> Tensor:
        """symbols `(batch, length)` → `(batch, length, d_model)`."""
        return self(symbols) * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `(..., d_model)` → `(..., vocabulary_size)`."""
        return F.linear(hidden, self.weight)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-ln p of each target in nats, in the shape of targets; 0 where the target is -100."""
        return _nats(self.logits(hidden).flatten(0, -2), targets.flatten()).view_as(targets)


class UntiedEmbedding(nn.Embedding):
    """A table `(vocabulary_size, d_model)` for the input, and a linear layer with a bias for a full softmax.

    Entries start from N(0, 0.02²), and biases from 0, as in the suite of MAD (arXiv 2403.17844).
    """

    def __init__(self, vocabulary_size: int, d_model: int):
        super().__init__(vocabulary_size, d_model)
        nn.init.normal_(self.weight, std=0.02)
        self.head = nn.Linear(d_model, vocabulary_size)
        nn.init.zeros_(self.head.bias)

    def embed(self, symbols: Tensor) -> Tensor:
        """symbols `(batch, length)` → `(batch, length, d_model)`."""
        return self(symbols)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `(..., d_model)` → `(..., vocabulary_size)`."""
        return self.head(hidden)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-ln p of each target in nats, in the shape of targets; 0 where the target is -100."""
        return _nats(self.logits(hidden).flatten(0, -2), targets.flatten()).view_as(targets)


class AdaptiveEmbedding(nn.Module):
    """Symbols in clusters by frequency: [0, c1), [c1, c2), ..., [ck, vocabulary_size). Each is narrower than the last.

    Cluster i has vectors of width `d_model // div_val**i` and a projection to d_model. The output uses the same vectors
    and projections, except that the first cluster has a second projection for the output. This is so in Transformer-XL,
    and it gives the published parameter counts of WikiText-103: 167M and 169M (with one projection 166M and 168M). The
    first softmax is over the symbols of the first cluster and one logit for each other cluster:

        p(symbol) = p(symbol | first softmax)                             in the first cluster
        p(symbol) = p(cluster | first softmax) · p(symbol | its cluster)  in the others

    The logits of a cluster are computed only for the positions whose target is in that cluster.

    Vectors start from N(0, 1/d_model), projections from N(0, 1/width), and biases from 0. Inputs are multiplied by
    √d_model. So inputs and logits have variance 1 in every cluster. The paper does not state this.

    Args:
        vocabulary_size: number of symbols, the most frequent first.
        d_model: width of the model and of the first cluster.
        cutoffs: the first symbol of every cluster after the first one, in ascending order.
        div_val: each cluster is this many times narrower than the one before.
        embedding_dropout: probability of dropout of the embedded inputs.
        softmax_dropout: probability of dropout of the projected outputs, before each cluster's logits.

    Raises:
        SettingError: if cutoffs do not ascend within the vocabulary, or div_val leaves a cluster without width.
    """

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        cutoffs: Sequence[Size],
        div_val: Size = 4,
        embedding_dropout: Dropout = 0.0,
        softmax_dropout: Dropout = 0.0,
    ):
        super().__init__()
        _check(vocabulary_size, d_model, cutoffs, div_val)
        borders = [0, *cutoffs, vocabulary_size]
        widths = [d_model // div_val**i for i in range(len(borders) - 1)]
        self.scale = d_model**0.5
        self.borders = borders
        self.cutoffs: Tensor
        self.register_buffer("cutoffs", torch.tensor(list(cutoffs)), persistent=False)
        sizes = [high - low for low, high in pairwise(borders)]
        self.vectors = nn.ParameterList(
            nn.Parameter(torch.randn(size, width) / self.scale) for size, width in zip(sizes, widths, strict=True)
        )
        self.projections = nn.ParameterList(nn.Parameter(torch.randn(d_model, width) / width**0.5) for width in widths)
        self.head_projection = nn.Parameter(torch.randn(d_model, d_model) / self.scale)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.clusters = nn.Linear(d_model, len(cutoffs))
        nn.init.normal_(self.clusters.weight, std=1 / self.scale)
        nn.init.zeros_(self.clusters.bias)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.softmax_dropout = nn.Dropout(softmax_dropout)

    def embed(self, symbols: Tensor) -> Tensor:
        """symbols `(batch, length)` → `(batch, length, d_model)`."""
        flat = symbols.flatten()
        cluster = self._cluster(flat)
        parts, rows = [], []
        for i, (vectors, projection) in enumerate(zip(self.vectors, self.projections, strict=True)):
            row = (cluster == i).nonzero()[:, 0]  # may be empty: on every rank every parameter must get a gradient
            parts.append(F.linear(F.embedding(flat[row] - self.borders[i], vectors), projection))
            rows.append(row)
        embedded = torch.cat(parts)[torch.cat(rows).argsort()].view(*symbols.shape, -1)
        return self.embedding_dropout(embedded * self.scale)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `(..., d_model)` → ln p of every symbol `(..., vocabulary_size)`. Used to decode, not to train."""
        first = _at_least_float32(self._first(hidden)).log_softmax(-1)
        size = self.borders[1]
        tails = [
            first[..., size + i - 1, None] + _at_least_float32(self._tail(i, hidden)).log_softmax(-1)
            for i in range(1, len(self.vectors))
        ]
        return torch.cat([first[..., :size], *tails], dim=-1)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-ln p of each target in nats, in the shape of targets; 0 where the target is -100."""
        rows, flat = hidden.flatten(0, -2), targets.flatten()
        cluster = self._cluster(flat)
        nats = _nats(self._first(rows), torch.where(cluster == 0, flat, self.borders[1] + cluster - 1))
        for i in range(1, len(self.vectors)):
            row = (cluster == i).nonzero()[:, 0]
            nats = nats.index_add(0, row, _nats(self._tail(i, rows[row]), flat[row] - self.borders[i]))
        return nats.view_as(targets)

    def _cluster(self, symbols: Tensor) -> Tensor:
        return torch.bucketize(symbols.contiguous(), self.cutoffs, right=True)

    def _first(self, hidden: Tensor) -> Tensor:
        """Logits of the symbols in the first cluster, then of the other clusters."""
        projected = self.softmax_dropout(hidden @ self.head_projection)
        symbols = F.linear(projected, self.vectors[0], self.bias[: self.borders[1]])
        return torch.cat([symbols, self.clusters(projected)], dim=-1)

    def _tail(self, i: int, hidden: Tensor) -> Tensor:
        """Logits of the symbols in cluster i, for positions where this is the cluster."""
        projected = self.softmax_dropout(hidden @ self.projections[i])
        return F.linear(projected, self.vectors[i], self.bias[self.borders[i] : self.borders[i + 1]])


def embedding(
    cutoffs: Sequence[Size] | None = None,
    div_val: Size = 4,
    embedding_dropout: Dropout = 0.0,
    softmax_dropout: Dropout = 0.0,
) -> Callable[..., nn.Module]:
    """The embedding that a configuration asks for, to be called with `(vocabulary_size, d_model)`.

    Without cutoffs it is `TiedEmbedding`, which has no settings, so the others are ignored. With cutoffs it is
    `AdaptiveEmbedding` with all of them.
    """
    if cutoffs is None:
        return TiedEmbedding
    return partial(
        AdaptiveEmbedding,
        cutoffs=cutoffs,
        div_val=div_val,
        embedding_dropout=embedding_dropout,
        softmax_dropout=softmax_dropout,
    )


def _check(vocabulary_size: int, d_model: int, cutoffs: Sequence[int], div_val: int) -> None:
    whole = isinstance(cutoffs, Sequence) and all(type(cutoff) is int for cutoff in cutoffs)
    if not whole or not cutoffs or any(low >= high for low, high in pairwise([0, *cutoffs, vocabulary_size])):
        raise SettingError(
            f"model.embedding.cutoffs={cutoffs} must be whole numbers that ascend and lie below the corpus's "
            f"{vocabulary_size} symbols; for example model.embedding.cutoffs={_suggested(vocabulary_size)}; "
            "model/embedding=full needs none"
        )
    if d_model < div_val ** len(cutoffs):
        raise SettingError(
            f"model.embedding.div_val={div_val} leaves the last of {len(cutoffs) + 1} clusters no width at "
            f"d_model={d_model}"
        )


def _suggested(vocabulary_size: int) -> str:
    """Cut-offs at about the same shares of the vocabulary as those of WikiText-103, written as on a command line."""
    cutoffs = sorted({max(1, vocabulary_size * share // 100) for share in (7, 15, 75)})
    return f"[{','.join(map(str, cutoffs))}]"


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(_at_least_float32(logits), targets, reduction="none")


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
