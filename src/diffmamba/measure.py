"""`python -m diffmamba.measure measure=perplexity weights=run weights.run=ID`: a measure, taken of given weights."""

import sys

from diffmamba import command_line
from diffmamba.train import run


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("measure", run))


if __name__ == "__main__":
    main()
