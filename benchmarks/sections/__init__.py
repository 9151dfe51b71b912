"""The sections of the report, each a module of its name with a function `run` from a `Bench` to a table.

A module is imported when its section is run, so that what one of them needs, such as Hydra or transformers, costs only
that section where it is missing.
"""

import traceback
from importlib import import_module

import torch

from benchmarks.bench import Bench
from benchmarks.record import Section

SECTIONS = ("mixers", "differential", "training", "loop", "length", "decoding", "published")


def run(name: str, bench: Bench) -> Section:
    """Measures a section. Where it fails, the section has no rows, and a note that says why."""
    try:
        return import_module(f"{__name__}.{name}").run(bench)
    except Exception as error:  # whatever is wrong with one section, the others are still worth having
        first = (str(error).splitlines() or [""])[0]
        bench.tell(f"{name} failed")
        traceback.print_exc()
        return left_out(name, f"failed ({type(error).__name__}: {first})")
    finally:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def left_out(name: str, why: str) -> Section:
    """A section without rows."""
    return Section(name, name, "", [], [f"The section {name} {why}."])
