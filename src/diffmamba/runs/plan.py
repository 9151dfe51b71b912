"""The plan of a sweep: the works of its grid, as Hydra expands it, each with its identity and after what it needs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from diffmamba.configuration import CONF, explained, one_line, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.measurement import Measurement
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
    known = _stored()
    named: Callable[[Work], str] = (lambda work: work.identity()) if prepare else (lambda work: _identity(work, known))

    def seen(cell: Cell) -> tuple[Work, str, dict[str, Work]]:
        work = work_of(cell.composed())
        return work, named(work), {named(needed): needed for needed in work.needs}

    with _cells([f"sweeps={sweep}", *overrides], "train") as cells:
        found = of_each(cells, seen, lambda cell: cell.words, lambda seen: seen[0].check(here=False))
    for cell, (work, run_id, needs) in zip(cells, found, strict=True):
        for needed in needs.keys() - ids:
            planned[needed, "needed"] = Planned(needed, needs[needed], asked=False, words=cell.words)
        stands_for = json.dumps(work.settings["published"], sort_keys=True)
        planned.setdefault((run_id, stands_for), Planned(run_id, work, needs=tuple(needs), words=cell.words))
        ids |= {run_id, *needs}
    return list(planned.values())


def configurations(sweep: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The resolved configuration of every cell of a sweep's grid, in grid order."""
    with _cells([f"sweeps={sweep}", *overrides], "train") as cells:
        return of_each(cells, lambda cell: cell.composed(), lambda cell: cell.words)


def check_grid(words: Sequence[str], root: str, here: bool = True) -> None:
    """Raises SettingError, with a line for each thing that is wrong, unless every cell of a multirun can work.

    Nothing is written but prepared data. `here` is False where the cells run on other machines.
    """

    def check(cell: Cell) -> None:
        settings = cell.composed()
        if root in ("train", "measure"):
            work_of(settings).check(here)

    with _cells([word for word in words if not word.startswith("-")], root) as cells:
        of_each(cells, check, lambda cell: cell.words)


@dataclass(frozen=True)
class Cell:
    """One cell of a grid: its overrides of a root configuration, and those that tell it from the others."""

    root: str
    overrides: tuple[str, ...]
    words: str

    def composed(self) -> dict[str, Any]:
        """Its resolved configuration. SettingError in one line."""
        with explained(self.root, self.overrides):
            return resolved(compose(self.root, overrides=list(self.overrides)), self.root, self.overrides)


@contextmanager
def _cells(words: Sequence[str], root: str) -> Iterator[list[Cell]]:
    """Every cell of the grid that a command line stands for, in Hydra's order, while Hydra can compose them.

    Words for Hydra itself are left out. Raises SettingError for words without a grid.
    """
    words = [word for word in words if not word.startswith("hydra")]
    with initialize_config_dir(CONF, version_base="1.3", job_name=root):
        with explained(root, words):
            overrides = _overrides(words, root)
        common = set(overrides[0]).intersection(*overrides)
        yield [Cell(root, tuple(cell), " ".join(word for word in cell if word not in common)) for cell in overrides]


def _overrides(words: Sequence[str], root: str) -> list[list[str]]:
    """The overrides of each cell."""
    parser = OverridesParser.create()
    fixed = [word for word in words if not parser.parse_override(word).is_sweep_override()]
    master = compose(root, overrides=fixed, return_hydra_config=True)
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    sweep = next((word for word in words if word.startswith("sweeps=")), None)
    if sweep and not params and fixed == words:
        raise SettingError(
            f"{sweep} has no grid: its file must begin with `# @package _global_` and set "
            "hydra.sweeper.params, or a setting must have several values"
        )
    cells = BasicSweeper.split_arguments(parser.parse_overrides([*params, *words]), max_batch_size=None)[0]
    if not cells:
        raise SettingError(f"{' '.join(word for word in words if word not in fixed)} has no values, so no cell is left")
    return [list(cell) for cell in cells]


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
