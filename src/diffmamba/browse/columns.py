"""Which settings tell some runs apart: what a list shows in columns, and what it says once above them."""

from collections.abc import Hashable, Iterable, Sequence

from diffmamba.browse.fields import NOTHING, OF_A_RUN, text, value
from diffmamba.runs.index import Entry

FIRST = ("measure", "model.name", "data.name", "scale.name", "seed", "weights")
"""What is said of every run, in a column if it differs."""
GROUPS = ("model", "data", "measured", "optimizer", "budget", "task", "callbacks", "trainer")
"""The order of the columns; groups that are not named come behind, and `scale`, which only sets others, last."""
UNTOLD = ("runs", "retry_failed", "retry", "retries", "force", "published", "logger", "checkpoint", "name", "group")
"""Settings and groups that tell nothing about what a run computes."""
TREES = ("model.network.", "data.module.", "measured.module.")
"""What groups are made into, which says their settings a second time."""
REPEATED = ("weights._target_", "weights.run", "weights.path", "weights.store", "weights.named", "measure._target_")
"""What `FIRST` says already."""


def telling(entries: Sequence[Entry]) -> list[str]:
    """The whole names of what differs among runs, so that no two rows look the same where that can be.

    A setting is left out where it only repeats another one, or follows from the choice of its group or of the scale.
    """
    names = _differing(entries)
    plain = [name for name in names if not name.startswith(TREES)]
    chosen = _without_repetition(entries, plain)
    if _alike(entries, chosen) and len(plain) < len(names):
        chosen = _without_repetition(entries, [*chosen, *names])
    return chosen


def constant(entries: Sequence[Entry]) -> dict[str, str]:
    """What `FIRST` says of all runs alike, or of those of which it says something."""
    found = {name: {*_column(entries, name)} - {NOTHING} for name in FIRST}
    return {name: next(iter(one)) for name, one in found.items() if len(one) == 1}


def _differing(entries: Sequence[Entry]) -> list[str]:
    """Every name under which the runs do not all have the same, in the order of the columns."""
    groups = dict.fromkeys(group for entry in entries for group in entry.parts if group not in UNTOLD)
    found = [name for name in FIRST if len(set(_column(entries, name))) > 1]
    for group in groups:
        parts = {id(part): part for entry in entries if (part := entry.parts.get(group)) is not None}
        lacks = any(group not in entry.parts for entry in entries)
        names = dict.fromkeys(name for part in parts.values() for name in part)
        for name in names:
            differs = len({text(part.get(name)) for part in parts.values()}) > 1 or lacks
            if differs and not name.endswith("_partial_") and name not in REPEATED:
                found.append(name)
    return sorted(dict.fromkeys(found), key=order)


def order(name: str) -> tuple[int, ...]:
    """The rank of a setting: what says most to a person comes first."""
    if name in FIRST:
        return (0, FIRST.index(name))
    group = name.partition(".")[0]
    if group == "scale":
        return (3, 0, name.count("."))
    return (1, GROUPS.index(group), name.count(".")) if group in GROUPS else (2, 0, name.count("."))


def _without_repetition(entries: Sequence[Entry], names: Iterable[str]) -> list[str]:
    """The names without those that say nothing new."""
    seen: dict[tuple[str, ...], str] = {}
    scales = _column(entries, "scale.name")
    for name in names:
        column = _column(entries, name)
        if name not in FIRST:
            group = name.partition(".")[0]
            choice = {"measure": "measure", "weights": "weights._target_"}.get(group, f"{group}.name")
            choices = _column(entries, choice)
            if _follows(column, list(zip(choices, scales, strict=True))):
                continue
        seen.setdefault(column, name)
    return list(seen.values())


def _column(entries: Sequence[Entry], name: str) -> tuple[str, ...]:
    """The text of what each run has under a whole name."""
    if name in OF_A_RUN:
        return tuple(text(value(entry, name)) for entry in entries)
    group = name.partition(".")[0]
    known: dict[int, str] = {}  # runs share their parts
    found = [entry.parts.get(group, {}) for entry in entries]
    return tuple(known.get(id(part)) or known.setdefault(id(part), text(part.get(name))) for part in found)


def _follows(column: Sequence[str], keys: Sequence[Hashable]) -> bool:
    """Whether there is one value for each key, and more than one key."""
    known: dict[Hashable, str] = {}
    return all(known.setdefault(key, one) == one for key, one in zip(keys, column, strict=True)) and len(known) > 1


def _alike(entries: Sequence[Entry], names: Sequence[str]) -> bool:
    """Whether two runs have the same under all names."""
    rows = set(zip(*(_column(entries, name) for name in names), strict=True)) if names else {()}
    return len(rows) < len(entries)
