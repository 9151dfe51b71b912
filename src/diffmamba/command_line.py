"""What all commands share: Hydra composes their settings, errors are one line, and exit statuses are few.

0: done. 1: something failed or is incomplete. 2: a wrong setting. 130: interrupted.

A command is a root configuration in `conf/` (its settings, their defaults and its help) and a function of the composed
configuration. Commands for a whole sweep (`sweep`, `reproduce`, `report`) keep their own settings and hand all other
words on to the grid: `own_settings`.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console

from diffmamba.configuration import CONF, one_line, resolved
from diffmamba.errors import SettingError
from diffmamba.runs.store import SWEEP_STARTED

FLAGS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version", "--resolve", "--package", "-p")
OF_A_TRAINING = ("model", "model/embedding", "data", "task", "optimizer", "budget", "scale", "experiments", "seed")
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
INTERRUPTED = 130
OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a disk that is full or cannot be written. What was not recorded is done again by the same command."""
PATHS = ("runs", "data.path", "data.directory", "weights.run", "weights.path", "measured.path")


def application(
    root: str, function: Callable[[dict[str, Any]], int], texts: Sequence[str] = (), typed: bool = False
) -> int:
    """Runs a command on the words of the command line. Returns its exit status.

    Args:
        root: the root configuration.
        function: gets the settings as plain data, returns an exit status.
        texts: settings that are taken as they are written: no sign in a path or a prompt has a meaning of its own.
            In a multirun they are Hydra's, so that they may have several values.
        typed: every setting of the root must have the type of its default.

    Hydra's own flags work: `--help`, `--cfg job`, `-m`.
    """
    multirun = any(word in ("-m", "--multirun") or word.startswith("sweeps=") for word in sys.argv[1:])
    words = [sys.argv[0], *(_quoted(word, () if multirun else texts) for word in sys.argv[1:])]
    statuses: list[int] = []

    def entry(config: DictConfig) -> None:
        statuses.append(guarded(lambda: function(resolved(config))))
        if statuses[-1] == INTERRUPTED:
            sys.exit(INTERRUPTED)  # the one way past Hydra that ends a multirun

    def run() -> int:
        if not any(word.startswith(FLAGS) for word in words[1:]):  # Hydra would say in ten lines what is wrong
            _check(root, words[1:], typed)
            if multirun and SWEEP_STARTED not in os.environ:  # a sweep has checked every cell before it starts others
                from diffmamba.runs.plan import check_grid  # here: one work needs none of it

                check_grid(words[1:], root, here=not any(word.startswith("hydra/launcher=") for word in words))
        sys.argv = words
        hydra.main(version_base="1.3", config_path=CONF, config_name=root)(entry)()
        return statuses[0] if len(statuses) == 1 else int(any(statuses))

    return guarded(run)


def sweep_application(
    root: str, function: Callable[[dict[str, Any], list[str]], int], texts: Sequence[str] = ()
) -> int:
    """Runs a command for a whole sweep, as `application` does for one work."""
    words = sys.argv[1:]
    if any(word.startswith(FLAGS) for word in words):
        return application(root, lambda settings: 0)  # Hydra prints what is asked for
    return guarded(lambda: function(*own_settings(root, words, texts)))


def own_settings(root: str, words: Sequence[str], texts: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The settings of a command for a whole sweep, and the words for its grid.

    Words that name a setting of the command's root configuration are its own. All others are for the grid, where a
    setting may have several values, separated by commas.
    """
    for word in words:
        if not word.partition("=")[1] or not word.partition("=")[0].strip("-"):
            raise SettingError(f"{word!r} is not a setting; write name=value")
    with _one_line(), initialize_config_dir(CONF, version_base="1.3", job_name=root):
        defaults = resolved(compose(root))
        own = [_quoted(word, texts) for word in words if word.partition("=")[0] in defaults]
        settings = resolved(compose(root, overrides=own))
    check_types(settings, defaults)
    return settings, [word for word in words if word.partition("=")[0] not in defaults]


def check_types(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises SettingError for a setting whose value is not of the type of its default."""
    for name, default in defaults.items():
        value, kind = settings.get(name), type(default)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if default is not None and kind in TYPES and not fits:
            raise SettingError(f"{name}={value} must be {TYPES[kind]}")


def refuse_ignored(settings: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raises SettingError for words that describe a network, where a measurement takes that of a run."""
    if not settings.get("measure") or "run" not in settings["weights"]:
        return
    for word in words:
        name = word.lstrip("+~").partition("=")[0].partition(".")[0]
        if name in OF_A_TRAINING:
            advice = "; for another corpus to measure on use data@measured=NAME" * (name == "data")
            raise SettingError(f"{word}: with weights=run, {name} is that of the run; leave it out{advice}")


def _check(root: str, words: Sequence[str], typed: bool) -> None:
    """Says in one line what Hydra would say in ten."""
    with _one_line(), initialize_config_dir(CONF, version_base="1.3", job_name=root):
        given = [word for word in words if not word.startswith("-")]
        overrides = OverridesParser.create().parse_overrides(given)
        swept = [word for word, one in zip(given, overrides, strict=True) if one.is_sweep_override()]
        settings = compose(root, overrides=[word for word in given if word not in swept], return_hydra_config=True)
        if swept and len(given) == len(words) and settings.hydra.mode is None:
            raise SettingError(f"{swept[0]} has several values; add -m for a grid, or put the value in quotes")
        if typed:
            check_types(settings, compose(root))


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except HydraException as error:
        raise SettingError(one_line(error)) from error


def _quoted(word: str, texts: Sequence[str]) -> str:
    """The word with its value in Hydra's quotes, if it is one of these settings and not quoted already."""
    name, equals, value = word.partition("=")
    if not equals or name not in texts or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return word
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'"


def guarded(function: Callable[[], int]) -> int:
    """The exit status of a function, with errors in one line."""
    for name in ("SIGTERM", "SIGHUP"):  # a closed terminal stops what it started, unless nohup says otherwise
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        return function()
    except SettingError as error:
        tell(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in OF_A_DISK:
            raise
        where = f": {error.filename}" if error.filename else ""
        tell(f"error: {error.strerror or error}{where}; mend that and run it again")
        return 1


def tell(line: str) -> None:
    """One line on standard error, never broken."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
