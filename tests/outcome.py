"""A command of ours in the process of a test."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import pytest

from diffmamba.__main__ import main

NOISE = ("Traceback", "Error executing", "Warning", "WARNING", "HYDRA_FULL_ERROR")


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def quiet(self) -> bool:
        """Whether it said nothing that a user should not have to read."""
        return not any(word in self.out + self.err for word in NOISE)

    @property
    def rows(self) -> list[str]:
        """The lines of a list's table, without what stands above and below."""
        return list(self.out.split("\n\n")[1].splitlines()[1:])

    def refusal(self) -> str:
        """The one line that a command with a wrong setting says, and nothing else."""
        assert (self.status, self.out) == (2, ""), self
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("error: ")
        return self.err


def outcome_of(name: str, *words: str) -> Outcome:
    """Runs `diffmamba NAME WORDS...`."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "argv", ["diffmamba", name, *words])
        patched.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as ended:
            main()
    status = ended.value.code
    return Outcome(status if isinstance(status, int) else int(status is not None), out.getvalue(), err.getvalue())
