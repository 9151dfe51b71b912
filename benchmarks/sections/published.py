"""The paper's efficiency tables: forward latency by length (table 8), memory by batch (table 7)."""

import torch

from benchmarks import memory
from benchmarks.bench import Bench
from benchmarks.passes import passes
from benchmarks.record import Ratio
from benchmarks.sections import Found

TITLE = "The paper's efficiency tables"
TEXT = (
    "Networks of {sizes.medium.n_layers} pre-norm mixers without feed-forward, d_model {sizes.medium.d_model}, "
    "{sizes.medium.d_state} states; the paper's have 48, 1024 and 128. Forward latency of one sequence; peak memory of "
    "a forward pass that keeps what backward needs, over the weights, on sequences of {sizes.memory_length:,}. "
    "published is the same ratio in the paper's tables 8 and 7, whose memory includes the weights; its differential "
    "network in table 8 is the hybrid."
)
BASE, DIFFERENTIAL = "mamba", ("diff_mamba_hybrid", "diff_mamba")


def measure(bench: Bench) -> Found:
    """Both tables, the hybrid and the wholly differential network."""
    sizes = bench.sizes
    networks = {name: bench.network(name, sizes.medium) for name in (BASE, *DIFFERENTIAL)}
    for length in sizes.latency_lengths:
        symbols = torch.zeros(1, length, dtype=torch.long, device=bench.device)
        cases = {name: passes(network, symbols)["forward"] for name, network in networks.items()}
        taken = bench.compare(f"published: latency at length {length}", cases)
        yield taken, _ratios(f"latency at {length:,}", "ms", 8, length=length)
    del networks, cases
    for batch in sizes.memory_batches:
        case = {"batch": batch, "length": sizes.memory_length, "mode": memory.NETWORK}
        try:
            taken = {name: [memory.peak(bench, name, sizes.medium, **case)] for name in (BASE, *DIFFERENTIAL)}
            yield taken, _ratios(f"memory at batch {batch}", "MB", 7, batch=batch)
        except torch.OutOfMemoryError:
            yield f"memory at batch {batch}: more than this device has"


def _ratios(what: str, unit: str, table: int, **column: int) -> list[Ratio]:
    published = _published(f"table{table}", **column)
    return [
        Ratio(
            f"{name} ÷ {BASE}, {what}",
            name,
            BASE,
            unit=unit,
            published=published,
            at={"variant": name, "table": table, **column},
        )
        for name in DIFFERENTIAL
    ]


def _published(table: str, **column: int) -> float | None:
    """The paper's ratio of Diff-Mamba to Mamba in a column of a table, None where it has no such column."""
    from diffmamba.paper.published import numbers

    columns, ((key, value),) = numbers()[table], column.items()
    if value not in columns[key]:
        return None
    at = columns[key].index(value)
    return columns["diff_mamba"][at] / columns["mamba"][at]
