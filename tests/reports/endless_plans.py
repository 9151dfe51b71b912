"""A build of a site whose plans take as good as for ever, for a test that ends it."""

import os
import sys
import time
from pathlib import Path

from diffmamba.exit_status import guarded
from diffmamba.report import site
from diffmamba.reports.site import plans

ENDLESS = 60  # seconds


def endless(*asked):
    """Stands for the expansion of a plan."""
    print("expanding in a child", flush=True)
    time.sleep(ENDLESS)


if __name__ == "__main__":
    plans._plan = endless
    os.environ["DIFFMAMBA_RUNS"] = sys.argv[1]
    sys.exit(guarded(lambda: site(Path(sys.argv[2]), [])))
