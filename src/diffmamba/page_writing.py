"""How a command has its page written, and says where it is or why it cannot be."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from diffmamba.exit_status import tell
from diffmamba.terminal import say


def saved(write: Callable[[], list[Path]], directory: Path, console: Console) -> int:
    """Has a page written and says where it is: 0. Says in one line why it cannot be written: 1."""
    try:
        page = write()[-1]
    except OSError as error:
        reason = error.strerror or error
        tell(f"error: the page cannot be written to {directory}: {reason}; use reports=DIR for another place")
        return 1
    say(console, f"written to {page}")
    return 0
