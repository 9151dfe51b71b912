"""What the mixers of a network attend to, on text and where something is to be found.

Differential mixers are said to give less attention to what does not matter. On a text one does not know what matters,
so there it is told how wide the attention is and how far back it goes. On examples of recall (`data=needle`, or MAD's)
one knows it: the symbol that is asked for.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.data import Data, LanguageModellingData, SyntheticData
from diffmamba.data.data import of_a_corpus
from diffmamba.data.sliding import SlidingWindows, require_window
from diffmamba.errors import SettingError
from diffmamba.measures.allocation import Asked, readings, shared_out, uniform
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.streamed import streamed
from diffmamba.metric import Metric
from diffmamba.mixers import Mixer
from diffmamba.mixers.implicit_attention import Attended, attended, require_known
from diffmamba.models import LanguageModel
from diffmamba.models.backbone import ResidualBlock
from diffmamba.ranges import Count, Size

UNIFORM, OUTPUT = "uniform", "output"
MOST = 16  # positions of a window, unless another number is asked for
Place = tuple[int, str]
"""A residual block, counted from 1 (0: none), and a part of what it attends to."""


@dataclass(frozen=True)
class ImplicitAttention(Measure):
    """Entropy, reach, and mass on what is asked for, of each mixer's weights (see `mixers.implicit_attention`).

    Figures of the whole are means over the mixers of the part `output`.

    Args:
        split: test, val or train.
        examples: windows of a text, spread evenly over the split, or the first so many examples.
        window: symbols in a window of a text; None is as in training.
        positions: so many of a window of a text, spread evenly over its second half, are those whose weights are looked
            at; None is 16, or the whole half of a small window.
        batch: windows or examples at once.
        heads: whether there are rows for each head of the matrices, too.
        cells: rows and columns of a map of the first example; 0 is no map.
    """

    split: Literal["test", "val", "train"] = "test"
    examples: Size = 32
    window: Count | None = None
    positions: Count | None = None
    batch: Size = 8
    heads: bool = False
    cells: Count = 0

    metrics: ClassVar[Mapping[str, Metric]] = {
        "entropy": Metric("entropy, bits"),
        "own": Metric("mass on the own position", digits=4),
        "first": Metric("mass on the first position", digits=4),
        "distance": Metric("mean distance", digits=2),
        "needle": Metric("mass on the needle", "higher", 4),
        "distractors": Metric("mass on distractors", digits=4),
        "rest": Metric("mass on the rest", digits=4),
        "snr": Metric("needle over elsewhere", "higher", 3),
        "selectivity": Metric("needle over distractors", "higher", 3),
        "accuracy": Metric("share right", "higher", 4),
    }
    headline = "entropy"

    def completed(self, settings: Mapping[str, Any]) -> "ImplicitAttention":
        window = self.window or settings["data"]["length"]
        return replace(self, window=window, positions=self.positions or max(1, min(MOST, window // 2)))

    def over(self, facts: Mapping[str, Any]) -> "ImplicitAttention":
        """Examples of recall have no windows."""
        return self if of_a_corpus(facts) else replace(self, window=None, positions=None)

    def check(self, data: Data) -> None:
        if isinstance(data, SyntheticData):
            if not (data.rule.examples(self.split, 1, data.seed).gaps > 0).any():
                name = data.facts["name"]
                raise SettingError(f"measure=attention: no answer of {name} stands in its context; use data=needle")
        elif not isinstance(data, LanguageModellingData):
            name = data.facts["name"]
            raise SettingError(f"measure=attention needs a text or examples of recall, and {name} is neither")
        else:
            length = self._windows(data).length
            if cast(int, self.positions) > length // 2:
                raise SettingError(
                    f"measure.positions={self.positions} must be at most half of a window, which has {length} symbols; "
                    f"use fewer, or raise measure.window"
                )

    def check_network(self, network: nn.Module) -> None:
        if not isinstance(network, LanguageModel):
            raise SettingError(f"measure=attention needs a language model, and this is a {type(network).__name__}")
        if not (found := mixers(network)):
            raise SettingError("measure=attention needs a language model with mixers; set model.layer=[mixer]")
        for mixer in found.values():
            require_known(mixer)

    @torch.inference_mode()
    def rows(self, subject: Subject) -> Iterator[Row]:
        """Sums what each batch gives, and no more than one batch is in memory."""
        assert isinstance(subject.network, LanguageModel)
        reach = max(conv.kernel_size[0] - 1 for conv in [*_convolutions(subject.network), nn.Conv1d(1, 1, 1)])
        sums, maps, right, done = Sums(), dict[Place, Tensor](), [0, 0], 0
        for symbols, targets, asked in self._batches(subject.data, reach):
            weights = {(0, UNIFORM): uniform(asked, symbols.shape[1])}
            hidden = _looked_at(subject, symbols, asked.rows, weights)
            if asked.marks is not None:
                told_symbols = subject.network.predicted(hidden[:, asked.rows], None).argmax(-1).cpu()
                right[0] += int((told_symbols == targets[:, asked.rows])[asked.counted].sum())
                right[1] += int(asked.counted.sum())
            for place, found in weights.items():
                sums.add(place, found, asked)
            if self.cells and not done:
                maps = _maps(subject, symbols[:1], self.cells)
            done += len(symbols)
            subject.progress(done, self.examples)
        yield from sums.figures()
        if right[1]:
            yield Row("accuracy", right[0] / right[1])
        yield from sums.rows(self.heads)
        for (block, part), cells in maps.items():
            for row, column in torch.ones_like(cells).tril().nonzero().tolist():
                where = {"block": block, "part": part, "row": row, "column": column}
                yield Row("map", cells[row, column].item(), where)

    def _batches(self, data: Data, reach: int) -> Iterator[tuple[Tensor, Tensor, Asked]]:
        """Symbols, targets, and the rows that are looked at."""
        if isinstance(data, SyntheticData):
            examples = data.splits[self.split].at(np.arange(min(self.examples, len(data.splits[self.split].inputs))))
            tensors = (torch.from_numpy(np.array(part)) for part in (examples.inputs, examples.targets, examples.gaps))
            for inputs, targets, gaps in zip(*(one.split(self.batch) for one in tensors), strict=True):
                yield inputs, targets, Asked.of_answers(inputs, targets, gaps, reach)
        else:
            for inputs, targets, _ in self._windows(data):
                yield inputs, targets, Asked.of_text(len(inputs), inputs.shape[1], cast(int, self.positions))

    def _windows(self, data: Data) -> SlidingWindows:
        assert isinstance(data, LanguageModellingData)
        assert self.window is not None
        symbols = data.corpus.split(self.split)
        require_window(self.window, symbols, self.split)
        return SlidingWindows(symbols, self.window, self.window, self.batch, self.examples)


class Sums:
    """Sums of readings, by residual block and part, for each head."""

    def __init__(self) -> None:
        self._sums: dict[Place, dict[str | int, Tensor]] = defaultdict(dict)
        self._counts: dict[Place, int] = defaultdict(int)

    def add(self, place: Place, weights: Tensor, asked: Asked) -> None:
        """Takes in the weights `(batch, heads, rows, length)` of a batch."""
        for name, values in readings(weights, asked).items():
            summed = (values * asked.counted[:, None]).sum((0, 2))
            self._sums[place][name] = self._sums[place].get(name, torch.zeros(())) + summed
        self._counts[place] += int(asked.counted.sum())

    def figures(self) -> Iterator[Row]:
        """Means over the mixers, of the whole output of each."""
        outputs = [self._means(place) for place in self._sums if place[1] == OUTPUT]
        means = {name: torch.stack([one[name] for one in outputs]).mean(0) for name in outputs[0]}
        yield from (Row(name, value) for name, value in told(means).items())

    def rows(self, heads: bool) -> Iterator[Row]:
        """Of each part of each block, as a mean over its heads; of each head, if asked; by distance, over blocks."""
        by_part = defaultdict(list)
        for place in self._sums:
            where: dict[str, int | str] = {"part": place[1]} | ({"block": place[0]} if place[0] else {})
            means = self._means(place)
            by_part[place[1]].append({name: value.mean() for name, value in means.items()})
            yield from (Row(name, value, where) for name, value in told(means).items())
            single = heads and place[1] not in (UNIFORM, OUTPUT)  # these are of all heads together
            for head in range(len(means["entropy"]) if single else 0):
                own = told({name: value[head] for name, value in means.items()})
                yield from (Row(name, value, where | {"head": head + 1}) for name, value in own.items())
        for part, found in by_part.items():
            if part != UNIFORM:
                over_blocks = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
                yield from (Row(name, value, {"part": part}) for name, value in told(over_blocks).items())
            for start in (name for name in found[0] if isinstance(name, int)):
                mass = torch.stack([one[start] for one in found]).mean().item()
                yield Row("mass", mass, {"part": part, "distance": start})

    def _means(self, place: Place) -> dict[str | int, Tensor]:
        """Means over rows, `(heads,)`."""
        return {name: summed / self._counts[place] for name, summed in self._sums[place].items()}


def told(means: Mapping[str | int, Tensor]) -> dict[str, float]:
    """The figures of `metrics` in means of readings, over heads. Ratios are those of means.

    A mean share of a position is over the rows that have such a position.
    """
    found = {name: means[name].mean().item() for name in ImplicitAttention.metrics if name in means}
    if "needle" in found:
        each = {name: _each(means, name) for name in ("needle", "distractors", "elsewhere")}
        ratios = {"snr": each["elsewhere"], "selectivity": each["distractors"]}
        found |= {name: each["needle"] / others for name, others in ratios.items() if others}
    return found


def _each(means: Mapping[str | int, Tensor], name: str) -> float:
    """The mean share of a position of these; 0 where there is none."""
    there = means[f"{name}_there"].mean().item()
    return means[f"{name}_each"].mean().item() / there if there else 0.0


def mixers(network: LanguageModel) -> dict[int, Mixer]:
    """The mixers by the number of their residual block, counted from 1."""
    layers = (cast(ResidualBlock, block).layer for block in network.backbone.blocks)
    return {number: layer for number, layer in enumerate(layers, 1) if isinstance(layer, Mixer)}


def _convolutions(network: LanguageModel) -> list[nn.Conv1d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv1d)]


def _looked_at(subject: Subject, symbols: Tensor, rows: Tensor, weights: dict[Place, Tensor]) -> Tensor:
    """Puts the weights of these rows into `weights`, and gives the output of the backbone."""

    def visit(index: int, block: ResidualBlock, x: Tensor, state: Any) -> None:
        if isinstance(block.layer, Mixer):
            with torch.autocast(x.device.type, enabled=False):
                read = block.read(x).to(next(block.layer.parameters()).dtype)
                found = attended(block.layer, read, rows.to(x.device))
            for part, own in _parts(found):
                weights[index + 1, part] = own.cpu()

    (hidden,) = streamed(cast(LanguageModel, subject.network), [subject.to_device(symbols)], visit)
    return hidden


def _parts(found: Attended) -> Iterator[tuple[str, Tensor]]:
    """The names of the parts and their weights `(batch, heads, rows, length)`; the output is one of all heads."""
    for number, weights in enumerate(found.branches, 1):
        yield f"branch{number}", weights
    if found.difference is not None:
        yield "difference", found.difference
    yield OUTPUT, found.output.norm(dim=-1)[:, None]


def _maps(subject: Subject, symbols: Tensor, cells: int) -> dict[Place, Tensor]:
    """Maps `(cells, cells)` of one example: the mean over heads and rows of a cell, summed over its columns.

    The example is read anew for every few rows, so that no more of them are in memory than in the measurement.
    """
    found: dict[Place, Tensor] = {}
    positions = torch.arange(symbols.shape[1])
    of_cell = F.one_hot(positions * min(cells, len(positions)) // len(positions)).double()
    of_rows = (of_cell / of_cell.sum(0)).T
    for rows in positions.split(MOST):
        weights: dict[Place, Tensor] = {}
        _looked_at(subject, symbols, rows, weights)
        for place, own in weights.items():
            cells_here = of_rows[:, rows] @ shared_out(own, rows)[0].mean((0, 1)) @ of_cell
            found[place] = found.get(place, torch.zeros(())) + cells_here
    return found
