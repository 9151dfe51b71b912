"""The sections of the report, each a module of its name with a function `run` from a `Bench` to a table.

A module is imported when its section is run, so that what one of them needs, such as Hydra or transformers, costs only
that section where it is missing.
"""

from importlib import import_module

from benchmarks.bench import Bench
from benchmarks.record import Section

SECTIONS = ("mixers", "differential", "training", "loop", "length", "decoding", "published")


def run(name: str, bench: Bench) -> Section:
    """Measures a section. Where it fails, the section has no rows, and a note that says why."""
    try:
        return import_module(f"{__name__}.{name}").run(bench)
    except Exception as error:  # whatever is wrong with one section, the others are still worth having
        first = (str(error).splitlines() or [""])[0]
        return Section(name, f"Section {name}", "", [], [f"{FAILED} ({type(error).__name__}: {first})"])


FAILED = "This section failed"
