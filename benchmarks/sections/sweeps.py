"""What a sweep costs beyond its trainings: a cell, a cell that is done already, a plan, and the list of its runs."""

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import chain, islice, repeat
from pathlib import Path

import torch
import yaml

from benchmarks.bench import Bench
from benchmarks.record import Found, Ratio
from benchmarks.timing import now, rounds
from diffmamba.configuration import composed
from diffmamba.runs import RunStore
from diffmamba.runs.admission import has_ended
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.plan import expand
from diffmamba.runs.work import Training, build_network

TINY = (
    *("trainer=cpu", "logger=csv", "threads=1", "model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.d_model=32"),
    *("scale.headdim=32", "scale.d_state=8", "scale.batch_size=8", "scale.length=16", "scale.eval_batch_size=4"),
    *("scale.eval_windows=4", "scale.steps=6", "scale.evaluate_every=3", "scale.warmup_steps=2"),
)
WORDS = "the quick brown fox jumps over a lazy dog and runs away from a wolf "
ASKED = {"a cell": 0.3, "a cell that is done": 0.02, "a planned cell": 0.006, "list, first": 5.0, "list": 1.0}
"""Seconds that these may take at most."""


def measure(bench: Bench) -> Found:
    """Cells in this process, which is warm; then whole commands."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "text.txt").write_text(WORDS * 30)
        words = [f"data.path={folder / 'text.txt'}", "data=text", f"data.directory={folder / 'data'}", *TINY]
        yield from _cells(bench, [*words, f"runs={folder / 'cells'}"])
        yield from _plan(bench, [*words, f"runs={folder / 'plan'}"])
        if bench.sizes.sweep_cells:
            yield from _two_workers(bench, folder, words)
        if find_spec("diffmamba.browse"):
            yield from _list(bench, folder)


def _cells(bench: Bench, words: list[str]) -> Found:
    """Cells one after the other, as a worker does them, against a bare loop of the same steps and evaluations."""
    bench.tell("sweeps: cells in a warm process")
    settings = [composed([*words, f"seed={seed}"]) for seed in range(bench.sizes.patience.most + 1)]
    left = iter(settings)
    bare = Training.of(composed([*words, "seed=0"]))
    bare.check()
    taken = rounds(
        {"ours": lambda: _timed(lambda: execute(work_of(next(left)), False)), "bare": lambda: _timed(_bare(bare))},
        bench.sizes.patience,
        warm_up=True,
    )
    yield taken, Ratio("a cell ÷ a bare loop of its steps and evaluations", "ours", "bare")
    beyond = [ours - bare for ours, bare in zip(taken["ours"], taken["bare"], strict=True)]
    yield from _against(bench, "a cell", "a cell beyond its own training", [max(one, 1e-6) for one in beyond])
    run = RunStore(settings[0]["runs"]).run(work_of(settings[0]).identity())

    def pass_by() -> None:
        assert has_ended(work_of(settings[0]), run.read())

    again = rounds({"ours": lambda: _timed(pass_by)}, bench.sizes.patience, warm_up=True)
    yield from _against(bench, "a cell that is done", "a cell that is done already", again["ours"])


def _bare(work: Training) -> Callable[[], None]:
    """Trains a network of its own, and evaluates it as often as the cell."""

    def run() -> None:
        torch.manual_seed(0)
        network = build_network(work.network, work.data.vocabulary_size)
        built = work.optimizer.over(work.length.steps).build(network)
        optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
        batches: Iterator = chain.from_iterable(repeat(work.data.train_streams(0, 1)))
        for step, (inputs, targets) in enumerate(islice(batches, work.length.steps), start=1):
            optimizer.zero_grad()
            network(inputs, targets).mean().backward()
            optimizer.step()
            schedule.step()
            if step % work.length.evaluate_every == 0:
                with torch.no_grad():
                    for windows in chain.from_iterable(work.data.val_dataloader()):
                        network(*windows[:2])

    return run


def _plan(bench: Bench, words: list[str]) -> Found:
    """The plan of a grid of table 2 with many seeds."""
    seeds = bench.sizes.sweep_seeds
    bench.tell(f"sweeps: a plan of {12 * seeds} cells")
    began = now()
    planned = expand("table2", [*words, f"seed=range({seeds})"])
    seconds = (now() - began) / (12 * seeds)
    yield from _against(bench, "a planned cell", f"a cell of a plan of {12 * seeds} cells", [seconds])
    yield f"The plan holds {len(planned)} works: models of one branch ignore the form of λ."


def _two_workers(bench: Bench, folder: Path, words: list[str]) -> Found:
    """Whole commands: a sweep with two workers, and two multiruns of Hydra's side by side."""
    cells = bench.sizes.sweep_cells
    params = {"model": "mamba,diff_mamba", "seed": f"range({cells // 2})"}
    grid = {"group": "bench", "hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}
    path = folder / "conf" / "sweeps" / "bench.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + yaml.safe_dump(grid))
    lines = {
        "ours": [["diffmamba.sweep", "sweep=bench", "workers=2", *words, f"runs={folder / 'sweep'}"]],
        "other": [["diffmamba.train", "sweeps=bench", *words, f"runs={folder / 'multiruns'}"]] * 2,
    }
    taken = {}
    for name, commands in lines.items():
        bench.tell(f"sweeps: {cells} cells by {'a sweep' if name == 'ours' else 'two multiruns'}")
        taken[name] = [_timed(lambda commands=commands: _run(commands, folder)) / cells]
    aim = bench.target("cells of two workers")
    yield taken, Ratio("a cell of a sweep with two workers ÷ of two multiruns", target=aim)
    yield (
        f"Cells per minute, start included: {60 / taken['ours'][0]:.0f} with two workers, {60 / taken['other'][0]:.0f} "
        "with two multiruns."
    )


def _list(bench: Bench, folder: Path) -> Found:
    """`diffmamba runs list` over copies of a record, each under an id and a seed of its own."""
    number, store = bench.sizes.sweep_records, folder / "records"
    bench.tell(f"sweeps: runs list over {number} records")
    template = json.loads(next((folder / "cells").glob("*/result.json")).read_text())
    for seed in range(number):
        record = copy.deepcopy(template) | {"id": f"t{seed:011x}"}
        record["config"] |= {"seed": seed, "runs": str(store)}
        place = store / record["id"]
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(record, indent=1))
    for what, name in (("list, first", "the first time"), ("list", "once more")):
        seconds = _timed(lambda: _run([["diffmamba.runs", "list", f"runs={store}"]], folder))
        yield from _against(bench, what, f"runs list over {number:,} runs, {name}", [seconds])


def _run(commands: list[list[str]], folder: Path) -> None:
    """Runs commands of this package side by side. Raises CalledProcessError where one fails."""
    options = {"cwd": folder, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdin": subprocess.DEVNULL}
    started = [
        subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, **options) for command in commands
    ]
    for process in started:
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)


def _timed(call: Callable[[], object]) -> float:
    began = now()
    call()
    return now() - began


def _against(bench: Bench, what: str, row: str, seconds: list[float]) -> Found:
    """Seconds against those that are asked for."""
    taken = {"ours": seconds, "other": [ASKED[what]] * len(seconds)}
    yield taken, Ratio(f"{row}: against {ASKED[what]:g} s", target=bench.target(what))
