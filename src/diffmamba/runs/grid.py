"""The runs of a sweep: Hydra's own expansion of its grid, each with its configuration and its identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from diffmamba.configuration import CONF, corpus, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.identity import identity


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: its identity and its resolved configuration."""

    id: str
    config: dict[str, Any]


def expand(sweep: str, overrides: Sequence[str] = ()) -> list[PlannedRun]:
    """Every distinct run of `sweeps=sweep` with further overrides, in grid order; prepares the corpora it names.

    Raises SettingError in one line for an unknown sweep, group or setting.
    """
    for word in overrides:
        if not word.partition("=")[1] or not word.partition("=")[0].strip("-"):
            raise SettingError(f"{word!r} is not a setting; write name=value")
    words = [f"sweeps={sweep}", *overrides]
    try:
        with initialize_config_dir(CONF, version_base="1.3", job_name="train"):
            parser = OverridesParser.create()
            fixed = [word for word in words if not parser.parse_override(word).is_sweep_override()]
            master = compose("train", overrides=fixed, return_hydra_config=True)
            grid = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
            parsed = parser.parse_overrides([*grid, *words])
            cells = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
            configs = [resolved(compose("train", overrides=cell)) for cell in cells]
    except HydraException as error:
        raise SettingError(_one_line(error)) from error
    planned: dict[str, PlannedRun] = {}
    for config in configs:
        run_id = identity(config, corpus(config["data"]).fingerprint)
        planned.setdefault(run_id, PlannedRun(run_id, config))
    return list(planned.values())


def _one_line(error: HydraException) -> str:
    """Hydra's message without its advice on search paths."""
    lines = [line.strip() for line in str(error).split("Config search path")[0].splitlines()]
    text = " ".join(line for line in lines if line)
    return text.replace("Available options in", "; available options in")
