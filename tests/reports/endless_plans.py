"""A build of a site whose plans take for ever: prints the id of the process that expands them."""

import os
import sys
import time
from pathlib import Path

from diffmamba.exit_status import guarded
from diffmamba.report import site
from diffmamba.reports.site import plans


def endless(*asked):
    """Stands for the expansion of a plan."""
    print(os.getpid(), flush=True)
    time.sleep(600)


plans._plan = endless
os.environ["DIFFMAMBA_RUNS"] = sys.argv[1]
sys.exit(guarded(lambda: site(Path(sys.argv[2]), [])))
