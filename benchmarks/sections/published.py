"""The paper's efficiency tables: forward latency by length (table 8), memory by batch (table 7)."""

import torch

from benchmarks.bench import Bench
from benchmarks.passes import GRAPH, passes
from benchmarks.record import Ratio, Taken
from benchmarks.sections import Found
from diffmamba.paper.published import numbers

BASE, DIFFERENTIAL = "mamba", ("diff_mamba_hybrid", "diff_mamba")


def measure(bench: Bench) -> Found:
    """Both tables, the hybrid and the wholly differential network."""
    sizes = bench.sizes
    networks = {name: bench.network(name, sizes.medium) for name in (BASE, *DIFFERENTIAL)}
    for length in sizes.latency_lengths:
        symbols = torch.zeros(1, length, dtype=torch.long, device=bench.device)
        cases = {name: passes(network, symbols)["forward"] for name, network in networks.items()}
        taken = bench.compare(f"published: latency at length {length}", cases)
        yield from _ratios(taken, f"latency at {length:,}", "ms", 8, length=length)
    del networks, cases
    for batch in sizes.memory_batches:
        case = (sizes.medium, batch, sizes.memory_length, GRAPH)
        try:
            peaks = {name: [bench.peak(name, *case)] for name in (BASE, *DIFFERENTIAL)}
            yield from _ratios(peaks, f"memory at batch {batch}", "MB", 7, batch=batch)
        except torch.OutOfMemoryError:
            yield f"memory at batch {batch}: more than this device has"


def _ratios(taken: Taken, what: str, unit: str, table: int, **column: int) -> Found:
    published = _published(f"table{table}", **column)
    for name in DIFFERENTIAL:
        at = {"variant": name, "table": table, **column}
        yield taken, Ratio(f"{name} ÷ {BASE}, {what}", name, BASE, unit, published=published, at=at)


def _published(table: str, **column: int) -> float | None:
    """The paper's ratio of Diff-Mamba to Mamba in a column of a table, None where it has no such column."""
    columns, ((key, value),) = numbers()[table], column.items()
    if value not in columns[key]:
        return None
    at = columns[key].index(value)
    return columns["diff_mamba"][at] / columns["mamba"][at]
