"""Which runs a sweep has: those of its plan, whichever sweep has trained them first.

A run keeps the group of the sweep that trained it. So a sweep that shares runs with another one is more than its group;
and it is less where its group holds trials with other settings too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diffmamba.runs.index import Entry
from diffmamba.runs.store import RunStore


def planned(
    sweeps: Mapping[str, str], scale: str, entries: Mapping[str, Entry], store: RunStore, reports: Path
) -> dict[str, Sequence[str]]:
    """The runs in the plan of each of these sweeps at this scale, for those of which the store holds some.

    All trials of a search are in its plan. Plans are kept in the site, since to expand one takes seconds.

    Args:
        sweeps: the group of each.
    """
    here = [entry for entry in entries.values() if entry.setting("scale.name") == scale]
    asked = {name: (name, (f"scale={scale}",)) for name in sweeps} if here else {}
    if not asked:
        return {}
    from diffmamba.reports.site import manifest  # here: they are needed for sweeps alone
    from diffmamba.reports.site.plans import Plans

    with manifest.alone(reports):
        plans = Plans(reports, manifest.stamp(), store, entries).of(asked.values())
    found = {}
    for name, one in asked.items():
        trials = [entry.id for entry in here if plans[one].search and entry.setting("group") == sweeps[name]]
        found[name] = [*dict.fromkeys([*(run_id for run_id, _ in plans[one].works), *trials])]
    return {name: ids for name, ids in found.items() if any(run_id in entries for run_id in ids)}


def elsewhere(entries: Iterable[Entry], group: str) -> Mapping[str, int]:
    """How many of these runs were trained in each other group, or without one."""
    others = (held for entry in entries if (held := entry.setting("group")) != group)
    return Counter("without a group" if held is None else f"in the group {held}" for held in others)
