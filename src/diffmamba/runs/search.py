"""A search: a multirun of which a sweeper such as Optuna proposes the next settings from the results so far."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from omegaconf import DictConfig

from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.runs.execution import WAIT_SECONDS, execute, work_of
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.store import Record, RunTakenError
from diffmamba.runs.work import Training, Work

DIRECTIONS = {"lower": "minimize", "higher": "maximize"}


def is_search(hydra: Any) -> bool:
    """Whether a multirun does not know its cells beforehand, by Hydra's own part of its configuration."""
    return not hydra.sweeper._target_.endswith(".BasicSweeper")


def file_of(given: Sequence[Override]) -> str:
    """The file of the sweep that these words choose, as the beginning of an error; nothing where they choose none."""
    return next((f"sweeps/{one.value()}.yaml: " for one in given if one.key_or_group == "sweeps"), "")


def refuse_grids(config: DictConfig, given: Sequence[Override]) -> None:
    """Raises SettingError for a search that is to be a union of grids too. `given` are the words of `config`."""
    if is_search(config.hydra) and "grids" in config:
        raise SettingError(f"{file_of(given)}grids have cells, and a search (hydra/sweeper) has none; leave out one")


def check_search(config: DictConfig, words: Sequence[str], here: bool = True) -> None:
    """Raises SettingError unless the two ends of all ranges can work, and the direction is that of the metric.

    `config` is what the words compose to, with Hydra's own part. Nothing is written but prepared data.
    """
    params = [f"{name}={value}" for name, value in (config.hydra.sweeper.get("params") or {}).items()]
    given = [word for word in words if not word.startswith(("-", "hydra"))]
    parsed = OverridesParser.create().parse_overrides([*params, *given])
    refuse_grids(config, parsed)
    settings = {one.key_or_group: one for one in parsed}
    if not any(one.is_sweep_override() for one in settings.values()):
        raise SettingError("there is nothing to search: hydra.sweeper.params= names the settings with their ranges")
    for end in (0, -1):
        work = work_of(composed([_word(one, end) for one in settings.values()]))
        work.check(here)
    wanted = DIRECTIONS[_better(work)]
    direction = config.hydra.sweeper.get("direction", wanted)
    direction = getattr(direction, "name", direction)
    if direction != wanted:
        raise SettingError(f"hydra.sweeper.direction={direction}: it must be {wanted}, since {_better(work)} is better")


def trial(work: Work) -> Record:
    """Does the work of a trial. A search needs its result, so it waits where another process does the same work."""
    while True:
        with suppress(RunTakenError):
            return execute(work, progress_bar=False)
        time.sleep(WAIT_SECONDS)


def _word(override: Override, end: int) -> str:
    """A setting at one end of its range: the first value (0) or the last (-1)."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        if value.start > value.end:
            raise SettingError(f"{override.input_line} begins above its end")
        if "log" in value.tags and value.start <= 0:
            raise SettingError(f"{override.input_line} must begin above 0, since its logarithm is divided evenly")
        return f"{override.get_key_element()}={value.end if end else value.start}"
    values = list(override.sweep_iterator(transformer=Transformer.encode))
    if not values:
        raise SettingError(f"{override.input_line} has no values")
    return f"{override.get_key_element()}={values[end]}"


def _better(work: Work) -> str:
    """Whether a lower or a higher headline is better. Raises SettingError where neither is."""
    told: Any = work.task_type.described() if isinstance(work, Training) else _measured(work)
    headline = told["headline"].rpartition("/")[2]
    if better := str(told["metrics"][headline]["better"]):
        return better
    raise SettingError(
        f"a search needs a figure that can be better: {headline} of {told['name']} is only a description"
    )


def _measured(work: Work) -> Any:
    assert isinstance(work, Measurement)
    return work.measure.described()
