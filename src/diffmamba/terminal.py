"""Where commands print: as wide as the terminal, and with the signs that its encoding has."""

import os
import sys

from rich.console import Console

UNLIMITED = 10_000  # columns, where no terminal sets a limit
SIGNS = {"Δ": "D", "λ": "l", "±": "+", "−": "-", "–": "-", "✓": "v", "✗": "x", "·": "*", "µ": "u", "×": "x"}
"""What stands for our signs: one letter for each, so that columns keep their widths and verdicts stay different."""
PLAIN = str.maketrans(SIGNS)


def terminal() -> Console:
    """A console as wide as the terminal. In a pipe or a file every row and every paragraph stays one line.

    The variable `COLUMNS` sets the width.
    """
    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=UNLIMITED if free else None, highlight=False, markup=False)


def spelled(text: str, encoding: str) -> str:
    """The text with signs that this encoding has: where it has no Δ, ✓ and so on, letters stand for them."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def say(console: Console, line: str) -> None:
    """Prints a line that is never broken."""
    console.print(spelled(line, console.encoding), highlight=False, markup=False, soft_wrap=True)
