"""What varies in a sweep: the settings by which its cells differ, without those that only follow from others.

A factor is such a setting. `model=mamba,diff_mamba` makes `model.name`, `model.mixers` and more differ; the choice is
the factor, and its consequences are not. The seed is never one: runs that differ in it alone are one cell.
"""

import json
import shlex
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffmamba.browse import columns
from diffmamba.browse.fields import Names, text, value
from diffmamba.errors import SettingError
from diffmamba.runs.index import Entry, Flat, flat

Config = Mapping[str, Any]
Planned = Sequence[tuple[str, Config]]
"""The works of a sweep, each an id and a resolved configuration."""
Row = tuple[str, ...]
"""The values of all factors in a cell, as keys of `Factor.texts`."""
ANY = "any"
"""Stands in a row for a setting that makes no difference there: the same runs have all its values."""
NAMED = 8  # values of a factor that an error names
AMBIGUOUS = (",", "=", '"', "'", "\\", " ", "\n", "\r", "\t")


class Reader:
    """Reads resolved configurations as lists of runs do. Configurations share parts, and each is read once."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], tuple[Any, Flat]] = {}

    def entry(self, config: Config) -> Entry:
        """A configuration with its settings by their dotted names."""
        parts = {str(name): self._flat(str(name), part) for name, part in config.items() if name != "hydra"}
        weights, measure = config.get("weights"), config.get("measure")
        return Entry(
            *("", "", "", ""),
            weights=weights.get("run") if isinstance(weights, Mapping) else None,
            measure=str(measure.get("_target_")).rpartition(".")[2] if isinstance(measure, Mapping) else None,
            parts=parts,
        )

    def _flat(self, name: str, part: Any) -> Flat:
        if not isinstance(part, Mapping | list):
            return {name: part}
        key = (name, id(part))
        if key not in self._parts:
            self._parts[key] = (part, dict(flat(name, part)))  # with the part, so that no other one gets its id
        return self._parts[key][1]


@dataclass(frozen=True)
class Factor:
    """A setting that varies.

    `name` is its dotted name, `word` the shortest way to write it, and `texts` has each of its values as people write
    it, by the value as JSON.
    """

    name: str
    word: str
    texts: Mapping[str, str] = field(compare=False)

    @property
    def key_in_table(self) -> str:
        """Its name in `table.json`: `model` for a choice, else the whole name."""
        return self.word if self.name.endswith((".name", "._target_")) else self.name

    @property
    def numeric(self) -> bool:
        """Whether all its values are numbers."""
        return all(isinstance(number, int | float) and not isinstance(number, bool) for number in self.values)

    @property
    def values(self) -> list[Any]:
        """Its values, in the order of the sweep."""
        return [json.loads(key) for key in self.texts]

    def told(self, key: str) -> str:
        """`model=mamba`, of a value as JSON."""
        return self.words(self.texts.get(key, key))

    def words(self, told: str) -> str:
        """`model=mamba`, of a value as people write it."""
        return f"{self.word}={quoted(told)}"

    def value(self, key: str) -> Any:
        """A value from its JSON."""
        return json.loads(key)

    def text(self, found: Any) -> str:
        """A value as people write it."""
        return ANY if found == ANY and _json(ANY) not in self.texts else self.texts.get(_json(found), _json(found))

    def has(self, entry: Entry) -> bool:
        """Whether a configuration has this setting, and be it null."""
        there = self.name in entry.parts.get(self.name.partition(".")[0], {})
        return there or value(entry, self.name) is not None

    def key(self, entry: Entry) -> str:
        """The value of a configuration, as JSON."""
        return _json(value(entry, self.name))


def quoted(told: str) -> str:
    """A text that stands among others: in quotes where it holds a sign that has a meaning there, or nothing."""
    return told if told and not any(sign in told for sign in AMBIGUOUS) else json.dumps(told, ensure_ascii=False)


def factors_of(planned: Planned, varied: Iterable[str] = ()) -> list[Factor]:
    """The factors of a sweep, first the settings that its grid varies, where these are known (`varied`)."""
    reader = Reader()
    entries = [reader.entry(config) for _, config in planned]
    names = Names(entries)
    chosen: list[str] = []
    for name in [*_whole(varied, names), *columns.telling(entries)]:
        known = list(zip(*(_column(entries, other) for other in chosen), strict=True)) or [()] * len(entries)
        if name != "seed" and not _follows(_column(entries, name), known):
            chosen.append(name)
    ids = [run_id for run_id, _ in planned]
    seeds = _column(entries, "seed")
    for name in tuple(chosen):
        others = [seeds, *(_column(entries, other) for other in chosen if other != name)]
        if _is_idle(ids, list(zip(*others, strict=True))):
            chosen.remove(name)
    return [_factor(name, names.short(name), _column(entries, name)) for name in chosen]


def rows_of(planned: Planned, factors: Sequence[Factor]) -> dict[Row, dict[Any, str]]:
    """The ids of the runs of each cell, by seed. A run may be in several cells that differ in nothing it reads."""
    reader = Reader()
    rows: dict[Row, dict[Any, str]] = {}
    for run_id, config in planned:
        rows.setdefault(row_of(reader.entry(config), factors), {}).setdefault(config.get("seed"), run_id)
    return rows


def row_of(entry: Entry, factors: Sequence[Factor]) -> Row:
    """The values of all factors in a configuration."""
    return tuple(factor.key(entry) for factor in factors)


def merged(rows: Mapping[Row, Mapping[Any, str]], places: Iterable[int]) -> dict[Row, Row]:
    """The new row of each, where rows of the same runs are one: a setting that makes no difference there is `ANY`.

    Only rows that differ at these places are merged.
    """
    now = {row: row for row in rows}
    for place in places:
        alike: dict[Row, list[Row]] = {}
        for row, new in now.items():
            alike.setdefault((*new[:place], ANY, *new[place + 1 :]), []).append(row)
        for new, members in alike.items():
            distinct = {now[row][place] for row in members}
            if len(distinct) > 1 and all(rows[row] == rows[members[0]] for row in members):
                now |= dict.fromkeys(members, new)
    return now


def baseline_of(
    told: str, factors: Sequence[Factor], rows: Iterable[Row], sweep: str, varied: Iterable[str] = ()
) -> dict[str, str]:
    """The values that make a cell the baseline of its group, as JSON by the names of their factors.

    `told` has them as a command line would: `model=mamba optimizer.learning_rate=3e-3`. `varied` are the settings of
    the grid, also those that make no difference. Raises SettingError that names what may be chosen.
    """
    chosen: dict[str, str] = {}
    for word in _words(told):
        name, sign, given = word.partition("=")
        found = [factor for factor in factors if name in (factor.name, factor.word, factor.key_in_table)]
        found = found or [factor for factor in factors if factor.name.endswith(f".{name}")]
        if not sign or len(found) != 1:
            what = "is not of the form setting=value" if not sign else f"{name} does not vary in {sweep}"
            if sign and not found and name == "seed":
                what = "seeds are folded, so they cannot name a baseline"
            elif sign and not found and any(f".{one}".endswith(f".{name}") for one in varied):
                what = f"{name} makes no difference in {sweep}, so it cannot name a baseline"
            what = f"{name} may be {' or '.join(factor.name for factor in found)}" if len(found) > 1 else what
            raise SettingError(f"baseline={told}: {what}; {_choices(factors)}")
        factor = found[0]
        key = next((key for key, shown in factor.texts.items() if _is(given, key, shown)), None)
        if key is None or chosen.setdefault(factor.name, key) != key:
            what = f"no run of {sweep} has {word}" if key is None else f"{name} is named twice"
            raise SettingError(f"baseline={told}: {what}; {_choices([factor])}")
    places = {place: chosen[factor.name] for place, factor in enumerate(factors) if factor.name in chosen}
    if not any(all(row[place] == key for place, key in places.items()) for row in rows):
        raise SettingError(f"baseline={told}: no run of {sweep} has all of these; {_choices(factors)}")
    return chosen


def _words(told: str) -> list[str]:
    """The words of a baseline, apart at blanks, in quotes or not."""
    try:
        words = shlex.split(told)
    except ValueError as error:
        raise SettingError(f"baseline={told}: a quote is not closed") from error
    if not words:
        raise SettingError('baseline= names no setting; write it as baseline="model=mamba"')
    return words


def _choices(factors: Sequence[Factor]) -> str:
    if not factors:
        return "nothing varies but the seed"
    told = [[factor.told(key) for key in factor.texts] for factor in factors]
    few = [" or ".join([*words[:NAMED], *["..."] * (len(words) > NAMED)]) for words in told]
    return f"there is {'; '.join(few)}"


def _is(given: str, key: str, shown: str) -> bool:
    """Whether a word's value is this one: as it is shown, as JSON, or the same number."""
    if given in (shown, key, *shlex.split(quoted(shown))):
        return True
    try:
        number = json.loads(key)
        return isinstance(number, int | float) and not isinstance(number, bool) and float(given) == number
    except ValueError:
        return False


