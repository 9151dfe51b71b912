"""The plans of sweeps: which runs belong to a table, figure or sweep. They are kept between two builds.

To expand a plan takes PyTorch and seconds, so it is done in a child process, and again only when a configuration, our
code or the data that the store knows have changed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.reports.site.manifest import FOLDER, digest
from diffmamba.runs.form import Record
from diffmamba.runs.index import Entry
from diffmamba.runs.store import RunStore

NAME = "plans.json"
MOST_TRIED = 20  # runs with the same data that are asked for it
Asked = tuple[str, tuple[str, ...]]
"""A sweep and further words."""


@dataclass(frozen=True)
class Plan:
    """The works that a sweep asks for: id and configuration of each, in its order. `error` says why there are none."""

    cells: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    error: str = ""


def plans(asked: Iterable[Asked], reports: Path, stamp: str, known: Mapping[str, Record]) -> dict[Asked, Plan]:
    """The plan of each. `known` are records that tell the data of the store: see `data_known`."""
    wanted, path = list(dict.fromkeys(asked)), reports / FOLDER / NAME
    current = digest(stamp, {name: record["corpus"] for name, record in known.items()})
    kept = _read(path, current)
    if lacking := [one for one in wanted if one not in kept]:
        with ProcessPoolExecutor(1, get_context("fork")) as child:
            kept |= zip(lacking, child.submit(_expanded, lacking, known).result(), strict=True)
        rows = [[sweep, list(words), plan.cells, plan.error] for (sweep, words), plan in kept.items()]
        atomic.write(path, json.dumps({"digest": current, "plans": rows}, ensure_ascii=False))
    return {one: kept[one] for one in wanted}


def data_known(store: RunStore, entries: Iterable[Entry]) -> dict[str, Record]:
    """For each data of the store, the record of the latest run that has read them."""
    alike: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:  # runs share equal parts, so these need not be compared
        alike.setdefault((id(entry.parts.get("data")), id(entry.parts.get("measured"))), []).append(entry)
    found = {}
    for group in alike.values():
        for entry in sorted(group, key=lambda one: one.started, reverse=True)[:MOST_TRIED]:
            record = store.run(entry.id).read()
            if record is not None and "corpus" in record:
                found[entry.id] = record
                break
    return found


def _read(path: Path, current: str) -> dict[Asked, Plan]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["digest"] != current:
            return {}
        return {
            (sweep, tuple(words)): Plan(tuple((name, config) for name, config in cells), error)
            for sweep, words, cells, error in content["plans"]
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _expanded(asked: Sequence[Asked], known: Mapping[str, Record]) -> list[Plan]:
    """In a process of its own, which takes the libraries and their memory with it."""
    return [_plan(sweep, words, known) for sweep, words in asked]


def _plan(sweep: str, words: Sequence[str], known: Mapping[str, Record]) -> Plan:
    from diffmamba.runs.plan import expand

    try:
        planned = expand(sweep, words, prepare=False, records=known)
    except SettingError as error:
        return Plan(error=str(error))
    cells = [(item.id, item.config) for item in planned if item.asked]
    return Plan(tuple(json.loads(json.dumps(cells))))  # as they are read from the file
