"""A metric: a name, whether lower or higher is better, and how it prints. Tasks and measures say which ones they give.

A record keeps them as plain data, so that tables and messages need to know no metric by name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """How one figure is read.

    Args:
        label: its name in tables and messages, such as "PPL".
        better: which direction is better; "" where neither is.
        digits: decimals to print.
    """

    label: str
    better: Literal["lower", "higher", ""] = "lower"
    digits: int = 3


def described(name: str, version: int, headline: str, metrics: Mapping[str, Metric], **more: str) -> dict[str, Any]:
    """What a record says of the task or the measure that gives these metrics."""
    as_data = {key: asdict(metric) for key, metric in metrics.items()}
    return {"name": name, "version": version, "headline": headline, **more, "metrics": as_data}
