"""The plan of a sweep: the works of its grid, as Hydra expands it, each with its identity and after what it needs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from diffmamba.configuration import CONF, one_line, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.store import Facts, RunStore
from diffmamba.runs.work import Work


@dataclass(frozen=True)
class Planned:
    """One work of a sweep, its identity, and the ids of the works it needs.

    `asked` is False where it is only needed by another work.
    """

    id: str
    work: Work
    asked: bool = True
    needs: tuple[str, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration."""
        return dict(self.work.settings)


def expand(sweep: str, overrides: Sequence[str] = (), prepare: bool = True) -> list[Planned]:
    """Every distinct work of `sweeps=sweep` with further overrides, in grid order, after the works it needs.

    A work that stands for two rows of a published table is there twice. With `prepare` the data are prepared where
    that has not been done; without, the run store alone is asked which data are meant, for a table of what there is.
    Words for Hydra's launcher are left to the launcher.

    Raises SettingError in one line for an unknown sweep, group or setting.
    """
    planned: dict[tuple[str, str], Planned] = {}
    ids: set[str] = set()
    known = _stored()
    for config in configurations(sweep, overrides):
        work = work_of(config)
        named = (lambda work: work.identity()) if prepare else (lambda work: _identity(work, known))
        needs = {named(needed): needed for needed in work.needs}
        for run_id in needs.keys() - ids:
            planned[run_id, "needed"] = Planned(run_id, needs[run_id], asked=False)
        run_id, stands_for = named(work), json.dumps(config["published"], sort_keys=True)
        planned.setdefault((run_id, stands_for), Planned(run_id, work, needs=tuple(needs)))
        ids |= {run_id, *needs}
    return list(planned.values())


def configurations(sweep: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The resolved configuration of every cell of a sweep's grid, in grid order."""
    for word in overrides:
        if not word.partition("=")[1] or not word.partition("=")[0].strip("-"):
            raise SettingError(f"{word!r} is not a setting; write name=value")
    words = [f"sweeps={sweep}", *(word for word in overrides if not word.startswith("hydra"))]
    try:
        with initialize_config_dir(CONF, version_base="1.3", job_name="train"):
            parser = OverridesParser.create()
            fixed = [word for word in words if not parser.parse_override(word).is_sweep_override()]
            master = compose("train", overrides=fixed, return_hydra_config=True)
            grid = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
            if not grid and fixed == words:
                raise SettingError(
                    f"sweeps={sweep} has no grid: its file must begin with `# @package _global_` and set "
                    "hydra.sweeper.params, or a setting must have several values"
                )
            cells = BasicSweeper.split_arguments(parser.parse_overrides([*grid, *words]), max_batch_size=None)[0]
            return [resolved(compose("train", overrides=cell)) for cell in cells]
    except HydraException as error:
        raise SettingError(one_line(error)) from error


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
