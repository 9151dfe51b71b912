"""The paper's efficiency tables: forward latency by length (table 8), memory by batch (table 7)."""

import torch

from benchmarks.bench import Bench
from benchmarks.models import language_model
from benchmarks.passes import GRAPH, passes
from benchmarks.record import Found, Ratio, Taken
from diffmamba.paper.published import numbers

BASE, DIFFERENTIAL = "mamba", ("diff_mamba_hybrid", "diff_mamba")


def measure(bench: Bench) -> Found:
    """Both tables, the hybrid and the wholly differential network."""
    sizes = bench.sizes
    networks = {name: language_model(name, sizes.medium, bench.device) for name in (BASE, *DIFFERENTIAL)}
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
    """Both networks over the base; with the paper's ratio of Diff-Mamba to Mamba where its table has this column."""
    columns, ((key, value),) = numbers()[f"table{table}"], column.items()
    printed = dict(zip(columns[key], zip(columns["diff_mamba"], columns["mamba"], strict=True), strict=True)).get(value)
    for name in DIFFERENTIAL:
        published, at = printed and printed[0] / printed[1], {"variant": name, "table": table, **column}
        yield taken, Ratio(f"{name} ÷ {BASE}, {what}", name, BASE, unit, published=published, at=at)
