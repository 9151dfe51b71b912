"""`python -m diffmamba.report table=table2 scale=smoke`: a published table or figure from the runs there are."""

import sys
from typing import Any

from diffmamba import command_line
from diffmamba.reproduce import run


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("report", _shown))


def _shown(settings: dict[str, Any], words: list[str]) -> int:
    return run(settings | {"train": False}, words)


if __name__ == "__main__":
    main()
