"""`python -m diffmamba.reproduce table=table2 scale=smoke`: a published table or figure, from its sweep to its page."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.terminal import say, terminal

DEFAULT_TABLE = "table2"


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("reproduce", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if every run that belongs to the table or figure counts and its page is written, else 1."""
    with command_line.importing():  # here: --help needs none of it
        from diffmamba import reports
        from diffmamba.other_settings import other_settings, without_baseline
        from diffmamba.other_sources import source_warnings
        from diffmamba.runs.engine import Engine
        from diffmamba.runs.plan import expand
        from diffmamba.runs.sweeping import store_of, work_off

    table, figure = settings["table"], settings["figure"]
    if table and figure:
        raise SettingError(f"table={table} and figure={figure}: one at a time; leave one of them out")
    kind, name = ("figure", figure) if figure else ("table", table or DEFAULT_TABLE)
    design, console = reports.designs.find(kind, name), terminal()
    planned = expand(design.sweep, words, prepare=settings["train"])
    cells = [(item.id, item.config) for item in planned if item.asked]
    reports.results(design, cells, {}, "")  # refuses no runs, and two runs of one cell, before anything is trained
    if settings["train"]:
        engine = Engine(settings["launcher"], settings["workers"], settings["slurm"])
        work_off(design.sweep, planned, engine, console)
    told, page = other_settings(design, cells, words), f"{design.name}-{cells[0][1]['scale']['name']}"
    results = reports.results(design, cells, store_of(planned).records(), cells[0][1]["scale"]["name"], told)
    left_out, of_sources = without_baseline(design, results, words), source_warnings(results)
    results = replace(results, without_baseline=left_out, sources=of_sources)
    reports.show(reports.document(design, results), console)
    directory = reports.pages.directory(settings["reports"], page, told)
    if results.counted or settings["train"]:
        return saved(lambda: reports.write(design, results, directory), directory, console) or int(not results.complete)
    say(console, f"no run counts yet, so {directory} is left as it is")
    for other, further in reports.pages.others(settings["reports"], page):
        say(console, f"there is {other}, made with other settings; to see it, add: {further}")
    return 1


def saved(write: Callable[[], list[Path]], directory: Path, console: Console) -> int:
    """Has a page written and says where it is: 0. Says in one line why it cannot be written: 1."""
    try:
        page = write()[-1]
    except OSError as error:
        reason = error.strerror or error
        tell(f"error: the page cannot be written to {directory}: {reason}; use reports=DIR for another place")
        return 1
    say(console, f"written to {page}")
    return 0


if __name__ == "__main__":
    main()
