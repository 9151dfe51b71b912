"""The sections of the report, each a module of its name, and its title and text in `sections.yaml`.

A section's module has a function `measure`, which yields what is to be reported (`Found`). It is imported when it is
run, so that what one section needs, such as transformers, costs only that section where it is missing.
"""

import traceback
from importlib import import_module

import torch

from benchmarks.bench import Bench, read
from benchmarks.record import Section

SECTIONS = (
    *("operators", "mixers", "differential", "training", "loop", "sweeps", "mad", "site"),
    *("length", "decoding"),
)


def run(name: str, bench: Bench, limit: int | None = None) -> Section:
    """Measures a section.

    Where it fails or needs a package that is missing, and after `limit` seconds of the run, the section has no rows,
    and a note that says why.
    """
    if limit is not None and bench.seconds > limit:
        return Section(name, name, notes=[f"The section {name} was not started: the limit of {limit} s was over."])
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
    except ModuleNotFoundError as error:
        return Section(name, name, notes=[f"The section {name} is left out: {error}."], left_out=True)
    except Exception as error:  # whatever is wrong with one section, the others are still worth having
        bench.tell(f"{name} failed")
        traceback.print_exc()
        return Section(name, name, notes=[f"The section {name} failed ({in_a_line(error)})."])
    finally:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def in_a_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
