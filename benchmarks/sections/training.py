"""A whole training step of every variant: embedding, backbone, head, loss, backward, AdamW. On a CPU also threads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from benchmarks.bench import Bench
from benchmarks.models import VARIANTS, language_model, parameters
from benchmarks.passes import JUDGED, floor, passes
from benchmarks.record import Found, Ratio
from benchmarks.timing import Call
from benchmarks.training_step import training_step

BASE = "mamba"


def measure(bench: Bench) -> Found:
    """All variants relative to the vanilla one, and the differential one to its equal in parameters."""
    sizes = bench.sizes
    networks = {name: language_model(name, sizes.training, bench.device) for name in VARIANTS}
    shape = (sizes.training_batch, sizes.training_length + 1)
    symbols = torch.randint(sizes.training.vocabulary, shape, device=bench.device)
    cases = {name: training_step(network, symbols) for name, network in networks.items()}
    taken = bench.compare("training: a step of every variant", cases, sizes.patience_with_networks)
    for name, base in [*((name, BASE) for name in VARIANTS if name != BASE), ("diff_mamba", "mamba_grouped")]:
        aim = bench.target("training step") if name == "diff_mamba" else None
        yield taken, Ratio(f"{name} ÷ {base}", name, base, target=aim, at={"variant": name, "base": base})
    counts = ", ".join(f"{name} {parameters(network) / 1e6:.3g}" for name, network in networks.items())
    yield f"Parameters in millions: {counts}."
    if bench.device.type == "cpu" and (os.cpu_count() or 1) > 1:
        yield from _threads(bench)


def _threads(bench: Bench) -> Found:
    """Two threads against one, and what a mixer then costs over its projections, alone and beside a busy process."""
    sizes, name = bench.sizes, "diff_mamba"
    symbols = torch.randint(sizes.smoke.vocabulary, (sizes.smoke_batch, sizes.smoke_length + 1))
    step, x = training_step(language_model(name, sizes.smoke), symbols), bench.input()
    mixers = {name: bench.mixer(name) for name in (BASE, name)}
    for words, beside in (("", nullcontext()), (", beside a busy process", _busy_process())):
        with beside:
            taken = bench.compare(f"training: threads{words}", {n: _with_threads(n, step) for n in (1, 2)})
            yield taken, Ratio(row := f"2 threads ÷ 1 thread{words}", 2, 1, target=bench.target(row))
            for mixer, module in mixers.items():
                calls = {"ours": passes(module, x)[JUDGED], "other": floor(module, *x.shape[:2])[JUDGED]}
                taken = bench.compare(
                    f"training: {mixer}{words}", {side: _with_threads(2, call) for side, call in calls.items()}
                )
                aim = bench.target(f"mixer ÷ its projections{words}")
                yield taken, Ratio(f"{mixer} ÷ its projections, 2 threads{words}", target=aim)


def _with_threads(threads: int, call: Call) -> Call:
    def called() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            call()
        finally:
            torch.set_num_threads(before)

    return called


@contextmanager
def _busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
