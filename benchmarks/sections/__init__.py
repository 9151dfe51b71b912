"""The sections of the report, each a module of its name.

A section's module has TITLE, TEXT (in which `{sizes}` are the sizes of the run) and `measure`. That yields, one after
the other, what is to be reported: comparisons, each with what its cases took and the ratios that are wanted of them,
and notes. A module is imported when its section is run, so that what one of them needs, such as Hydra or transformers,
costs only that section where it is missing.
"""

import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module

import torch

from benchmarks.bench import Bench
from benchmarks.record import Ratio, Record, Section, Taken

SECTIONS = ("mixers", "differential", "training", "loop", "length", "decoding", "published")
A_MIXER = (
    "Batch {sizes.batch}, length {sizes.length:,}, d_model {sizes.mixer.d_model:,}, expand 2, head dimension "
    "{sizes.mixer.headdim}, {sizes.mixer.d_state} states (Mamba-1: 16)."
)
"""The end of a TEXT about a single mixer."""
Found = Iterator[tuple[Taken, Iterable[Ratio]] | str]
"""What `measure` yields: comparisons and notes."""


def run(name: str, bench: Bench) -> Section:
    """Measures a section. Where it fails, the section has no rows, and a note that says why."""
    try:
        module = import_module(f"{__name__}.{name}")
        section = Section(name, module.TITLE, module.TEXT.format(sizes=bench.sizes))
        for found in module.measure(bench):
            if isinstance(found, str):
                section.notes.append(found)
            else:
                taken, ratios = found
                section.records += [Record.of(name, ratio, taken) for ratio in ratios]
        return section
    except Exception as error:  # whatever is wrong with one section, the others are still worth having
        bench.tell(f"{name} failed")
        traceback.print_exc()
        return left_out(name, f"failed ({in_a_line(error)})")
    finally:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def left_out(name: str, why: str) -> Section:
    """A section without rows."""
    return Section(name, name, notes=[f"The section {name} {why}."])


def in_a_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
