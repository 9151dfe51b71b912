"""The words of `diffmamba runs`: settings of a command, ids of runs, and conditions that choose runs.

model=diff_*  seed=0,1  status=failed  test/ppl<5.5  optimizer.learning_rate>=1e-3  older=7d
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from diffmamba.browse.fields import Names, text, value
from diffmamba.browse.groups import named
from diffmamba.errors import SettingError
from diffmamba.runs.form import STATUSES
from diffmamba.runs.index import Entry
from diffmamba.runs.store import MOST_TOLD, Run, RunStore

WORD = re.compile(r"(?P<name>[^=<>!]+)(?P<sign><=|>=|!=|=|<|>)(?P<value>.*)", re.S)
COMMA = re.compile(r",(?![^\[\]]*\])")  # none inside of a list
AGE = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
AGES = ("older", "newer")
COMPARED = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


@dataclass(frozen=True)
class Condition:
    """One word that chooses runs. `given` is the word itself."""

    given: str
    name: str
    sign: str
    values: tuple[str, ...]

    def holds(self, entry: Entry) -> bool:
        """Whether it holds for a run. Raises SettingError where a number is compared with a word."""
        if self.name in AGES:
            return _is_older(entry, seconds(self.given)) == (self.name == "older")
        found = [value(entry, self.name)]
        if self.name == "error":
            found.append(entry.error.get("type"))
        if self.sign in COMPARED:
            return any(self._compared(one) for one in found)
        if self.name.endswith("_target_"):
            found += [text(one).rpartition(".")[2] for one in found]
        return any(_fits(one, asked) for one in found for asked in self.values) == (self.sign == "=")

    def _compared(self, found: Any) -> bool:
        asked = self.values[0]
        if isinstance(found, str):
            return COMPARED[self.sign](found, asked)
        if not isinstance(found, int | float):
            return False
        try:
            return COMPARED[self.sign](found, float(asked))
        except ValueError:
            raise SettingError(f"{self.given}: {self.name} is a number, and {asked!r} is none") from None


@dataclass(frozen=True)
class Words:
    """The words of a command: its own settings, the ids, and the words that choose runs.

    `known` are the settings that the command has.
    """

    known: Collection[str]
    options: Mapping[str, str]
    ids: tuple[str, ...]
    chosen: tuple[str, ...]

    def flag(self, name: str) -> bool:
        """A setting that is true or false."""
        given = self.options.get(name, "false")
        if given not in ("true", "false"):
            raise SettingError(f"{name}={given} must be true or false")
        return given == "true"

    def choice(self, name: str, among: Sequence[str]) -> str:
        """A setting that is one of some words; the first where it is not given."""
        given = self.options.get(name, among[0])
        if given not in among:
            raise SettingError(f"{name}={given} must be {' or '.join(among)}")
        return given

    def conditions(self, names: Names) -> list[Condition]:
        """The conditions, with whole names. Raises SettingError for a name that no run has."""
        return [_condition(word, names, self.known) for word in self.chosen]


def split(words: Iterable[str], options: Collection[str]) -> Words:
    """The words of a command that has these settings."""
    own, ids, chosen = {}, [], []
    for word in words:
        parts = WORD.fullmatch(word)
        if parts is None:
            if word.startswith("-") or not word or any(sign in word for sign in "=<>!"):
                raise SettingError(f"{word!r} is not a setting; write name=value, or ask --help")
            ids.append(word)
        elif parts["name"] in options and parts["sign"] == "=":
            own[parts["name"]] = parts["value"]
        else:
            chosen.append(word)
    return Words(options, own, tuple(ids), tuple(chosen))


def choose(entries: Iterable[Entry], conditions: Sequence[Condition]) -> list[Entry]:
    """The runs for which all conditions hold."""
    return [entry for entry in entries if all(condition.holds(entry) for condition in conditions)]


def seconds(word: str) -> float:
    """The age that a word such as `older=7d` names."""
    name, _, given = word.partition("=")
    found = AGE.fullmatch(given)
    if found is None:
        raise SettingError(f"{name}={given} must be a time such as 90min, 12h, 7d or 2w")
    return float(found[1]) * UNITS[found[2]]


def run_of(store: RunStore, given: str, ids: Collection[str]) -> Run:
    """The run that an id or its first letters name, also one that was set aside. Raises SettingError."""
    name = given.rstrip("/")
    if (found := store.id_of(name, ids, given)) is not None:
        return store.run(found)
    near = get_close_matches(name, ids, MOST_TOLD)
    advice = f"; nearest are {', '.join(near)}" if near else ""
    raise SettingError(f"{given} is no run in {store.directory}{advice}")


def _condition(word: str, names: Names, options: Collection[str]) -> Condition:
    parts = WORD.fullmatch(word)
    assert parts is not None
    name = parts["name"] if parts["name"] in AGES else names.found(parts["name"], [*options, *AGES])
    values = COMMA.split(parts["value"])
    if name.endswith(".name"):  # data=mad/compression names a file
        values = [one for value in values for one in named(name.removesuffix(".name"), value)]
    condition = Condition(word, name, parts["sign"], tuple(values))
    if name in AGES:
        seconds(word)
    if name == "status":
        for wrong in [one for one in condition.values if one not in STATUSES and "*" not in one]:
            raise SettingError(f"status={wrong} is no status; use one of {', '.join(STATUSES)}")
    return condition


def _is_older(entry: Entry, age: float) -> bool:
    """Whether it ended, or else began, so many seconds ago; by the time of its record where it does not say when."""
    try:
        at = datetime.fromisoformat(entry.when).timestamp()
    except ValueError:  # edited by hand
        at = entry.changed
    return time.time() - at > age


def _fits(found: Any, asked: str) -> bool:
    """Whether a value is the one that is asked for, which may be a pattern."""
    if found is None or asked == "null":
        return found is None and asked in ("null", "*")
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(asked) == found
        except ValueError:
            pass
    return text(found) == asked or fnmatchcase(text(found), asked)
