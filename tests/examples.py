"""How many random examples a test takes: few, and the same each time, unless DIFFMAMBA_EXAMPLES says how many."""

import os
from typing import Any

from hypothesis import HealthCheck, settings


def few(count: int, **more: Any) -> settings:
    """The settings of a test that takes so many examples, each of which may be slow."""
    asked = os.environ.get("DIFFMAMBA_EXAMPLES")
    return settings(
        max_examples=int(asked or count),
        deadline=None,
        database=None,
        derandomize=asked is None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
