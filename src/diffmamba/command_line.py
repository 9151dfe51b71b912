"""Command lines of entry points that are no Hydra applications: `name=value` words, each value taken as it stands."""

import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from rich.console import Console

from diffmamba.errors import SettingError


def parse(words: Sequence[str], defaults: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings named in `defaults`, with the type of their default (text where it is None), and all other words."""
    settings, others = dict(defaults), []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in defaults:
            others.append(word)
            continue
        settings[name] = _convert(name, text, defaults[name])
    return settings, others


def _convert(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise SettingError(f"{name}={text} must be true or false")
        return text == "true"
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            raise SettingError(f"{name}={text} must be a number") from None
    return text


def run(entry: Callable[[list[str]], int], usage: str) -> None:
    """Runs an entry point on the command line's words and exits with its status.

    `--help` prints the usage; a SettingError is a line on stderr and status 2; Ctrl-C, SIGTERM, SIGHUP are status 130.
    """
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(usage)
        return
    for name in ("SIGTERM", "SIGHUP"):  # a closed terminal stops what it started, unless nohup says otherwise
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        sys.exit(entry(words))
    except SettingError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
