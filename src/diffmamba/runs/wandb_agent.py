"""What `diffmamba.train` does where an agent of a W&B sweep has started it (`wandb agent`).

The agent has made a run on W&B, and says which by variables. W&B's client logs to this run, whatever id it is given. So
a work that is done here needs nothing more. One that was done before, or that another process does meanwhile, is not
done again: its rows and figures are sent to the agent's run, which would stay empty.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from diffmamba.errors import one_line
from diffmamba.runs import processes
from diffmamba.runs.loggers import ROWS
from diffmamba.runs.rows import Rows
from diffmamba.runs.search import trial
from diffmamba.runs.store import Record, Run, RunStore
from diffmamba.runs.wandb_run import WandbRun, is_wandb, wanted
from diffmamba.runs.work import Work

SWEEP, RUN, PARAMETERS = "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"
"""What an agent tells by variables: its sweep, its run, and a file with the values that the run was given."""
CELL = "cell"
"""The parameter whose value is all the words of a cell of a grid."""

log = logging.getLogger(__name__)


def is_one() -> bool:
    """Whether an agent has started this process."""
    return bool(os.environ.get(SWEEP) and os.environ.get(RUN))


def name() -> str | None:
    """A name for the agent's run: the values that it was given. None where the agent does not say them."""
    try:
        told = yaml.safe_load(Path(os.environ[PARAMETERS]).read_text(encoding="utf-8"))
        given = {str(key): one["value"] for key, one in told.items() if isinstance(one, Mapping)}
    except (OSError, LookupError, ValueError, AttributeError, yaml.YAMLError):
        return None
    return ", ".join(str(value) if key == CELL else f"{key}={value}" for key, value in given.items()) or None


def done(work: Work) -> Record:
    """Does the work of an agent's run; waits where another process does it. The agent's run shows it in any case."""
    record = trial(work)
    run = RunStore(work.settings["runs"]).run(record["id"])
    if processes.rank() == 0 and not any((run.directory / "wandb").glob(f"*run-*-{os.environ[RUN]}")):
        for node in wanted(work.settings.get("logger") or {}).values():
            if is_wandb(node):
                _show(node, work, run, record)
    return record


def _show(node: Mapping[str, Any], work: Work, run: Run, record: Record) -> None:
    """Sends a work that ended before. What goes wrong at W&B is a warning: the work is done."""
    told = {"run": run.id, "parameters": (record.get("parameters") or {}).get("total")}
    try:
        shown = WandbRun(node, run, work.settings, work.kind, told)
        shown.go_on(Rows(run.directory / ROWS).read())
        shown.close(record)
    except Exception as error:
        log.warning("W&B's run %s stays empty: %s", os.environ[RUN], one_line(error))
