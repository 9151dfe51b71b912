"""`python -m diffmamba.reproduce table=table2 scale=smoke`: a published table or figure, from its sweep to its page."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from diffmamba import command_line
from diffmamba.errors import SettingError

DEFAULT_TABLE = "table2"


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("reproduce", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if every run that belongs to the table or figure counts, else 1."""
    from diffmamba import reports  # here: --help needs none of it
    from diffmamba.runs import worker
    from diffmamba.runs.plan import expand

    table, figure = settings["table"], settings["figure"]
    if table and figure:
        raise SettingError(f"table={table} and figure={figure}: one at a time; leave one of them out")
    kind, name = ("figure", figure) if figure else ("table", table or DEFAULT_TABLE)
    design, console = reports.designs.find(kind, name), Console()
    planned = expand(design.sweep, words, prepare=settings["train"])
    cells = [(item.id, item.config) for item in planned if item.asked]
    reports.results(design, cells, {}, _scale(cells))  # refuses two runs of one cell before anything is trained
    if settings["train"]:
        engine = worker.Engine(settings["launcher"], settings["workers"])
        worker.work_off(design.sweep, planned, engine, words, console)
    told = [word for word in words if not word.startswith("scale=")]  # pages name the scale anyway
    results = reports.results(design, cells, worker.store_of(planned).records(), _scale(cells), told)
    directory = Path(settings["reports"]) / f"{design.name}-{results.scale}"
    reports.show(reports.document(design, results), console)
    if results.counted or settings["train"]:
        page = reports.write(design, results, directory)[-1]
        console.print(f"written to {page}", highlight=False, soft_wrap=True)
    else:
        console.print(f"no run counts yet, so {directory} is left as it is", highlight=False, soft_wrap=True)
    return 0 if results.complete else 1


def _scale(cells: list[tuple[str, dict[str, Any]]]) -> str:
    return cells[0][1]["scale"]["name"]


if __name__ == "__main__":
    main()