def _whole(varied: Iterable[str], names: Names) -> list[str]:
    """The dotted names of settings that a grid varies: `measured` for `data@measured`. What no run has is left out."""
    found = []
    for name in varied:
        place = name.lstrip("+").rpartition("@")[2].replace("/", ".")
        try:
            found.append(names.found(place))
        except SettingError:  # it only sets others
            continue
    return found


def _factor(name: str, word: str, column: Sequence[str]) -> Factor:
    keys = list(dict.fromkeys(column))
    texts = {key: _text(json.loads(key), name) for key in keys}
    if len(set(texts.values())) < len(keys):  # such as 1 and "1", or two classes of one name
        texts = dict(zip(keys, keys, strict=True))
    return Factor(name, word, texts)


def _text(found: Any, name: str) -> str:
    if found is None:
        return "null"
    return str(found).rpartition(".")[2] if name.endswith("_target_") else text(found)


def _column(entries: Sequence[Entry], name: str) -> list[str]:
    return [_json(value(entry, name)) for entry in entries]


def _json(found: Any) -> str:
    return json.dumps(found, sort_keys=True, ensure_ascii=False, default=str)


def _follows(column: Sequence[str], known: Sequence[Hashable]) -> bool:
    """Whether what is known of each work says what stands in the column."""
    found: dict[Hashable, str] = {}
    return all(found.setdefault(key, one) == one for key, one in zip(known, column, strict=True))


def _is_idle(ids: Sequence[str], others: Sequence[Hashable]) -> bool:
    """Whether works that differ in one setting alone are there, and are all the same: where all else is, the id is."""
    return len(set(others)) < len(others) and _follows(ids, others)
