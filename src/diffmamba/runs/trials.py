"""The trials of a search that a run store holds. The store is the memory of a search, so it is asked alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.browse.fields import Names, value
from diffmamba.configuration import composing
from diffmamba.errors import SettingError
from diffmamba.override import word
from diffmamba.runs import index
from diffmamba.runs.described import Described
from diffmamba.runs.execution import work_of
from diffmamba.runs.form import Record
from diffmamba.runs.grid import Grid
from diffmamba.runs.index import Entry
from diffmamba.runs.parts import BuiltOnce
from diffmamba.runs.plan import identity_in_store
from diffmamba.runs.store import RunStore


def trials_of(
    told: Described, store: RunStore, records: Mapping[str, Record] | None = None
) -> list[tuple[dict[str, Any], Record]]:
    """The searched settings and the record of each trial, in the order in which they began. `records`: see `expand`.

    A run of the search's group is one of its trials exactly if the search composes to this run with the values that the
    run has: other scales, other data and other searches of the same group are left out.
    """
    entries = [entry for entry in index.entries(store).values() if entry.setting("group") == told.group]
    values = {entry.id: found for entry in entries if (found := _values(entry, told.varied)) is not None}
    if not values:
        return []
    ids = _ids(
        [[f"sweeps={told.name}", *told.fixed, *(word(*pair) for pair in one.items())] for one in values.values()],
        records,
    )
    trials = [(one, run_id) for (run_id, one), made in zip(values.items(), ids, strict=True) if run_id == made]
    known = [(one, record) for one, run_id in trials if (record := store.run(run_id).read()) is not None]
    return sorted(known, key=lambda trial: (trial[1]["started"], trial[1]["id"]))


def _ids(cells: Sequence[Sequence[str]], records: Mapping[str, Record] | None) -> list[str | None]:
    """The id of the work that each of these lines composes to, by what the store knows of data; None where none."""
    build, named, found = BuiltOnce(), identity_in_store(records), list[str | None]()
    with composing("train"):
        grid = Grid("train", cells, {})
        for cell in grid.cells:
            try:
                found.append(named(work_of(grid.composed(cell), build)))
            except SettingError:
                found.append(None)
    return found


def _values(entry: Entry, varied: Sequence[str]) -> dict[str, Any] | None:
    """What a run has of the settings that are searched; None where it lacks one."""
    names, found = Names([entry]), {}
    for name in varied:
        try:
            found[name] = value(entry, names.found(name.lstrip("+").rpartition("@")[2].replace("/", ".")))
        except SettingError:
            return None
    return found
