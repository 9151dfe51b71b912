"""Does a model that reads its own output forget where it came from? The largest exponent of the closed loop.

A model that feeds itself a symbol is a system whose exponents say nothing: a small change of the state changes no
symbol, or it changes one and is no longer small. So the loop is closed without a choice: the model is fed the mean
embedding of its own prediction. With logits l_t, temperature T and embeddings E `(symbols, d_model)`,

    e_{t+1} = softmax(l_t / T) · E

The state of this system is what all mixers remember, with e_t. At T = 1 the model is fed the mean of all symbols that
it could say; as T goes to 0 it is fed the likeliest one, as in greedy decoding. Teacher-forced exponents are never
above 0. Here they may be: the loop goes through all weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from diffmamba.data import Data
from diffmamba.errors import SettingError
from diffmamba.measures.exponents import benettin
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.state_space import layers_of, mixers_of, split_of
from diffmamba.metric import Metric
from diffmamba.mixers import Mixer
from diffmamba.models.generation import generate
from diffmamba.models.language_model import LanguageModel
from diffmamba.ranges import Count, Positive, Size, Steps

SEED = 0
"""Of the first directions, the same for all models."""
Distance = Annotated[float, Ge(1e-9), Le(1e-2)]
"""Above the rounding of float64, of which a smaller distance would be made, and small enough for a linear response."""


@dataclass(frozen=True)
class FreeRunning(Measure):
    """The largest exponent of the closed loop, in float64, and how often greedy text diverges.

    Args:
        split: test, val or train: where the prompts are from, spread evenly.
        prompt: symbols that are read before the loop is closed.
        starts: trajectories, each from a prompt of its own.
        temperatures: of the fed distribution, each measured by itself; `exponent` is that of the first one.
        settle: steps in the loop before those that count.
        steps: steps that count.
        every: steps from one measurement of the distance to the next.
        size: distance of the two trajectories at the start and after each measurement.
        greedy: symbols that are decoded greedily, from each prompt and from one whose first symbol is another; 0: none.
    """

    split: Literal["test", "val", "train"] = "test"
    prompt: Size = 64
    starts: Size = 4
    temperatures: Sequence[Positive] = (1.0, 0.3, 0.1)
    settle: Count = 256
    steps: Steps = 512
    every: Size = 4
    size: Distance = 1e-6
    greedy: Count = 256

    metrics: ClassVar[Mapping[str, Metric]] = {
        "exponent": Metric("largest exponent, nats per symbol", "", 4),
        "spread": Metric("standard deviation of the exponents of the starts", "", 4),
        "drift": Metric("second half of the steps minus the first", "", 4),
        "positive": Metric("share of starts above 0", "", 3),
        "diverged": Metric("share of greedy texts that diverge", "", 3),
    }
    headline = "exponent"
    reads_corpus_alone = True
    in_float64 = True

    def check(self, data: Data) -> None:
        if not self.temperatures:
            raise SettingError("measure.temperatures=[] must have at least one temperature")
        symbols = len(split_of(data, self.split, "free_running"))
        if symbols < self.prompt:
            raise SettingError(f"measure.prompt={self.prompt} is more than the {symbols} symbols of {self.split}")

    def check_network(self, network: nn.Module) -> None:
        if not isinstance(network, LanguageModel):
            raise SettingError("measure=free_running needs a language model, which reads its own output")
        known = mixers_of(network, "free_running").values()
        if any(isinstance(layer, Mixer) and layer not in known for layer in layers_of(network)):
            raise SettingError("measure=free_running needs a state of fixed size, and attention remembers all symbols")

    @torch.no_grad()
    def rows(self, subject: Subject) -> Iterator[Row]:
        model = deepcopy(cast(LanguageModel, subject.network)).double()
        prompts = subject.to_device(self._prompts(subject.data))
        growth = self._growth(model, prompts)
        for place, temperature in enumerate(self.temperatures):
            figures = _figures(growth[:, place])
            if place == 0:
                yield from (Row(name, value) for name, value in figures.items())
            yield from (Row(name, value, {"temperature": temperature}) for name, value in figures.items())
            for start, value in enumerate(growth[:, place].mean(0).tolist()):
                yield Row("exponent", value, {"temperature": temperature, "start": start})
        if self.greedy:
            yield Row("diverged", self._diverged(model, prompts))

    def _growth(self, model: LanguageModel, prompts: Tensor) -> Tensor:
        """How fast the difference grows: `(measurements, temperatures, starts)`, in nats per symbol."""
        each = torch.tensor(self.temperatures, dtype=torch.float64, device=prompts.device)
        loop = ClosedLoop(model, each.repeat_interleave(len(prompts)))
        growth = benettin(
            loop.step,
            loop.after(prompts.repeat(len(each), 1)),
            steps=self.steps,
            every=self.every,
            size=self.size,
            settle=self.settle,
            draw=torch.Generator().manual_seed(SEED),
        )
        return growth.unflatten(1, (len(each), -1)).cpu()

    def _diverged(self, model: LanguageModel, prompts: Tensor) -> float:
        """The share of starts whose greedy text is another one after a prompt whose first symbol was changed."""
        changed = prompts.clone()
        changed[:, 0] = (changed[:, 0] + 1) % model.vocabulary_size
        said = torch.stack(list(generate(model, torch.cat([prompts, changed]), self.greedy, temperature=0)), dim=1)
        return (said[: len(prompts)] != said[len(prompts) :]).any(1).double().mean().item()

    def _prompts(self, data: Data) -> Tensor:
        """`(starts, prompt)`, int64."""
        symbols: Any = split_of(data, self.split, "free_running")
        first = np.linspace(0, len(symbols) - self.prompt, self.starts).astype(np.int64)
        return torch.from_numpy(np.stack([symbols[at : at + self.prompt] for at in first]).astype(np.int64))


def _figures(growth: Tensor) -> dict[str, float]:
    """Those of one temperature, of `(measurements, starts)`."""
    found, half = growth.mean(0), len(growth) // 2
    drift = growth[half:].mean() - growth[:half].mean() if half else torch.zeros(())
    return {
        "exponent": found.mean().item(),
        "spread": found.std(correction=0).item(),
        "drift": drift.item(),
        "positive": (found > 0).double().mean().item(),
    }


class ClosedLoop:
    """The model that reads the mean embedding of its own prediction, as a map of vectors.

    A vector `(numbers,)` is the state of every mixer, number by number, and then the embedding that is fed next.
    `temperature` holds those of the vectors, `(batch,)`; of twice as many, both halves have the same.
    """

    def __init__(self, model: LanguageModel, temperature: Tensor):
        self.model, self.temperature = model, temperature
        like = next(model.parameters())
        self.embeddings = model.embedding.embed(torch.arange(model.vocabulary_size, device=like.device)[None])[0]
        self.shapes = [[part.shape[1:] for part in state or ()] for state in model.allocate_state(1)]

    def after(self, prompts: Tensor) -> Tensor:
        """The vectors after symbols `(batch, length)` were read: `(batch, numbers)`."""
        logits, states = self.model.extend(prompts, self.model.allocate_state(len(prompts)))
        return self._packed(logits[:, -1], states)

    def step(self, vectors: Tensor) -> Tensor:
        """The next vectors: `(batch, numbers)` → the same shape."""
        sizes = [shape.numel() for shapes in self.shapes for shape in shapes]
        *parts, fed = vectors.split([*sizes, self.embeddings.shape[1]], dim=1)
        remaining = iter(parts)
        states = [tuple(next(remaining).unflatten(1, shape) for shape in shapes) or None for shapes in self.shapes]
        hidden, following = self.model.backbone.extend(fed[:, None], states)
        return self._packed(self.model.embedding.logits(hidden[:, 0]), following)

    def _packed(self, logits: Tensor, states: Sequence[Any]) -> Tensor:
        temperature = self.temperature.repeat(len(logits) // len(self.temperature))
        fed = (logits / temperature[:, None]).softmax(-1) @ self.embeddings
        return torch.cat([*(part.flatten(1) for state in states for part in state or ()), fed], dim=1)
