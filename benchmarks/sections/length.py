"""What a position costs in longer and longer sequences, in time and in memory."""

import torch

from benchmarks import memory
from benchmarks.bench import Bench
from benchmarks.passes import MODES, passes
from benchmarks.record import Section

TEXT = (
    "One mixer on a single sequence: time per position relative to a sequence of {base:,}, and peak memory per "
    "position, over weights and input, relative to one of {least:,}. Attention is there for comparison. A longer "
    "sequence is also more work in one call, whose memory leaves caches and, on a CPU, is asked for page by page: to "
    "tell this from length itself, two rows have {tokens:,} positions in every call, as many sequences as that takes."
)
LINEAR, ATTENTION = ("mamba", "diff_mamba"), "transformer"


def run(bench: Bench) -> Section:
    """Time per position, the same at equal work, and memory per position."""
    sizes = bench.sizes
    base = sizes.lengths[1]
    section = Section("length", "Length", TEXT.format(base=base, least=sizes.memory_lengths[0], tokens=sizes.tokens))
    for variant in (*LINEAR, ATTENTION):
        longest = sizes.attention_up_to if variant == ATTENTION else sizes.lengths[-1]
        for mode in MODES:
            _time(bench, section, variant, mode, {length: 1 for length in sizes.lengths if length <= longest})
    for mode in MODES:
        batches = {length: sizes.tokens // length for length in (base, sizes.lengths[-1])}
        _time(bench, section, "diff_mamba", mode, batches, f"at {sizes.tokens:,} positions a call")
    for variant, mode in sizes.memory_of:
        try:
            _memory(bench, section, variant, mode)
        except torch.OutOfMemoryError:
            section.notes.append(f"{variant}, memory of {mode}: more than this device has")
    return section


def _time(bench: Bench, section: Section, variant: str, mode: str, batches: dict[int, int], aside: str = "") -> None:
    """Microseconds per position at each length, with so many sequences of it in one call."""
    base = bench.sizes.lengths[1]
    module = bench.mixer(variant)
    cases = {str(length): passes(module, bench.input(batch, length))[mode] for length, batch in batches.items()}
    taken = bench.compare(f"length: {variant}, {mode} {aside}".rstrip(), cases)
    per_token = {
        length: [seconds / (length * batch) for seconds in taken[str(length)]] for length, batch in batches.items()
    }
    for length in (length for length in batches if length != base):
        name = f"{variant}, {mode}, {length:,} ÷ {base:,} {aside}".rstrip()
        aim = bench.target("time per token") if variant != ATTENTION and length > base else None
        at = {"variant": variant, "mode": mode, "length": length, "base": base, "batch": batches[length]}
        section.add(name, per_token[length], per_token[base], unit="µs", target=aim, aside=aside, **at)


def _memory(bench: Bench, section: Section, variant: str, mode: str) -> None:
    """Bytes per position at each length; one measurement each, since peaks repeat to a page."""
    sizes = bench.sizes
    base, *longer = sizes.memory_lengths
    per_token = {
        length: memory.peak(bench, variant, sizes.mixer, 1, length, mode) / length for length in sizes.memory_lengths
    }
    for length in longer:
        name, aim = f"{variant}, memory of {mode}, {length:,} ÷ {base:,}", bench.target("memory per token")
        at = {"variant": variant, "mode": mode, "length": length, "base": base}
        section.add(name, [per_token[length]], [per_token[base]], unit="kB", target=aim, **at)
