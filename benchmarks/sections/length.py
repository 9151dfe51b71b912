"""What a position costs in longer and longer sequences, in time and in memory."""

import torch

from benchmarks.bench import Bench
from benchmarks.passes import MODES, passes
from benchmarks.record import Found, Ratio

LINEAR, ATTENTION = ("mamba", "diff_mamba"), "transformer"


def measure(bench: Bench) -> Found:
    """Time per position, the same at equal work, and memory per position."""
    sizes = bench.sizes
    for variant in (*LINEAR, ATTENTION):
        longest = sizes.attention_up_to if variant == ATTENTION else sizes.lengths[-1]
        for mode in MODES:
            yield from _time(bench, variant, mode, {length: 1 for length in sizes.lengths if length <= longest})
    for mode in MODES:
        batches = {length: sizes.tokens // length for length in (sizes.lengths[1], sizes.lengths[-1])}
        yield from _time(bench, "diff_mamba", mode, batches, f"at {sizes.tokens:,} positions a call")
    for variant, mode in sizes.memory_of:
        try:
            yield from _memory(bench, variant, mode)
        except torch.OutOfMemoryError:
            yield f"{variant}, memory of {mode}: more than this device has"


def _time(bench: Bench, variant: str, mode: str, batches: dict[int, int], aside: str = "") -> Found:
    """Microseconds per position at each length, with so many sequences of it in one call."""
    base = bench.sizes.lengths[1]
    module, aim = bench.mixer(variant), bench.target("time per token")
    cases = {str(length): passes(module, bench.input(batch, length))[mode] for length, batch in batches.items()}
    taken = bench.compare(f"length: {variant}, {mode} {aside}".rstrip(), cases)
    per_token = {length: [one / (length * batch) for one in taken[str(length)]] for length, batch in batches.items()}
    for length in (length for length in batches if length != base):
        name = f"{variant}, {mode}, {length:,} ÷ {base:,} {aside}".rstrip()
        judged = {"unit": "µs", "target": aim if variant != ATTENTION and length > base else None}
        at = {"variant": variant, "mode": mode, "length": length, "base": base, "batch": batches[length]}
        yield per_token, Ratio(name, length, base, **judged, at=at | {"aside": aside})


def _memory(bench: Bench, variant: str, mode: str) -> Found:
    """Bytes per position at each length; one measurement each, since peaks repeat to a page."""
    mixer, lengths, aim = bench.sizes.mixer, bench.sizes.memory_lengths, bench.target("memory per token")
    per_token = {length: [bench.peak(variant, mixer, 1, length, mode) / length] for length in lengths}
    for length in lengths[1:]:
        name = f"{variant}, memory of {mode}, {length:,} ÷ {lengths[0]:,}"
        at = {"variant": variant, "mode": mode, "length": length, "base": lengths[0]}
        yield per_token, Ratio(name, length, lengths[0], "kB", target=aim, at=at)
