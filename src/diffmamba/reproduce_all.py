"""`python -m diffmamba.reproduce all=true scale=smoke`: every table and figure there is, one after the other.

They share their runs through the store, so none is trained twice. One that fails does not keep the others from being
made. Then the site is built. At the end stands what is complete, and what is missing and why.
"""

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diffmamba import file_page, reports
from diffmamba.asked import of_design, scale_of
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.report import site
from diffmamba.reports import FileDesign, designs
from diffmamba.runs.sweeping import store_of
from diffmamba.terminal import say, terminal

FIRST = 3  # reasons that the summary tells of each


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if all of them are complete and written, else 1."""
    reports.pages.check_place(settings["reports"])
    console, told = terminal(), {}
    left_out = [] if settings["predictions"] else designs.of_files("figure")
    asked = [(kind, name) for kind in designs.KINDS for name in designs.names(kind) if name not in left_out]
    for kind, name in asked:
        say(console, f"{kind} {name}")
        told[kind, name] = _going_on(partial(_one, kind, name, settings, words))
    of_runs = [word for word in words if word.startswith("runs=")]
    of_site = _going_on(lambda: "it is not written" * site(Path(settings["reports"]), of_runs))
    for (_, name), missing in told.items():
        say(console, f"{name}: {missing or 'complete'}")
    if left_out:
        say(console, f"{' and '.join(left_out)}: left out, because they are made of a file; add predictions=FILE")
    if of_site:
        say(console, f"site: {of_site}")
    return int(any(told.values()) or bool(of_site))


def _going_on(make: Callable[[], str]) -> str:
    """What `make` says, or the error that ended it, whatever that is: it must not keep the others from being made."""
    try:
        return make()
    except SettingError as error:
        said = str(error)
    except Exception as error:  # of a table of the user's own, or of the machine
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
    tell(f"error: {said}")
    return said.partition("\n")[0]


def _one(kind: str, name: str, settings: dict[str, Any], words: Sequence[str]) -> str:
    """Makes one of them; why it is not complete, or nothing."""
    from diffmamba.reproduce import reproduced

    design = designs.find(kind, name)
    if isinstance(design, FileDesign):
        of_scale = [word for word in words if word.startswith("scale=")]
        return "its page is not written" * file_page.run(design, settings, of_scale)
    asked = of_design(design, words, settings["train"])
    status = reproduced(asked, settings, list(words))
    missing = [line for design, cells in asked.parts for line in _missing(design, cells, store_of(asked.planned))]
    more = f"; and {len(missing) - FIRST} more" * (len(missing) > FIRST)
    return "; ".join(missing[:FIRST]) + more if missing else "its page is not written" * status


def _missing(design: Any, cells: Any, store: Any) -> list[str]:
    return reports.results(design, cells, store.records(), scale_of(cells)).missing
