"""The plan of a sweep: the works of its grid, as Hydra expands it, each with its identity and after what it needs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from diffmamba.configuration import CONF, one_line
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.grid import Cell, grid_of
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.parts import BuiltOnce
from diffmamba.runs.store import Facts, RunStore
from diffmamba.runs.work import Work

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Planned:
    """One work of a sweep, its identity, and the ids of the works it needs.

    `asked` is False where it is only needed by another work. `words` are the settings that tell its cell of the grid
    from the others.
    """

    id: str
    work: Work
    asked: bool = True
    needs: tuple[str, ...] = ()
    words: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration."""
        return dict(self.work.settings)


def expand(sweep: str, overrides: Sequence[str] = (), prepare: bool = True) -> list[Planned]:
    """Every distinct work of `sweeps=sweep` with further overrides, in grid order, after the works it needs.

    A work that stands for two rows of a published table is there twice. With `prepare` the data are prepared where
    that has not been done; without, the run store alone is asked which data are meant, for a table of what there is.
    Words for Hydra's launcher are left to the launcher.

    Raises SettingError with a line for each thing that is wrong in a cell.
    """
    planned: dict[tuple[str, str], Planned] = {}
    ids: set[str] = set()
    known, build = _stored(), BuiltOnce()
    named: Callable[[Work], str] = (lambda work: work.identity()) if prepare else (lambda work: _identity(work, known))

    def seen(cell: Cell) -> tuple[Work, str, dict[str, Work]]:
        work = work_of(grid.composed(cell), build)
        return work, named(work), {named(needed): needed for needed in work.needs}

    with grid_of([f"sweeps={sweep}", *overrides], "train") as grid:
        found = of_each(grid.cells, seen, lambda cell: cell.words, lambda seen: seen[0].check(here=False))
    for cell, (work, run_id, needs) in zip(grid.cells, found, strict=True):
        for needed in needs.keys() - ids:
            planned[needed, "needed"] = Planned(needed, needs[needed], asked=False, words=cell.words)
        stands_for = json.dumps(work.settings["published"], sort_keys=True)
        planned.setdefault((run_id, stands_for), Planned(run_id, work, needs=tuple(needs), words=cell.words))
        ids |= {run_id, *needs}
    return list(planned.values())


def configurations(sweep: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The resolved configuration of every cell of a sweep's grid, in grid order."""
    with grid_of([f"sweeps={sweep}", *overrides], "train") as grid:
        return of_each(grid.cells, grid.composed, lambda cell: cell.words)


def check_grid(words: Sequence[str], root: str, here: bool = True) -> None:
    """Raises SettingError, with a line for each thing that is wrong, unless every cell of a multirun can work.

    Nothing is written but prepared data. `here` is False where the cells run on other machines.
    """

    build = BuiltOnce()

    def check(cell: Cell) -> None:
        settings = grid.composed(cell)
        if root in ("train", "measure"):
            work_of(settings, build).check(here)

    with grid_of([word for word in words if not word.startswith("-")], root) as grid:
        of_each(grid.cells, check, lambda cell: cell.words)


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


def check_launcher(launcher: str) -> None:
    """Raises SettingError where Hydra has no launcher of this name."""
    try:
        with initialize_config_dir(CONF, version_base="1.3", job_name="train"):
            compose("train", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    except HydraException as error:
        text = one_line(error)
        raise SettingError(f"launcher: {text} (slurm needs the extra: pip install -e '.[slurm]')") from error


UNSEEN = {"name": "", "fingerprint": "never seen", "sizes": {"train": 10**9}, "vocabulary": 0}
"""Stands for the facts of data that the run store has never seen. The store holds no run on such data."""


def _identity(work: Work, known: Callable[[str], Facts | None]) -> str:
    """The identity by what the run store knows of the data."""

    def facts_of(work: Work) -> Facts:
        if "corpus" not in work.module.keywords:  # nothing to prepare
            return work.facts
        foreign = isinstance(work, Measurement) and not work.on_own_data
        trained = cast(Measurement, work).trained.data_settings if foreign else None
        return known(json.dumps([work.settings["runs"], work.data_settings, trained])) or UNSEEN

    return work.identity(facts_of)


def _stored() -> Callable[[str], Facts | None]:
    """Looks up the facts of data in a run store, each of them once."""

    @cache
    def look(data: str) -> Facts | None:
        runs, settings, trained = json.loads(data)
        return RunStore(runs).facts(settings, trained)

    return look
