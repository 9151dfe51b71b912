"""The settings in force beside the printed hyper-parameters, and where the paper leaves a choice: see `page.yaml`."""

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
                ours, theirs = _value(case, setting), row[column]
                names = {"cell": case.key, "setting": setting, "source": source}
                found.append(names | {"ours": ours, "published": theirs, "equal": ours == theirs})
    return found


def _printed(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """The printed rows with hyper-parameters of a case, each with its table."""
    if case.table == "table1":
        place = "{data}/{layers}".format(**case.config["published"])
        yield from (("table 3", rows("table3")[place]), ("table 1", rows("table1")[place]))
    else:
        yield "table 4", numbers()["table4"]
    yield from (("table 5", row) for row in numbers()["table5"]["rows"] if row["model"] == case.model)


def readings(cases: Sequence[Case], defaults: Sequence[Case]) -> list[dict[str, str]]:
    """The choices with the default and the value in force, as Diff-Mamba's cases of table 1 have them."""

    def values(among: Sequence[Case], setting: str) -> str:
        chosen = [case for case in among if (case.table, case.model) == ("table1", "diff_mamba")]
        return ", ".join(dict.fromkeys(str(_value(case, setting)).lower() for case in chosen))

    return [
        row | {"default": values(defaults, row["setting"]), "in_force": values(cases, row["setting"])}
        for row in stored("page")["readings"]
    ]


def _value(case: Case, setting: str) -> Any:
    """The value of a setting such as `model.dropout`."""
    return reduce(getitem, setting.split("."), case.config)
