"""The rows of a run in its store, for tests of what W&B has of them."""

from diffmamba.runs.loggers import ROWS
from diffmamba.runs.rows import Rows


def rows_of(run):
    return Rows(run.directory / ROWS).read()
