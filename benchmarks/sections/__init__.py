"""The sections of the report, each a function from a `Bench` to a table."""

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.record import Section
from benchmarks.sections import decoding, differential, length, loop, mixers, parts, published, training

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "mixers": mixers.run,
    "parts": parts.run,
    "differential": differential.run,
    "training": training.run,
    "loop": loop.run,
    "length": length.run,
    "decoding": decoding.run,
    "published": published.run,
}
