"""The paper's efficiency tables: forward latency by length (table 8), memory by batch (table 7)."""

import torch

from benchmarks import memory
from benchmarks.bench import Bench
from benchmarks.passes import passes
from benchmarks.record import Section
from diffmamba.models import LanguageModel

BASE, DIFFERENTIAL = "mamba", ("diff_mamba_hybrid", "diff_mamba")
TEXT = (
    "Networks of {layers} pre-norm mixers without feed-forward, d_model {d_model}, {d_state} states; the paper's have "
    "48, 1024 and 128. Forward latency of one sequence; peak memory of a forward pass that keeps what backward needs, "
    "over the weights, on sequences of {length:,}. published is the same ratio in the paper's tables 8 and 7, whose "
    "memory includes the weights; its differential network in table 8 is the hybrid."
)


def run(bench: Bench) -> Section:
    """Both tables, the hybrid and the wholly differential network."""
    sizes = bench.sizes
    scale = sizes.medium
    text = TEXT.format(layers=scale.n_layers, d_model=scale.d_model, d_state=scale.d_state, length=sizes.memory_length)
    section = Section("published", "The paper's efficiency tables", text)
    networks = {name: bench.network(name, scale) for name in (BASE, *DIFFERENTIAL)}
    for length in sizes.latency_lengths:
        _latency(bench, section, networks, length)
    del networks
    for batch in sizes.memory_batches:
        try:
            _memory(bench, section, batch)
        except torch.OutOfMemoryError:
            section.notes.append(f"memory at batch {batch}: more than this device has")
    return section


def _latency(bench: Bench, section: Section, networks: dict[str, LanguageModel], length: int) -> None:
    symbols = torch.zeros(1, length, dtype=torch.long, device=bench.device)
    cases = {name: passes(network, symbols)["forward"] for name, network in networks.items()}
    taken = bench.compare(f"published: latency at length {length}", cases)
    for name in DIFFERENTIAL:
        published = _published("table8", "length", length)
        at = {"variant": name, "table": 8, "length": length}
        section.add(f"{name} ÷ {BASE}, latency at {length:,}", taken[name], taken[BASE], published=published, **at)


def _memory(bench: Bench, section: Section, batch: int) -> None:
    sizes = bench.sizes
    peaks = {
        name: memory.peak(bench, name, sizes.medium, batch, sizes.memory_length, memory.NETWORK)
        for name in (BASE, *DIFFERENTIAL)
    }
    for name in DIFFERENTIAL:
        sides, published = ([peaks[name]], [peaks[BASE]]), _published("table7", "batch", batch)
        at = {"variant": name, "table": 7, "batch": batch}
        section.add(f"{name} ÷ {BASE}, memory at batch {batch}", *sides, unit="MB", published=published, **at)


def _published(table: str, key: str, value: int) -> float | None:
    """The paper's ratio of Diff-Mamba to Mamba in a column of a table, None where it has no such column."""
    from diffmamba.paper.published import numbers

    columns = numbers()[table]
    if value not in columns[key]:
        return None
    at = columns[key].index(value)
    return columns["diff_mamba"][at] / columns["mamba"][at]
