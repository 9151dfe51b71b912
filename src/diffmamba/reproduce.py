"""`python -m diffmamba.reproduce table=table2 scale=smoke`: a published table or figure, from its sweep to its page."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from diffmamba import command_line, reports, sweep
from diffmamba.runs.grid import expand, prepared, stored

USAGE = """usage: python -m diffmamba.reproduce table=NAME|figure=NAME [scale=smoke|small|paper] [any setting of train]

Trains the runs of a published table or figure that the run store does not hold yet, prints the result beside the
published numbers, and writes it to reports/NAME-SCALE/: for a table table.json, table.csv, table.md and index.html, for
a figure NAME.svg, NAME.png, NAME.pdf, NAME.csv and index.html.

  table=table2      which table: table1 or table2
  figure=figure2    or which figure; figure2 is made of the runs of table1
  train=true        false: only render what the run store holds
  reports=reports   where pages go
  launcher, workers as for python -m diffmamba.sweep

Every other word is a setting for all runs, as in: scale=small data=pysrc8 seed=1,2,3"""

DEFAULTS = {"table": "", "figure": "", "train": True, "reports": "reports", "launcher": "local", "workers": 0}
DEFAULT_TABLE = "table2"


def main(words: list[str]) -> int:
    """The entry point: 0 if every run that belongs to the table or figure counts, else 1."""
    settings, overrides = command_line.parse(words, DEFAULTS)
    view = reports.view(settings["table"] or DEFAULT_TABLE * (not settings["figure"]), settings["figure"])
    console = Console()
    planned = expand(view.table, overrides, prepared if settings["train"] else stored)
    cells = reports.cells(view.table, [(run.id, run.config) for run in planned])
    if settings["train"]:
        sweep.train(planned, settings | {"sweep": view.table}, overrides, console)
    scale = planned[0].config["scale"]["name"]
    table = reports.build(view.table, cells, sweep.store_of(planned).records(), scale)
    if overrides:
        table = replace(table, caveats=(f"All runs with {' '.join(overrides)}.", *table.caveats))
    directory = Path(settings["reports"]) / f"{view.name}-{scale}"
    view.show(table, console)
    if table.counted or settings["train"]:
        page = view.write(table, directory)[-1]
        console.print(f"written to {page}", highlight=False, soft_wrap=True)
    else:
        console.print(f"no run counts yet, so {directory} is left as it is", highlight=False, soft_wrap=True)
    return 0 if all(row.status == "complete" for row in table.rows) else 1


if __name__ == "__main__":
    command_line.run(main, USAGE)
