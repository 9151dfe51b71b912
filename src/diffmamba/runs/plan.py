"""The plan of a sweep: the works of its grid, as Hydra expands it, each with its identity and after what it needs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.form import Record
from diffmamba.runs.grid import Cell, grid_of
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.parts import BuiltOnce, Settings
from diffmamba.runs.store import Facts, RunStore
from diffmamba.runs.work import Work

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Planned:
    """One work of a sweep, its identity, and the ids of the works it needs itself.

    `asked` is False where it is only needed by another work. `words` are the settings that tell its cell of the grid
    from the others. No two works of a plan have the same words. `alike` are the configurations of further cells of the
    grid that are this same work, since they differ in what it does not read. Two cells of one configuration are one.
    """

    id: str
    work: Work
    asked: bool = True
    needs: tuple[str, ...] = ()
    words: str = ""
    alike: tuple[Settings, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration, as plain data. Works share the parts that are equal: nobody may change them."""
        return dict(self.work.settings)


def expand(
    sweep: str, overrides: Sequence[str] = (), prepare: bool = True, records: Mapping[str, Record] | None = None
) -> list[Planned]:
    """Every distinct work of `sweeps=sweep` with further overrides, in grid order, after the works it needs.

    A work that stands for two rows of a published table is there twice. With `prepare` the data are prepared where
    that has not been done; without, the run store alone is asked which data are meant, for a table of what there is.
    `records` are what it would be asked for, where somebody has them already. Words for Hydra's launcher are left to
    the launcher.

    Raises SettingError with a line for each thing that is wrong in a cell.
    """
    build, once = BuiltOnce(), CheckedOnce(here=False)
    named = _identity if prepare else identity_in_store(records)
    with grid_of([f"sweeps={sweep}", *overrides], "train") as grid:
        found = of_each(
            grid.cells,
            lambda cell: _named(work_of(grid.composed(cell), build), named),
            lambda cell: cell.words,
            lambda found: once(found.work),
        )
    plan = _Plan()
    for cell, work in zip(grid.cells, found, strict=True):
        plan.add(work, cell.words)
    return list(plan.planned.values())


def cells_of(planned: Sequence[Planned]) -> list[tuple[str, dict[str, Any]]]:
    """The id and the resolved configuration of every cell of a sweep: a work that several are stands there for each."""
    asked = [item for item in planned if item.asked]
    return [(item.id, dict(config)) for item in asked for config in (item.config, *item.alike)]


class _Named(NamedTuple):
    """A work with its id, and those that it needs itself."""

    work: Work
    id: str
    needs: tuple["_Named", ...]


def _named(work: Work, identity: Callable[[Work], str]) -> _Named:
    return _Named(work, identity(work), tuple(_named(needed, identity) for needed in work.needs))


class _Plan:
    """Works in their order, each once for each row of a table that it stands for."""

    def __init__(self) -> None:
        self.planned: dict[tuple[str, str], Planned] = {}
        self._ids: set[str] = set()
        self._words: dict[str, str] = {}

    def add(self, asked: _Named, words: str) -> None:
        """Adds the work of a cell, after those that it needs."""
        for needed in asked.needs:
            self._add_needed(needed, words)
        self._put(asked, words, row=json.dumps(asked.work.settings["published"], sort_keys=True))

    def _add_needed(self, work: _Named, words: str) -> None:
        for needed in work.needs:
            self._add_needed(needed, words)
        if work.id not in self._ids:
            self._put(work, f"{words} ({work.work.kind})".strip())

    def _put(self, work: _Named, words: str, row: str | None = None) -> None:
        self._ids.add(work.id)
        count, needs = 1, tuple(needed.id for needed in work.needs)
        while self._words.setdefault(told := f"{words} ({count})" if count > 1 else words, work.id) != work.id:
            count += 1
        key = (work.id, row or "needed")
        settings, there = work.work.settings, self.planned.get(key)
        if there and row is not None and settings not in (there.work.settings, *there.alike):
            self.planned[key] = replace(there, alike=(*there.alike, settings))
        planned = Planned(work.id, work.work, asked=row is not None, needs=needs, words=told)
        self.planned.setdefault(key, planned)


