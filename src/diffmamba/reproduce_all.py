"""`python -m diffmamba.reproduce all=true scale=smoke`: every table and figure there is, one after the other.

They share their runs through the store, so none is trained twice. One that fails does not keep the others from being
made. Then the site is built. At the end stands what is complete, and what is missing and why.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffmamba import reports
from diffmamba.asked import of_name, scale_of
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.report import site
from diffmamba.reports import designs
from diffmamba.runs.sweeping import store_of
from diffmamba.terminal import say, terminal

FIRST = 3  # reasons that the summary tells of each


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if all of them are complete and written, else 1."""
    console, told = terminal(), {}
    asked = [(kind, name) for kind in designs.KINDS for name in designs.names(kind)]
    for kind, name in asked:
        say(console, f"{kind} {name}")
        told[name] = _one(kind, name, settings, words)
    status = site(Path(settings["reports"]), [word for word in words if word.startswith("runs=")])
    for name, missing in told.items():
        say(console, f"{name}: {missing or 'complete'}")
    return max(status, int(any(told.values())))


def _one(kind: str, name: str, settings: dict[str, Any], words: Sequence[str]) -> str:
    """Makes one of them; why it is not complete, or nothing."""
    from diffmamba.reproduce import reproduced

    try:
        asked = of_name(kind, name, words, settings["train"])
        status = reproduced(asked, settings, list(words))
        missing = [line for design, cells in asked.parts for line in _missing(design, cells, store_of(asked.planned))]
    except SettingError as error:
        tell(f"error: {error}")
        return str(error).partition("\n")[0]
    more = f"; and {len(missing) - FIRST} more" * (len(missing) > FIRST)
    return "; ".join(missing[:FIRST]) + more if missing else "its page is not written" * status


def _missing(design: Any, cells: Any, store: Any) -> list[str]:
    return reports.results(design, cells, store.records(), scale_of(cells)).missing
