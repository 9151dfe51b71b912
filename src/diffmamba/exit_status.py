"""How every command ends: errors are one line, and exit statuses are few.

0: done. 1: something failed or is incomplete. 2: a wrong setting. 130: interrupted.
"""

from collections.abc import Callable

from rich.console import Console

from diffmamba.errors import SettingError
from diffmamba.output import lost, patient
from diffmamba.runs import stopping
from diffmamba.runs.store import RunTakenError


def guarded(function: Callable[[], int]) -> int:
    """The exit status of a function, with errors in one line. What it prints may go nowhere without harm."""
    with stopping.listening(), patient():
        try:
            status = function()
            if status == 0 and (error := lost()):
                raise error
            return status
        except SettingError as error:
            for line in str(error).splitlines():
                tell(f"error: {line}")
            return 2
        except RunTakenError as taken:
            tell(f"error: {taken}")
            return 1
        except KeyboardInterrupt:
            return stopping.INTERRUPTED
        except OSError as error:  # of the machine: what was not recorded is done again by the same command
            if error.errno is None:
                raise
            where = f": {error.filename}" if error.filename else ""
            tell(f"error: {error.strerror or error}{where}; mend that and run it again")
            return 1


def tell(line: str) -> None:
    """One line on standard error, never broken."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)
