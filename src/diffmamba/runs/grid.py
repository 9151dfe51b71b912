"""The runs of a sweep: Hydra's own expansion of its grid, each with its configuration and its identity."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from diffmamba.configuration import CONF, corpus, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.identity import identity
from diffmamba.runs.store import RunStore


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: its identity and its resolved configuration."""

    id: str
    config: dict[str, Any]


def prepared(config: dict[str, Any]) -> str:
    """The fingerprint of the corpus that a configuration names, which is prepared first if need be."""
    return corpus(config["data"]).fingerprint


def stored(config: dict[str, Any]) -> str:
    """The fingerprint of the corpus that the latest run of a configuration's `data` was fed, by the run store alone."""
    return RunStore(config["runs"]).fingerprint(config["data"])


def expand(
    sweep: str, overrides: Sequence[str] = (), fingerprint: Callable[[dict[str, Any]], str] = prepared
) -> list[PlannedRun]:
    """Every distinct run of `sweeps=sweep` with further overrides, in grid order; one for each row that it stands for.

    `fingerprint` is `prepared`, or `stored` for a table from the run store alone. Words for Hydra's launcher are left
    to the launcher.

    Raises SettingError in one line for an unknown sweep, group or setting.
    """
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
            parsed = parser.parse_overrides([*grid, *words])
            cells = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
            configs = [resolved(compose("train", overrides=cell)) for cell in cells]
    except HydraException as error:
        raise SettingError(_one_line(error)) from error
    planned: dict[tuple[str, str], PlannedRun] = {}
    fingerprints: dict[str, str] = {}
    for config in configs:
        data = json.dumps([config["data"], config["runs"]], sort_keys=True)
        if data not in fingerprints:
            fingerprints[data] = fingerprint(config)
        run_id = identity(config, fingerprints[data])
        stands_for = json.dumps(config["published"], sort_keys=True)
        planned.setdefault((run_id, stands_for), PlannedRun(run_id, config))
    return list(planned.values())


def check_launcher(launcher: str) -> None:
    """Raises SettingError where Hydra has no launcher of this name."""
    try:
        with initialize_config_dir(CONF, version_base="1.3", job_name="train"):
            compose("train", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    except HydraException as error:
        text = _one_line(error)
        raise SettingError(f"launcher: {text} (slurm needs the extra: pip install -e '.[slurm]')") from error


def _one_line(error: HydraException) -> str:
    """Hydra's message without its advice on search paths."""
    lines = [line.strip() for line in str(error).split("Config search path")[0].splitlines()]
    text = " ".join(line for line in lines if line)
    return text.replace("Available options in", "; available options in")
