"""The numbers behind MAD's pictures, as tables with a row for each point: what a figure's own rows do not hold."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from diffmamba.browse.places import places
from diffmamba.reports.cells import Results
from diffmamba.reports.designs import mad
from diffmamba.reports.records import SeedResult

Row = dict[str, Any]


def all_of(results: Results) -> dict[str, pd.DataFrame]:
    """By the names of their files: `runs`, all that were planned, and `evaluations` and `places` of those that count.

    `runs` says by which readings each is chosen from those of its setting and seed. `places` has the share of right
    answers by gap and by position.
    """
    rows = list(_rows(results))
    found = {"runs": [row | _result(run) | ways for row, run, ways, _ in rows]}
    for name, points in (("evaluations", _evaluations), ("places", _places)):
        found[name] = [row | point for row, run, _, counts in rows if counts for point in points(run)]
    return {name: pd.DataFrame(told) for name, told in found.items() if told}


def _rows(results: Results) -> Iterator[tuple[Row, SeedResult, Row, bool]]:
    """Each planned run: what tells it from the others, itself, the readings, and whether it counts in the table."""
    pairs = dict.fromkeys((cell.key.fields["task"], cell.key.fields["model"]) for cell in results.planned)
    for setting in (one for pair in pairs for one in mad.settings(results, *pair)):
        for seed in dict.fromkeys(run.seed for cell in setting.cells for run in cell.seeds):
            choice = setting.choice(seed)
            chosen = {name: choice.by(name) for name in mad.READINGS}
            for key, run in choice.runs:
                told = key.fields
                names = {"task": told["task"], "model": told["model"], **told["setting"], **told["optimizer"]}
                ways = {f"by_{name}": one is run and run.value is not None for name, one in chosen.items()}
                yield names | {"seed": seed, "run": run.id}, run, ways, ways[f"by_{told['best_of']}"]


def _result(run: SeedResult) -> Row:
    return {"status": run.status, "test_accuracy": run.value, "val_accuracy": mad.validated(run)}


def _evaluations(run: SeedResult) -> Iterator[Row]:
    for one in run.record.get("evaluations") or []:
        yield {name.replace("/", "_"): value for name, value in one.items()}


def _places(run: SeedResult) -> Iterator[Row]:
    for kind in ("gap", "position"):
        for at, _, _, accuracy, count in places(run.record, kind):
            yield {"by": kind, "at": at, "accuracy": accuracy, "count": count}
