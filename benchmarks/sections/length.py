"""What a position costs in longer and longer sequences, in time and in memory."""

import torch

from benchmarks import memory
from benchmarks.bench import Bench
from benchmarks.passes import MODES, passes
from benchmarks.record import Ratio
from benchmarks.sections import Found

TITLE = "Length"
TEXT = (
    "One mixer on a single sequence: time per position relative to a sequence of {sizes.lengths[1]:,}, and peak memory "
    "per position, over weights and input, relative to one of {sizes.memory_lengths[0]:,}. Attention is there for "
    "comparison. A longer sequence is also more work in one call, whose memory leaves caches and, on a CPU, is asked "
    "for page by page: to tell this from length itself, two rows have {sizes.tokens:,} positions in every call, as "
    "many sequences as that takes."
)
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
    at = {"aside": aside, "variant": variant, "mode": mode, "base": base}
    yield (
        {str(length): [one / (length * batch) for one in taken[str(length)]] for length, batch in batches.items()},
        [
            Ratio(
                f"{variant}, {mode}, {length:,} ÷ {base:,} {aside}".rstrip(),
                str(length),
                str(base),
                unit="µs",
                target=aim if variant != ATTENTION and length > base else None,
                at=at | {"length": length, "batch": batch},
            )
            for length, batch in batches.items()
            if length != base
        ],
    )


def _memory(bench: Bench, variant: str, mode: str) -> Found:
    """Bytes per position at each length; one measurement each, since peaks repeat to a page."""
    mixer, (base, *longer) = bench.sizes.mixer, bench.sizes.memory_lengths
    peaks = {length: memory.peak(bench, variant, mixer, 1, length, mode) for length in (base, *longer)}
    aim, at = bench.target("memory per token"), {"variant": variant, "mode": mode, "base": base}
    yield (
        {str(length): [peak / length] for length, peak in peaks.items()},
        [
            Ratio(
                f"{variant}, memory of {mode}, {length:,} ÷ {base:,}",
                str(length),
                str(base),
                unit="kB",
                target=aim,
                at=at | {"length": length},
            )
            for length in longer
        ],
    )
