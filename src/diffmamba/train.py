"""`python -m diffmamba.train model=diff_mamba data=pydoc8 scale=smoke seed=0`: one run, or a sweep with sweeps=NAME."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from diffmamba import command_line


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("train", run))


def run(settings: dict[str, Any]) -> command_line.Ended:
    """Does one work and says how it ended. In a sweep, a failure does not keep the others from being done.

    The headline is returned as a number, so that a sweeper such as Optuna can search for its best value.
    """
    with command_line.importing():  # here: --help, and a sweep that runs elsewhere, need none of it
        from diffmamba.runs import RunTakenError, processes, wandb_agent
        from diffmamba.runs.execution import execute, work_of
        from diffmamba.runs.search import is_search, trial
        from diffmamba.runs.summary import objective, summary

    single, searched = HydraConfig.get().mode == RunMode.RUN, is_search(HydraConfig.get())
    if not single and settings["name"] is None:
        settings["name"] = command_line.name_in_grid() or None
    if wandb_agent.is_one() and settings["name"] is None:
        settings["name"] = wandb_agent.name()
    try:
        command_line.refuse_ignored(settings, HydraConfig.get().overrides.task)
        work = work_of(settings)
        if wandb_agent.is_one():
            record = wandb_agent.done(work)
        else:
            record = trial(work) if searched else execute(work, progress_bar=single, wait=single)
    except RunTakenError as taken:
        if single:
            raise
        print(taken)
        return command_line.Ended(0)  # in a grid, what another process does is done
    except KeyboardInterrupt:
        print("interrupted; the same command goes on, a training from its last checkpoint", file=sys.stderr)
        raise
    failed = record["status"] == "failed"
    if processes.rank() == 0:
        print(summary(record, Path(settings["runs"])), file=sys.stderr if failed else sys.stdout, flush=True)
    return command_line.Ended(int(failed), objective(record))


if __name__ == "__main__":
    main()
