"""The training loop around the model, against a bare one, and the data that it is fed, against what it is asked for."""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.record import Found, Ratio
from benchmarks.timing import now
from benchmarks.training_step import training_step
from diffmamba.configuration import composed
from diffmamba.data.streams import TrainStreams
from diffmamba.runs import RunStore
from diffmamba.runs.execution import new_record
from diffmamba.runs.training import train
from diffmamba.runs.watched import Watched, memory_gb
from diffmamba.runs.work import Training, build_network

LOGGED_STEPS = 10  # one look for so many steps, as `trainer.log_every_n_steps` has it
WARM_UP = 20  # steps left out of the measurement
ASKED = 20e6  # tokens per second
COPY_RATE = 8e9  # bytes per second
CORPORA = {  # training splits and batches of the published settings
    "Text8, 170 × 512": (np.uint8, 27, 90_000_000, 170),
    "WikiText-103, 100 × 512": (np.uint32, 267_735, 103_227_021, 100),
}


def measure(bench: Bench) -> Found:
    """The loop's cost at a step of about 20 ms, that of what is logged of a network, and the loader's speed."""
    yield _watching(bench)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, settings in bench.sizes.loops.items():
            yield from _loop(bench, Path(folder) / name.replace(" ", "-"), name, settings)
        for name, corpus in CORPORA.items():
            yield from _loader(bench, Path(folder) / "symbols.bin", name, *corpus)


def _loop(bench: Bench, folder: Path, name: str, settings: list[str]) -> Found:
    """Trains as `diffmamba.train` does, with steps of a bare loop in turns with its own."""
    steps = bench.sizes.loop_steps + WARM_UP
    bench.tell(f"loop, {name}: {steps} steps of a run and of a bare loop in turns")
    folder.mkdir()
    text = folder / "text.txt"
    text.write_bytes(np.random.default_rng(0).integers(97, 123, 2_000_000, np.uint8).tobytes())
    words = [
        *("model=mamba", "data=text", f"data.path={text}", f"data.directory={folder / 'data'}", f"runs={folder}"),
        *(f"trainer={'gpu' if bench.device.type == 'cuda' else 'cpu'}", f"scale.steps={steps}"),
        *(f"scale.evaluate_every={steps}", "scale.eval_windows=1"),
        *(() if find_spec("wandb") else ("logger=csv",)),
        *settings,
    ]
    work = Training.of(composed(words))
    work.check()
    turns = _Turns(work.data.train_dataloader(), _bare_steps(work, bench.device))
    work.data.train_dataloader = lambda: turns
    found = RunStore(folder).run("loop")
    found.directory.mkdir(parents=True)
    found.write(new_record(work, found, None))
    train(work, found, progress_bar=False)
    taken = {"ours": turns.ours[WARM_UP:], "other": turns.bare[WARM_UP : len(turns.ours)]}
    yield taken, Ratio(f"a run ÷ a bare loop, {name}", target=bench.target("bare loop"), at={"settings": settings})


def _bare_steps(work: Training, device: torch.device) -> Iterator[Tensor]:
    """Trains a network of its own, one step each time it is asked."""
    network = build_network(work.network, work.data.vocabulary_size).to(device)
    built = work.optimizer.over(work.length.steps).build(network)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    for inputs, targets in chain.from_iterable(repeat(work.data.train_streams(0, 1))):
        optimizer.zero_grad()
        loss = network(inputs.to(device), targets.to(device)).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss


class _Turns:
    """Stands where the loop asks for a batch: what passes between two such moments is the loop's own step.

    Between two batches a step of the bare loop is taken, outside the time of the loop's own. `ours` and `bare` are the
    seconds of both.
    """

    def __init__(self, streams: TrainStreams, bare_steps: Iterator[Tensor]):
        self.streams, self.bare_steps = streams, bare_steps
        self.ours, self.bare = [], []

    def __len__(self) -> int:
        return len(self.streams)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self.streams)
        while True:
            start = now()
            next(self.bare_steps)
            handed = now()
            self.bare.append(handed - start)
            batch = next(batches, None)
            if batch is None:
                return
            yield batch
            self.ours.append(now() - handed)


def _watching(bench: Bench) -> tuple[dict[str, list[float]], Ratio]:
    """λ of each block, norms of gradients and memory at every tenth step, against a step at scale smoke."""
    work = Training.of(composed(["model=diff_mamba", "scale=smoke"]))
    network = build_network(work.network, work.data.vocabulary_size).to(bench.device)
    batch, length = work.settings["scale"]["batch_size"], work.settings["scale"]["length"]
    step = training_step(network, torch.randint(work.data.vocabulary_size, (batch, length + 1), device=bench.device))
    step()  # there are gradients now
    watched = Watched(network)

    def look() -> None:
        watched.gradients(), watched.lambdas(), memory_gb(bench.device)

    taken = bench.compare("what is logged of a network", {"ours": look, "other": step})
    taken["ours"] = [seconds / LOGGED_STEPS for seconds in taken["ours"]]
    name = f"λ, gradients and memory at one of {LOGGED_STEPS} steps ÷ a step, smoke"
    return taken, Ratio(name, target=bench.target("logged"))


def _loader(bench: Bench, path: Path, name: str, dtype: Any, types: int, count: int, batch: int) -> Found:
    np.random.default_rng(0).integers(0, types, count // bench.sizes.loader_share, dtype).tofile(path)
    length = 512 if bench.sizes.loader_share == 1 else 32
    batches = chain.from_iterable(repeat(TrainStreams(np.memmap(path, dtype, "r"), batch, length)))
    taken = bench.compare(f"loader: {name}", {"ours": lambda: next(batches)})
    tokens = batch * length
    taken["other"] = [tokens / ASKED] * len(taken["ours"])
    taken["floor"] = [tokens * (2 * np.dtype(dtype).itemsize + 16) / COPY_RATE]
    aim = bench.target("loader")
    yield taken, Ratio(f"loader, {name}: against 20M tokens/s", faster=True, target=aim, floor="floor")
