"""The training loop around the model, against a bare one, and the data that it is fed, against what it is asked for."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.record import Section
from diffmamba.data.streams import TrainStreams

TEXT = (
    "A run as `diffmamba.train` makes it (Lightning's loop, record, checkpoints, CSV and W&B offline, metrics) against "
    "the least that trains the same network on the same batches: next batch, loss, backward, AdamW, schedule. Steps of "
    "the two take turns, so that both meet the same machine. Then the loader alone, against the 20M tokens/s asked "
    "for; its floor is each byte read and written once at 8 GB/s."
)
WARM_UP = 20  # steps left out of the measurement
ASKED = 20e6  # tokens per second
COPY_RATE = 8e9  # bytes per second
CORPORA = {  # training splits and batches of the published settings
    "Text8, 170 × 512": (np.uint8, 27, 90_000_000, 170),
    "WikiText-103, 100 × 512": (np.uint32, 267_735, 103_227_021, 100),
}
Batches = Iterable[tuple[Tensor, Tensor]]


def run(bench: Bench) -> Section:
    """The loop's cost at a step of about 20 ms, and the loader's speed."""
    section = Section("loop", "The training loop and the loader", TEXT)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, settings in bench.sizes.loops.items():
            _loop(bench, section, Path(folder) / name.replace(" ", "-"), name, settings)
        _loader(bench, section, Path(folder))
    return section


def _loop(bench: Bench, section: Section, folder: Path, name: str, settings: tuple[str, ...]) -> None:
    steps = bench.sizes.loop_steps + WARM_UP
    bench.tell(f"loop, {name}: {steps} steps of a run and of a bare loop in turns")
    folder.mkdir()
    taken = _train(_words(bench, folder, steps, settings), folder, bench.device)
    sides = (taken["ours"][WARM_UP:], taken["other"][WARM_UP : len(taken["ours"])])
    section.add(f"a run ÷ a bare loop, {name}", *sides, target=bench.target("bare loop"), settings=list(settings))


def _words(bench: Bench, folder: Path, steps: int, settings: tuple[str, ...]) -> list[str]:
    """The command line of the run."""
    text = folder / "text.txt"
    text.write_bytes(np.random.default_rng(0).integers(97, 123, 2_000_000, np.uint8).tobytes())
    return [
        *("model=mamba", "data=text", f"data.path={text}", f"data.directory={folder / 'data'}", f"runs={folder}"),
        *(f"trainer={'gpu' if bench.device.type == 'cuda' else 'cpu'}", f"scale.steps={steps}"),
        *(f"scale.evaluate_every={steps}", "scale.eval_windows=1"),
        *(() if find_spec("wandb") else ("logger=csv",)),
        *settings,
    ]


def _train(words: list[str], folder: Path, device: torch.device) -> dict[str, list[float]]:
    """Trains as `diffmamba.train` does, with steps of a bare loop in turns with its own; the seconds of both.

    The only function here that knows how the package builds and runs a training.
    """
    from diffmamba.configuration import composed
    from diffmamba.runs import RunStore
    from diffmamba.runs.execution import new_record
    from diffmamba.runs.training import train
    from diffmamba.runs.work import Training, build_network

    work = Training.of(composed(words))
    work.check()
    data = work.data
    network = build_network(work.network, data.vocabulary_size).to(device)
    optimizer = work.optimizer.over(work.length.steps).build(network)
    bare_steps = _bare_steps(network, optimizer, data.train_streams(0, 1), device)
    served, seconds = data.train_dataloader, {"ours": [], "other": []}
    data.train_dataloader = lambda: _Turns(served(), bare_steps, seconds)
    found = RunStore(folder).run("loop")
    found.directory.mkdir(parents=True)
    found.write(new_record(work, found, None))
    train(work, found, progress_bar=False)
    return seconds


def _bare_steps(
    network: Callable[..., Tensor], built: dict[str, Any], batches: Batches, device: torch.device
) -> Iterator[Tensor]:
    """Trains a network of its own, one step each time it is asked."""
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    for inputs, targets in chain.from_iterable(repeat(batches)):
        optimizer.zero_grad()
        loss = network(inputs.to(device), targets.to(device)).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss


@dataclass
class _Turns:
    """Stands where the loop asks for a batch: what passes between two such moments is the loop's own step.

    Between two batches a step of the bare loop is taken, outside the time of the loop's own.
    """

    streams: TrainStreams
    bare_steps: Iterator[Tensor]
    seconds: dict[str, list[float]]

    def __len__(self) -> int:
        return len(self.streams)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self.streams)
        while True:
            start = _now()
            next(self.bare_steps)
            handed = _now()
            self.seconds["other"].append(handed - start)
            batch = next(batches, None)
            if batch is None:
                return
            yield batch
            self.seconds["ours"].append(_now() - handed)


def _now() -> float:
    """Seconds, after all that was started on a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _loader(bench: Bench, section: Section, folder: Path) -> None:
    for name, (dtype, types, count, batch) in CORPORA.items():
        array = np.memmap(folder / "symbols.bin", dtype, "w+", shape=(count // bench.sizes.loader_share,))
        array[:] = np.random.default_rng(0).integers(0, types, len(array), dtype)
        array.flush()
        symbols = np.memmap(folder / "symbols.bin", dtype, "r")
        length = 512 if bench.sizes.loader_share == 1 else 32
        batches = chain.from_iterable(repeat(TrainStreams(symbols, batch, length)))
        taken = bench.compare(f"loader: {name}", {"loader": lambda: next(batches)})["loader"]  # noqa: B023
        tokens, aim = batch * length, bench.target("loader")
        asked, least = [tokens / ASKED] * len(taken), tokens * (2 * np.dtype(dtype).itemsize + 16) / COPY_RATE
        section.add(f"loader, {name}: against 20M tokens/s", taken, asked, faster=True, target=aim, floor=least)
