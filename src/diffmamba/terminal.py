"""Where commands print: as wide as the terminal, and with the signs that its encoding has."""

import codecs
import os
import sys

from rich.console import Console

UNLIMITED = 10_000  # columns, where no terminal sets a limit
SIGNS = {"Δ": "D", "λ": "l", "±": "+", "−": "-", "–": "-", "✓": "v", "✗": "x", "·": "*", "µ": "u", "×": "x", "…": "."}
SIGNS |= {"│": "|", "─": "-", **dict.fromkeys("┌┐└┘├┤┬┴┼", "+")}
"""What stands for our signs: one letter for each, so that columns keep their widths and verdicts stay different."""
LETTERS = "diffmamba.letters"
"""How a stream may treat signs that its encoding does not have (its `errors`): these letters, or a question mark."""


def terminal() -> Console:
    """A console as wide as the terminal. In a pipe or a file every row and every paragraph stays one line.

    The variable `COLUMNS` sets the width. No sign is an error: see `LETTERS`.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a stream of Python's own, not one of a test
        sys.stdout.reconfigure(errors=LETTERS)
    at_one = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed before we began
    free = not at_one and "COLUMNS" not in os.environ
    return Console(width=UNLIMITED if free else None, highlight=False, markup=False)


def say(console: Console, line: str) -> None:
    """Prints a line that is never broken."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _letters(error: UnicodeError) -> tuple[str, int]:
    """The letters for what could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error(LETTERS, _letters)
