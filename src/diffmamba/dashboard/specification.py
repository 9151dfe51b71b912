"""A file of `sweeps/` as the specification of a W&B sweep, whose agents start the ordinary `diffmamba.train`.

A grid becomes one parameter, `cell`, that lists the works of the plan, each with the words that tell it from the
others. So W&B's runs are those of our own sweep: values that depend on others are resolved, and cells that are the same
work are there once. W&B also shows the parameters of a sweep in place of settings of the same name: with `model` and
`data` as parameters a run would show no setting of its model and data.

A search becomes a parameter for each setting that is searched, with its range, and W&B proposes the values.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from diffmamba.configuration import composed, composing
from diffmamba.errors import SettingError
from diffmamba.runs.execution import work_of
from diffmamba.runs.grid import grid_of
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.plan import expand
from diffmamba.runs.search import DIRECTIONS, check_search, is_search
from diffmamba.runs.wandb_agent import CELL
from diffmamba.runs.wandb_run import is_wandb
from diffmamba.runs.work import Training, Work
from diffmamba.tasks import Task

TRAIN = ("${interpreter}", "-m", "${program}")
PROGRAM = "diffmamba.train"
OF_CELL = f'eval "exec \\"\\$@\\" ${CELL}"'
"""For the shell: the words of the command, then those of the cell, which W&B hands over as one text."""
METHODS = {"TPESampler": "bayes", "RandomSampler": "random"}
"""W&B's method for the samplers of Optuna; all others that propose by results are like `bayes`."""

Specification = dict[str, Any]


def specification(sweep: str, words: Sequence[str]) -> Specification:
    """What `wandb sweep` takes, for a file of sweeps/ with further words. Raises SettingError for what cannot work."""
    words = list(words)
    with composing("train", [f"sweeps={sweep}", *_fixed(words)]):
        config = compose("train", overrides=[f"sweeps={sweep}", *_fixed(words)], return_hydra_config=True)
        searched = is_search(config.hydra)
    if searched:
        check_search(config, [f"sweeps={sweep}", *words], here=False)
        return _search(config, sweep, words)
    return _grid(sweep, words)


def _grid(sweep: str, words: list[str]) -> Specification:
    planned = expand(sweep, words)
    works = {item.id: item for item in reversed(planned) if item.asked}
    with grid_of([f"sweeps={sweep}", *words], "train") as grid:
        cells = {cell.words: cell.overrides for cell in grid.cells}
    wanted = [cells[works[run_id].words] for run_id in dict.fromkeys(item.id for item in planned if item.asked)]
    common = [word for word in wanted[0] if all(word in cell for cell in cells.values())] if len(cells) > 1 else []
    values = [shlex.join(word for word in cell if word not in common) for cell in wanted]
    command = ["${env}", "${args_no_hyphens}", "sh", "-c", OF_CELL, "sh", *_train(planned[0].work, common)]
    return _whole(sweep, "grid", command, {CELL: {"values": values}}, {"metric": _metric(planned[0].work)})


def _search(config: Any, sweep: str, words: list[str]) -> Specification:
    given = [word for word in words if not word.startswith("hydra")]
    params = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
    settings = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides([*params, *given])}
    searched = {name: one for name, one in settings.items() if one.is_sweep_override()}
    fixed = [f"sweeps={sweep}", *(str(one.input_line) for one in settings.values() if not one.is_sweep_override())]
    plain = composed(fixed)
    for name in searched:
        if isinstance(plain.get(name), Mapping):
            raise SettingError(
                f"{name}: W&B cannot search for {name}, since its own {name} would take the place of the settings "
                f"below {name}; give it one value, or search for settings below it"
            )
    sampler = str(config.hydra.sweeper.get("sampler", {}).get("_target_", "")).rpartition(".")[2]
    further: Specification = {"metric": _metric(work_of(plain))}
    if trials := config.hydra.sweeper.get("n_trials"):
        further["run_cap"] = int(trials)
    parameters = {name: _range(one) for name, one in searched.items()}
    command = ["${env}", *_train(work_of(plain), fixed), "${args_no_hyphens}"]
    return _whole(sweep, METHODS.get(sampler, "bayes"), command, parameters, further)


def _whole(
    sweep: str, method: str, command: list[str], parameters: Specification, further: Specification
) -> Specification:
    told = {"name": sweep, "program": PROGRAM, "method": method, **further}
    return told | {"command": command, "parameters": parameters}


def _train(work: Work, words: Sequence[str]) -> list[str]:
    """The command for one work: the entry point of every training, with the store that this sweep has now.

    Raises SettingError where its runs would log nothing to W&B.
    """
    loggers = (work.settings.get("logger") or {}).values()
    if not any(is_wandb(node) for node in loggers):
        raise SettingError("logger: these runs would log nothing to W&B, and its sweep stay empty; use logger=default")
    store = f"runs={Path(work.settings['runs']).absolute()}"
    words = [word for word in words if not word.startswith("runs=")]
    return [_interpreter(), *TRAIN[1:], "hydra.mode=RUN", *words, store]


def _interpreter() -> str:
    """W&B's name for the `python` of the agent's path, where that is the one that runs now; else its place."""
    found = shutil.which("python")
    return TRAIN[0] if found and Path(found).absolute() == Path(sys.executable).absolute() else sys.executable


def _fixed(words: Sequence[str]) -> list[str]:
    parser = OverridesParser.create()
    return [word for word in words if not parser.parse_override(word).is_sweep_override()]


def _metric(work: Work) -> Specification:
    """What is to be made better: the headline on the val split, as `summary.objective` has it."""
    told: Any = work.measure.described() if isinstance(work, Measurement) else _task(work).described()
    headline = told["headline"]
    name = headline if isinstance(work, Measurement) else headline.replace("test/", "val/")
    better = told["metrics"][headline.rpartition("/")[2]]["better"] or "lower"  # a grid must name a goal, and has none
    return {"name": name, "goal": DIRECTIONS[better]}


def _task(work: Work) -> type[Task]:
    assert isinstance(work, Training)
    return work.task_type


def _range(override: Override) -> Specification:
    """A parameter of W&B for the range, the steps or the choice that a setting has."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        log = "log" in value.tags
        kind = (
            ("q_log_uniform_values" if log else "int_uniform") if whole else "log_uniform_values" if log else "uniform"
        )
        return {"distribution": kind, "min": value.start, "max": value.end} | ({"q": 1} if whole and log else {})
    if isinstance(value, RangeSweep):
        return {"values": list(override.sweep_iterator())}
    texts = override.sweep_iterator(transformer=Transformer.encode)
    return {"values": [_plain(str(text)) for text in texts]}


def _plain(text: str) -> Any:
    """A value as YAML has it. `true` and `null` stay texts, which Python would write in another way."""
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
