"""Many small trainings: making examples, what a cell costs, and what six settings side by side could give."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from benchmarks.bench import Bench
from benchmarks.record import Found, Ratio
from benchmarks.timing import now, rounds
from diffmamba.configuration import composed
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.work import Training, build_network

TASKS = (
    *("compression", "memorization", "selective_copying"),
    *("in_context_recall", "noisy_in_context_recall", "fuzzy_in_context_recall"),
)
MADE_IN = 1.0  # seconds for the examples of a task's baseline, on one core
SETTINGS = 6  # of the optimiser, in the published protocol


def measure(bench: Bench) -> Found:
    """Making the examples of each task, a cell against its bare steps, and six networks against one of six batches."""
    for task in TASKS:
        yield from _examples(bench, task)
    yield from _cells(bench)
    for name, batch_size in (("smoke", 32), ("the protocol's batch", 128)):
        yield _side_by_side(bench, name, batch_size)


def _training(task: str, *words: str) -> Training:
    work = Training.of(composed(["experiments=mad", f"data=mad/{task}", "trainer=auto", *words]))
    work.check()
    return work


def _examples(bench: Bench, task: str) -> Found:
    work = _training(task)
    rule, count, step = work.data.rule, work.data.examples, _step(bench, work)

    def make() -> None:
        rule.examples("train", count, seed=0)

    taken = bench.compare(f"mad: examples of {task}", {"ours": make, "step": step})
    seconds = {"ours": taken["ours"], "other": [MADE_IN] * len(taken["ours"])}
    yield seconds, Ratio(f"{count:,} examples, {task}: against {MADE_IN:g} s", target=bench.target("examples"))
    epochs = work.length.steps // work.data.steps_per_epoch
    trained = {"ours": taken["ours"], "other": [one * work.length.steps for one in taken["step"]]}
    name = f"the same ÷ the steps of {epochs} epochs, smoke"
    yield trained, Ratio(f"{task}: {name}", target=bench.target("making examples"))


def _cells(bench: Bench) -> Found:
    """Cells of memorization, the shortest there are, one after the other, as a worker does them."""
    bench.tell("mad: cells in a warm process")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [f"runs={Path(folder) / 'runs'}", "logger=csv", "threads=1", "experiments=mad", "data=mad/memorization"]
        left = iter([composed([*words, f"seed={seed}"]) for seed in range(bench.sizes.patience.most + 1)])
        bare = _training("memorization")
        taken = rounds(
            {"ours": lambda: _timed(lambda: execute(work_of(next(left)), False)), "other": lambda: _timed(_bare(bare))},
            bench.sizes.patience,
            warm_up=True,
        )
    yield taken, Ratio("a cell of memorization ÷ its bare steps and evaluations")
    yield f"Cells of memorization per minute, one worker: {60 / sorted(taken['ours'])[len(taken['ours']) // 2]:.0f}."


def _side_by_side(bench: Bench, name: str, batch_size: int) -> tuple[dict[str, list[float]], Ratio]:
    """Steps of six networks one after the other, against one step of one network with six times the batch.

    A pass over six networks at once has the same products with six different weights, so it cannot be faster than this.
    """
    one = _training("in_context_recall", f"scale.batch_size={batch_size}")
    steps = [_step(bench, one) for _ in range(SETTINGS)]

    def in_turn() -> None:
        for step in steps:
            step()

    cases = {"ours": in_turn, "other": _step(bench, one, SETTINGS)}
    taken = bench.compare(f"mad: six networks, {name}", cases, bench.sizes.patience_with_networks)
    return taken, Ratio(f"six networks in turn ÷ one with six batches, {name}", at={"batch": batch_size})


def _step(bench: Bench, work: Training, times: int = 1) -> Callable[[], None]:
    """One training step of a network of its own, on a batch that is so many times as large."""
    network = build_network(work.network, work.data.vocabulary_size).to(bench.device)
    optimizer = work.optimizer.over(work.length.steps).build(network)["optimizer"]
    size = (times * work.data.batch_size, work.data.rule.length)
    symbols = torch.randint(work.data.vocabulary_size, size, device=bench.device)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(symbols).flatten(0, 1), symbols.flatten()).backward()
        optimizer.step()

    return step


def _bare(work: Training) -> Callable[[], None]:
    """Trains a network of its own, and evaluates it as often as the cell."""

    def run() -> None:
        torch.manual_seed(0)
        network = build_network(work.network, work.data.vocabulary_size)
        optimizer = work.optimizer.over(work.length.steps).build(network)["optimizer"]
        batches = work.data.train_dataloader()
        for _ in range(work.length.steps // work.data.steps_per_epoch):
            for inputs, targets in batches:
                optimizer.zero_grad()
                cross_entropy(network(inputs).flatten(0, 1), targets.flatten()).backward()
                optimizer.step()
            with torch.no_grad():
                for loader in work.data.val_dataloader():
                    for inputs, *_ in loader:
                        network(inputs)

    return run


def _timed(call: Callable[[], object]) -> float:
    began = now()
    call()
    return now() - began
