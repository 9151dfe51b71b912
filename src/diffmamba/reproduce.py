"""`python -m diffmamba.reproduce table=table2 scale=smoke`: a published table, from its sweep to its page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from diffmamba import command_line, reports, sweep
from diffmamba.errors import SettingError
from diffmamba.runs.grid import PlannedRun, expand, prepared, stored

USAGE = """usage: python -m diffmamba.reproduce table=NAME [scale=smoke|small|paper] [any setting of diffmamba.train]

Trains the runs of a published table that the run store does not hold yet, prints the table beside the published
numbers, and writes table.json, table.csv, table.md and index.html to reports/NAME-SCALE/.

  table=table2      which table
  train=true        false: only render what the run store holds
  reports=reports   where pages go
  launcher, workers as for python -m diffmamba.sweep

Every other word is a setting for all runs, as in: scale=small data=pysrc8 seed=1,2,3"""

DEFAULTS = {"table": "table2", "train": True, "reports": "reports", "launcher": "local", "workers": 0}


def main(words: list[str]) -> int:
    """The entry point: 0 if the table is complete, else 1."""
    settings, overrides = command_line.parse(words, DEFAULTS)
    if settings["table"] not in reports.tables():
        raise SettingError(f"table={settings['table']} is not known; use one of {', '.join(reports.tables())}")
    console = Console()
    planned = expand(settings["table"], overrides, prepared if settings["train"] else stored)
    if settings["train"]:
        sweep.train(planned, settings | {"sweep": settings["table"]}, overrides, console)
    scale = planned[0].config["scale"]["name"]
    table = reports.build(settings["table"], cells(planned), sweep.store_of(planned).records(), scale)
    if overrides:
        table = replace(table, caveats=(f"All runs with {' '.join(overrides)}.", *table.caveats))
    directory = Path(settings["reports"]) / f"{settings['table']}-{scale}"
    reports.write(table, directory)
    reports.show(table, console)
    console.print(f"written to {directory / 'index.html'}", highlight=False, soft_wrap=True)
    return 0 if all(row.status == "complete" for row in table.rows) else 1


def cells(planned: Sequence[PlannedRun]) -> list[reports.Cell]:
    """The grid's cells in grid order, each with the run of every seed."""
    runs: dict[tuple[str, bool, str | None], dict[int, str]] = {}
    for run in planned:
        model = run.config["model"]
        key = (model["name"], model["outer_norm"], model["lambda_form"] if uses_lambda(model) else None)
        runs.setdefault(key, {})[run.config["seed"]] = run.id
    return [reports.Cell(*key, runs=by_seed) for key, by_seed in runs.items()]


def uses_lambda(model: dict) -> bool:
    """Whether any of the model's mixers weighs its branches with λ."""
    return any("lambda_form" in mixer.get("combine", {}) for mixer in model["mixers"])


if __name__ == "__main__":
    command_line.run(main, USAGE)
