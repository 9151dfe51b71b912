"""What may have been meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None if none is.

    In this order: the initials of a name in the same group (`optimizer.lr`), the last part alone (`learning_rate`), and
    a similar spelling.
    """
    names = list(dict.fromkeys(map(str, known)))
    group, _, last = name.rpartition(".")
    ends = {one: one.rpartition(".")[2] for one in names}
    initials = [one for one, end in ends.items() if last == "".join(word[:1] for word in end.split("_"))]
    initials.sort(key=lambda one: one.rpartition(".")[0] != group)
    same = [one for one, end in ends.items() if end == last]
    beside = [one for one in names if one.rpartition(".")[0] == group]
    spelling = get_close_matches(name, beside, 1, 0.7) + get_close_matches(name, names, 1, 0.7)
    return next(iter([*initials[: len(last) > 1], *same, *spelling]), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error: `; did you mean NAME?`, or nothing."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""
