"""The paper's efficiency tables: forward latency by length (table 8), memory by batch (table 7)."""

import torch

from benchmarks import footprint
from benchmarks.bench import Bench, ratio
from benchmarks.floors import Counter, seconds
from benchmarks.passes import passes
from benchmarks.record import Section
from benchmarks.variants import language_model, mixer

# arXiv 2507.06204v2, on an L40S, networks of 370M parameters; in table 8 Diff-Mamba is the hybrid.
TABLE_7 = {  # GB after a forward pass on sequences of 2048, by batch: Mamba, Diff-Mamba
    1: (3.92, 3.95),
    2: (5.16, 5.25),
    4: (7.72, 7.84),
    8: (12.84, 13.03),
    16: (23.09, 23.43),
    32: (43.80, 44.30),
}
TABLE_8 = {  # seconds of a forward pass, by length: Mamba, Diff-Mamba
    512: (0.063, 0.076),
    1024: (0.079, 0.090),
    2048: (0.073, 0.087),
    4096: (0.147, 0.172),
    8192: (0.271, 0.282),
}
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
    for length in sizes.latency_lengths:
        _latency(bench, section, length)
    for batch in sizes.memory_batches:
        try:
            _memory(bench, section, batch)
        except torch.OutOfMemoryError:
            section.notes.append(f"memory at batch {batch}: more than this device has")
    return section


def _latency(bench: Bench, section: Section, length: int) -> None:
    sizes = bench.sizes
    networks = {name: language_model(name, sizes.medium).to(bench.device) for name in (BASE, *DIFFERENTIAL)}
    symbols = torch.zeros(1, length, dtype=torch.long, device=bench.device)
    cases = {name: passes(network, symbols)["forward"] for name, network in networks.items()}
    gauge = bench.gauge(mixer(BASE, sizes.medium), 1, length)
    taken = bench.compare(f"published: latency at length {length}", cases, gauge)
    counter = Counter(1, length, False, bench.device)
    for name in DIFFERENTIAL:
        ratio(
            section,
            f"{name} ÷ {BASE}, latency at {length:,}",
            taken[name],
            taken[BASE],
            floor=(seconds(counter.network(networks[name]), gauge.rates(taken)), "arithmetic and memory of all parts"),
            published=_published(TABLE_8, length),
            at={"variant": name, "table": 8, "length": length},
        )


def _memory(bench: Bench, section: Section, batch: int) -> None:
    sizes = bench.sizes
    peaks = {
        name: footprint.network_peak(bench, name, sizes.medium, batch, sizes.memory_length)
        for name in (BASE, *DIFFERENTIAL)
    }
    for name in DIFFERENTIAL:
        ratio(
            section,
            f"{name} ÷ {BASE}, memory at batch {batch}",
            [peaks[name]],
            [peaks[BASE]],
            unit="MB",
            published=_published(TABLE_7, batch),
            at={"variant": name, "table": 7, "batch": batch},
        )


def _published(table: dict[int, tuple[float, float]], at: int) -> float | None:
    if at not in table:
        return None
    vanilla, differential = table[at]
    return differential / vanilla
