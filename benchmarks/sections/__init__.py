"""The sections of the report, each a module of its name, and its title and text in `sections.yaml`.

A section's module has a function `measure`, which yields what is to be reported: ratios, each with what the cases of
its comparison took, and notes. A module is imported when its section is run, so that what one of them needs, such as
Hydra or transformers, costs only that section where it is missing.
"""

import traceback
from collections.abc import Iterator
from importlib import import_module

import torch

from benchmarks.bench import Bench, read
from benchmarks.record import Ratio, Section, Taken

SECTIONS = ("mixers", "differential", "training", "loop", "length", "decoding", "published")
Found = Iterator[tuple[Taken, Ratio] | str]
"""What `measure` yields: ratios with what was measured, and notes."""


def run(name: str, bench: Bench) -> Section:
    """Measures a section. Where it fails, the section has no rows, and a note that says why."""
    try:
        words = read("sections.yaml", name)
        section = Section(name, words["title"], words["text"].format(sizes=bench.sizes))
        for found in import_module(f"{__name__}.{name}").measure(bench):
            if isinstance(found, str):
                section.notes.append(found)
            else:
                taken, ratio = found
                section.records.append(ratio.measured(name, taken))
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
