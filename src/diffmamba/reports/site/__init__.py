"""One static site of a run store: what is done and what is missing, all tables and figures, and a page for each run.

    python -m diffmamba.report    # writes reports/index.html and what it leads to

It needs no server and no network. It is drawn from the store alone, and only where something has changed: see
`building`. Nothing here trains, and nothing imports PyTorch but the expansion of a sweep's plan, in a child process.
"""

from diffmamba.reports.site.building import build

__all__ = ["build"]
