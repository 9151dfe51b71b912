"""The settings in force: hyper-parameters beside the printed ones, and switches where the paper leaves a choice.

`page.yaml` says which settings are compared and which choices there are.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from diffmamba.paper.cases import Case
from diffmamba.paper.published import numbers, rows, stored


def agreements(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Every hyper-parameter that the paper prints for a case: ours, the printed one, and whether they are equal."""
    found = []
    for case in cases:
        for source, row in _printed(case):
            for column, setting in stored("page")["hyper_parameters"][source].items():
                ours, theirs = _select(case, setting), row[column]
                names = {"cell": case.key, "setting": setting, "source": source}
                found.append(names | {"ours": ours, "published": theirs, "equal": ours == theirs})
    return found


def _printed(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows with hyper-parameters of a case."""
    if case.table == "table1":
        row = case.config["published"]
        place = f"{row['data']}/{row['layers']}"
        yield from (("table 3", rows("table3")[place]), ("table 1", rows("table1")[place]))
    else:
        yield "table 4", numbers()["table4"]
    yield from (("table 5", row) for row in numbers()["table5"]["rows"] if row["model"] == case.model)


def readings(cases: Sequence[Case], defaults: Sequence[Case]) -> list[dict[str, str]]:
    """The switches with the default and the value in force, as Diff-Mamba's cases of table 1 have them."""
    return [
        row | {"default": _values(defaults, row["setting"]), "in_force": _values(cases, row["setting"])}
        for row in stored("page")["readings"]
    ]


def _values(cases: Sequence[Case], setting: str) -> str:
    chosen = [case for case in cases if (case.table, case.model) == ("table1", "diff_mamba")]
    return ", ".join(dict.fromkeys(str(_select(case, setting)).lower() for case in chosen))


def _select(case: Case, setting: str) -> Any:
    """The value of a setting such as `model.dropout`."""
    return reduce(getitem, setting.split("."), case.config)
