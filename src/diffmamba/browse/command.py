"""`diffmamba runs COMMAND [ID ...] [name=value ...]`. Words are settings, as in every command; see `words`.

This module imports no large library: a list of 5,000 runs is there in less than a second.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from diffmamba.browse.guide import COMMANDS, help_of, help_of_all
from diffmamba.browse.words import split
from diffmamba.errors import SettingError
from diffmamba.exit_status import guarded
from diffmamba.runs.index import look
from diffmamba.runs.store import RunStore
from diffmamba.spelling import did_you_mean

HELP = ("-h", "--help", "help")


def main() -> None:
    """The entry point."""
    sys.exit(guarded(lambda: run(sys.argv[1:])))


def run(words: Sequence[str]) -> int:
    """Does what the words ask for. Returns the exit status."""
    name, *rest = words or [""]
    if name in ("", *HELP):
        print(help_of_all())
        return 0
    if name not in COMMANDS:
        raise SettingError(
            f"runs {name} is not a command; use one of {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}"
        )
    if any(word in HELP for word in rest):
        print(help_of(name))
        return 0
    module = import_module(f"diffmamba.browse.{COMMANDS[name].module}")
    given = split(rest, module.OPTIONS)
    if given.ids and not COMMANDS[name].ids:
        raise SettingError(f"{given.ids[0]!r} is not a setting; write name=value, such as id={given.ids[0]}*")
    store = RunStore(given.options.get("runs", os.environ.get("DIFFMAMBA_RUNS", "runs")))
    store.require_directory()
    status: int = module.run(given, store, look(store))
    return status