class CheckedOnce:
    """Checks works as `Work.check` does, but not twice those that pass or fail alike."""

    def __init__(self, here: bool) -> None:
        self._here = here
        self._found: dict[tuple[object, ...], tuple[tuple[object, ...], SettingError | None]] = {}

    def __call__(self, work: Work) -> None:
        """Raises SettingError for what cannot work."""
        parts = work.checked_parts(self._here)  # kept, so that no other one gets the id of one that has no hash
        key = tuple(part if _has_hash(part) else id(part) for part in parts)
        if key not in self._found:
            try:
                work.check(self._here)
                self._found[key] = (parts, None)
            except SettingError as error:
                self._found[key] = (parts, error)
            for one in (work, *work.needs):
                vars(one).pop("shapes", None)  # thousands of networks would fill the memory
        if wrong := self._found[key][1]:
            raise wrong.with_traceback(None)


def _has_hash(part: object) -> bool:
    try:
        hash(part)
    except TypeError:
        return False
    return True


def configurations(sweep: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The resolved configuration of every cell of a sweep's grid, in grid order."""
    with grid_of([f"sweeps={sweep}", *overrides], "train") as grid:
        return of_each(grid.cells, grid.composed, lambda cell: cell.words)


def check_grid(words: Sequence[str], root: str, here: bool = True) -> list[Cell]:
    """The cells of a multirun. Raises SettingError, with a line for each thing that is wrong, unless each can work.

    Nothing is written but prepared data. `here` is False where the cells run on other machines.
    """

    build, once = BuiltOnce(), CheckedOnce(here)

    def check(cell: Cell) -> None:
        settings = grid.composed(cell)
        if root in ("train", "measure"):
            once(work_of(settings, build))

    with grid_of([word for word in words if not word.startswith("-")], root) as grid:
        of_each(grid.cells, check, lambda cell: cell.words)
    return grid.cells


def of_each(
    cells: Sequence[T],
    function: Callable[[T], R],
    words: Callable[[T], str],
    further: Callable[[R], object] = lambda result: None,
) -> list[R]:
    """What a function makes of each cell.

    Raises one SettingError for all that went wrong: a line for each different message, with the number of cells that
    it holds for and the `words` of the first. Then what is wrong with the results by a `further` function is told too.
    """
    results: list[tuple[T, R]] = []
    wrong: dict[str, list[str]] = {}
    for cell in cells:
        try:
            results.append((cell, function(cell)))
        except SettingError as error:
            wrong.setdefault(str(error), []).append(words(cell))
    if not wrong:
        return [result for _, result in results]
    for cell, result in results:
        try:
            further(result)
        except SettingError as error:
            wrong.setdefault(str(error), []).append(words(cell))
    count = len(cells)
    lines = [
        message if len(told) == count else f"{message} (in {len(told)} of {count} cells, first {told[0]})"
        for message, told in wrong.items()
    ]
    raise SettingError("\n".join(lines))


UNSEEN = {"name": "", "fingerprint": "never seen", "sizes": {"train": 10**9}, "vocabulary": 0}
"""Stands for the facts of data that the run store has never seen. The store holds no run on such data."""


def _identity(work: Work) -> str:
    return work.identity()


def identity_in_store(records: Mapping[str, Record] | None = None) -> Callable[[Work], str]:
    """The identity of works by what the run store knows of their data. It is asked once for each data."""

    @cache
    def known(data: str) -> Facts | None:
        runs, settings, trained = json.loads(data)
        return RunStore(runs).facts(settings, trained, records)

    def facts_of(work: Work) -> Facts:
        if "corpus" not in work.module.keywords:  # nothing to prepare
            return work.facts
        foreign = isinstance(work, Measurement) and not work.on_own_data
        trained = cast(Measurement, work).trained.data_settings if foreign else None
        return known(json.dumps([work.settings["runs"], work.data_settings, trained])) or UNSEEN

    return lambda work: work.identity(facts_of)
