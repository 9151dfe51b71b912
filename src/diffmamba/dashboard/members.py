"""Which runs a sweep has: those of its plan, whichever sweep has trained them first.

A run keeps the group of the sweep that trained it. So a sweep that shares runs with another one is more than its group.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diffmamba.runs.index import Entry
from diffmamba.runs.store import RunStore


def planned(
    sweeps: Mapping[str, str], scale: str, entries: Mapping[str, Entry], store: RunStore, reports: Path
) -> dict[str, Sequence[str]]:
    """The runs in the plan of each of these sweeps at this scale, for those of which the store holds some.

    A sweep is left out where no run has another group than its own, since its group is all of it then. Plans are kept
    in the site, since to expand one takes seconds.

    Args:
        sweeps: the group of each.
    """
    groups = {entry.setting("group") for entry in entries.values() if entry.setting("scale.name") == scale}
    asked = {name: (name, (f"scale={scale}",)) for name, group in sweeps.items() if groups - {group}}
    if not asked:
        return {}
    from diffmamba.reports.site import manifest  # here: they are needed for sweeps that may share runs alone
    from diffmamba.reports.site.plans import Plans

    with manifest.alone(reports):
        plans = Plans(reports, manifest.stamp(), store, entries).of(asked.values())
    found = {name: [run_id for run_id, _ in plans[one].works] for name, one in asked.items()}
    return {name: ids for name, ids in found.items() if any(run_id in entries for run_id in ids)}


def elsewhere(entries: Iterable[Entry], group: str) -> dict[str, int]:
    """How many of these runs each other group holds; those without a group are in "no group"."""
    found: dict[str, int] = {}
    for entry in entries:
        held = entry.setting("group")
        if held != group:
            name = "no group" if held is None else f"the group {held}"
            found[name] = found.get(name, 0) + 1
    return found
