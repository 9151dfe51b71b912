"""How long does a state-space model remember? The exponents of its states on a text, in one pass.

Given the inputs, the state of a mixer is multiplied by exp(A · dt) from one position to the next. So each head of
Mamba-2, and each number of the state of a channel of Mamba-1, has one exponent, A · mean dt (`exponents.of_scan`). A
block reads what the blocks before it put out, and never what a later block does. So the Jacobian of all states together
is block triangular, and its exponents are those of all mixers together.

Left out are the parts that have none: feed-forward layers have no state, the inputs that a convolution remembers are
gone after its width (an exponent of -∞), and attention remembers all symbols, so its state has no fixed size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffmamba.data import Data
from diffmamba.errors import SettingError
from diffmamba.measures.exponents import half_life, of_scan
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.state_space import layers_of, mixers_of, split_of
from diffmamba.measures.streamed import streamed
from diffmamba.metric import Metric
from diffmamba.models.language_model import LanguageModel
from diffmamba.ranges import Count, Size

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Lyapunov(Measure):
    """The exponents of all state-space mixers, teacher-forced, in nats per symbol.

    Args:
        split: test, val, train, or all: train, val and test one after the other, as one sequence.
        window: symbols that are read at once; it changes memory and time, not the result. The state is carried on.
        limit: that many symbols from the start of the split; 0 or null is all.
        each: a branch of a block with more exponents than this has only quantiles in the rows. A branch of Mamba-1 has
            channels · d_state of them, for example 32,768 of a model of width 1024.
    """

    split: Literal["test", "val", "train", "all"] = "test"
    window: Size = 2048
    limit: Count | None = None
    each: Count = 4096

    metrics: ClassVar[Mapping[str, Metric]] = {
        "exponent": Metric("largest exponent, nats per symbol", "", 4),
        "half_life": Metric("half-life of the slowest state, symbols", "", 1),
        "median": Metric("median exponent", "", 4),
        "smallest": Metric("smallest exponent", "", 4),
        "positive": Metric("share of exponents above 0", "", 3),
        "exponents": Metric("exponents", "", 0),
        "blocks": Metric("state-space blocks", "", 0),
        "left_out": Metric("blocks without a state of fixed size", "", 0),
        "symbols": Metric("symbols", "", 0),
    }
    headline = "exponent"
    reads_corpus_alone = True

    def check(self, data: Data) -> None:
        if not len(split_of(data, self.split, "lyapunov")):
            raise SettingError(f"measure.split={self.split} has no symbols")

    def check_network(self, network: nn.Module) -> None:
        mixers_of(network, "lyapunov")

    @torch.inference_mode()
    def rows(self, subject: Subject) -> Iterator[Row]:
        mixers = mixers_of(subject.network, "lyapunov")
        symbols = split_of(subject.data, self.split, "lyapunov")[: self.limit or None]
        time_steps = self._time_steps(subject, symbols)
        found = {block: of_scan(mixer, time_steps[block]).cpu().numpy() for block, mixer in mixers.items()}
        together = np.concatenate([of_block.ravel() for of_block in found.values()])
        largest = float(together.max())
        figures = {
            "exponent": largest,
            **({"half_life": half_life(largest)} if largest < 0 else {}),
            "median": float(np.median(together)),
            "smallest": float(together.min()),
            "positive": float((together > 0).mean()),
            "exponents": len(together),
            "blocks": len(mixers),
            "left_out": len(layers_of(subject.network)) - len(mixers),
            "symbols": len(symbols),
        }
        yield from (Row(name, value) for name, value in figures.items())
        for index, of_block in found.items():
            for branch, exponents in enumerate(of_block, start=1):
                yield from self._branch(exponents, {"block": index + 1, "branch": branch})

    def _branch(self, found: np.ndarray, at: dict[str, int]) -> Iterator[Row]:
        """Quantiles of a branch of a block, from the smallest (0) to the largest (1), and each exponent.

        Blocks and branches count from 1; heads, channels and states from 0.
        """
        for share, value in zip(QUANTILES, np.quantile(found, QUANTILES).tolist(), strict=True):
            yield Row("exponent", value, {**at, "quantile": share})
        if found.size > self.each:
            return
        for place in np.ndindex(found.shape):
            names = ("head",) if found.ndim == 1 else ("channel", "state")
            yield Row("exponent", float(found[place]), {**at, **dict(zip(names, place, strict=True))})

    def _time_steps(self, subject: Subject, symbols: np.ndarray) -> dict[int, Tensor]:
        """The mean of dt over the text for each state-space block, `(heads,)` or `(channels,)`, float64."""
        sums: dict[int, Tensor] = {}

        def visit(index: int, block: Any, x: Tensor, state: Any) -> None:
            if index in mixers:
                dt = block.layer.time_steps(block.read(x), state)
                sums[index] = sums.get(index, 0) + dt.sum((0, 1), dtype=torch.float64)

        mixers, done = mixers_of(subject.network, "lyapunov"), 0
        for hidden in streamed(cast(LanguageModel, subject.network), self._windows(subject, symbols), visit):
            done += hidden.shape[1]
            subject.progress(done, len(symbols))
        return {index: total / len(symbols) for index, total in sums.items()}

    def _windows(self, subject: Subject, symbols: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(symbols), self.window):
            window = np.asarray(symbols[start : start + self.window]).astype(np.int64)
            yield subject.to_device(torch.from_numpy(window)[None])
