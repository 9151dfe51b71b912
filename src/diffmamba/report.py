"""`python -m diffmamba.report`: one site of all runs; with table=, figure= or sweep= that alone.

python -m diffmamba.report                              # reports/index.html and what it leads to
python -m diffmamba.report table=table2 scale=smoke     # a published table from the runs there are
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.reproduce import run
from diffmamba.terminal import say, terminal

ONE = ("table", "figure", "sweep", "all", "baseline", "title", "predictions")
"""The settings that ask for single pages."""
OF_TRAINING = ("train", "launcher", "workers", "slurm")


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("report", _shown))


def _shown(settings: dict[str, Any], words: list[str]) -> int:
    for word in sys.argv[1:]:
        if re.split(r"[=.]", word.lstrip("+~"), maxsplit=1)[0] in OF_TRAINING and word != "train=false":
            raise SettingError(f"{word}: report trains nothing, so leave it out; diffmamba reproduce takes it")
    if any(settings.get(name) for name in ONE):
        return run(settings | {"train": False}, words)
    return site(Path(settings["reports"]), words)


def site(directory: Path, words: list[str]) -> int:
    """Builds the site. 0 if it is written, else 1."""
    runs = os.environ.get("DIFFMAMBA_RUNS", "runs")
    for word in words:
        name, _, value = word.partition("=")
        if name != "runs":
            raise SettingError(
                f"{word}: the site shows all that there is; with table=, figure= or sweep= it is of that"
            )
        runs = str(OverridesParser.create().parse_override(word).value() or value)
    from diffmamba.reports.site import build  # here: --help needs none of it

    console = terminal()

    def told(line: str) -> None:
        if console.is_terminal or not line.startswith(" "):
            say(console, line)

    try:
        built = build(runs, directory, told)
    except KeyboardInterrupt:
        tell("interrupted; the same command builds the site")
        raise
    except OSError as error:
        reason = error.strerror or error
        tell(f"error: the site cannot be written to {directory}: {reason}; use reports=DIR for another place")
        return 1
    removed = f", {built.removed} removed" * bool(built.removed)
    for page, why in built.wrong.items():
        tell(f"error: {directory / page} could not be drawn: {why}")
    say(console, f"{built.drawn} of {built.pages} pages drawn{removed}; open {directory / 'index.html'}")
    return int(bool(built.wrong))


if __name__ == "__main__":
    main()
