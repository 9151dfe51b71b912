"""`python -m diffmamba.report sweep=search`: the page of a search from the trials that the run store holds."""

from collections.abc import Sequence
from typing import Any

from diffmamba import reports
from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.page_writing import saved
from diffmamba.reports import pages, searched
from diffmamba.runs.described import Described
from diffmamba.runs.store import RunStore
from diffmamba.runs.trials import trials_of
from diffmamba.terminal import say, terminal


def run(told: Described, settings: dict[str, Any], words: Sequence[str]) -> int:
    """0 if all trials of the search count and its page is written, else 1."""
    if settings["train"]:
        raise SettingError(f"sweep={told.name} is a search: diffmamba train sweeps={told.name} does its trials")
    if settings["baseline"]:
        raise SettingError("baseline= is for a grid; the trials of a search are ranked, so leave it out")
    console, config = terminal(), composed([f"sweeps={told.name}", *told.fixed])
    scale = config["scale"]["name"]
    further = [word for word in pages.telling(words) if not word.startswith("scale=")]
    title = settings["title"] or told.title
    found = trials_of(told, RunStore(config["runs"]))
    search = searched.search_of(told.name, title, found, scale, further, told.trials)
    made = searched.document(search)
    reports.show(made, console)
    directory = pages.directory(settings["reports"], f"{reports.swept.page_name(told.name)}-{scale}", further)
    if not found:
        say(console, f"no trial of {told.name} is in {config['runs']}; diffmamba train sweeps={told.name} begins it")
        return 1
    return saved(lambda: reports.write_page(made, directory), directory, console) or int(not search.complete)
