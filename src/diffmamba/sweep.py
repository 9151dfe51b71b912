"""`python -m diffmamba.sweep sweep=table2 scale=smoke`: every work of a grid, on all cores or on a cluster."""

import sys
from typing import Any

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.terminal import say, terminal


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("sweep", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if every work of the grid is finished in the end, else 1."""
    with command_line.importing():  # here: --help needs none of it
        from diffmamba.runs import forecast, sweeping
        from diffmamba.runs.engine import Engine
        from diffmamba.runs.plan import expand

    name, console = settings["sweep"], terminal()
    if not name:
        raise SettingError("which grid? sweep=NAME is a file of sweeps/, such as sweep=table2")
    engine = Engine(settings["launcher"], settings["workers"], settings["slurm"])
    try:
        planned = expand(name, words)
    except SettingError as error:
        raise SettingError(str(error).replace(f"sweeps={name} is", f"sweep={name} is")) from None
    if settings["dry"]:
        for line in forecast.told(planned, engine):
            say(console, line)
        return 0
    sweeping.work_off(name, planned, engine, console)
    done, count, store = sweeping.finished(planned), sweeping.count(planned), sweeping.store_of(planned)
    say(console, f"{done} of {count} runs are finished in {store.directory}")
    if group := planned[0].config.get("group"):
        say(console, f"to see them: diffmamba runs list group={group}")
    return 0 if done == count else 1


if __name__ == "__main__":
    main()
