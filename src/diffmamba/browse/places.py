"""The accuracy of a run by place: by position, by how far back an answer's source is (gap), and by class."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ORDERED = ("gap", "position")
"""The kinds of places that lie in a row, so that neighbours can be joined."""


class Place(NamedTuple):
    """Places from `low` to `high`, in the mean `at`: how many answers they have, and the share that is right."""

    at: float
    low: float
    high: float
    right: float
    answers: float


def places(record: Mapping[str, Any], kind: str, split: str = "test") -> list[Place]:
    """Each place of a kind (gap, position, class) that has answers, at the last evaluation; none without details."""
    node: Any = record.get("details")
    for key in (split, kind):
        node = node.get(key) if isinstance(node, Mapping) else None
    columns = [node.get(name) for name in ("at", "accuracy", "count")] if isinstance(node, Mapping) else [None]
    if not all(isinstance(column, list) for column in columns):
        return []
    rows = [row for row in zip(*columns, strict=False) if all(isinstance(one, int | float) for one in row)]
    return sorted(Place(at, at, at, right, count) for at, right, count in rows if count > 0)


def joined(found: Sequence[Place], most: int) -> list[Place]:
    """At most so many, each of neighbours that have about as many answers together as the others."""
    total, before = sum(place.answers for place in found), 0.0
    groups: dict[int, list[Place]] = {}
    for place in found:
        groups.setdefault(int(most * (before + place.answers / 2) / total), []).append(place)
        before += place.answers
    return [_one(group) for group in groups.values()] if len(found) > most else list(found)


def _one(group: Sequence[Place]) -> Place:
    answers = sum(place.answers for place in group)
    at = sum(place.at * place.answers for place in group) / answers
    right = sum(place.right * place.answers for place in group) / answers
    return Place(at, group[0].low, group[-1].high, right, answers)
