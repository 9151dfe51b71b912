"""In what a run's settings differ from those that its model, data and scale have by themselves."""

import re
from collections.abc import Mapping, Set
from contextlib import suppress
from functools import cache
from itertools import product
from typing import Any

from diffmamba.browse.columns import TREES, UNTOLD
from diffmamba.browse.fields import CHOICES, text
from diffmamba.browse.groups import experiment, option
from diffmamba.errors import SettingError
from diffmamba.runs.index import flat

CHOSEN = ("model", "data", "scale")
ROUNDS = (
    lambda name: name.startswith(("scale.", "published.")) or name == "seed",
    lambda name: name.count(".") < 2,
    lambda name: True,
)
"""Which settings are tried first: what they set further need not be told. Of each, those that follow come last."""
ANOTHER = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
"""The value of a setting that is that of another one."""
NAMES = re.compile(r"(\.*)([A-Za-z_]\w*(?:\.\w+)*)")
"""What may be the name of a setting. Dots before it lead up from the one that it stands in."""
ABSENT = object()
"""Stands for what a setting is by itself where there is none of its name."""


def choices(settings: Mapping[str, Any]) -> list[str]:
    """The words for the files of the groups that a run was composed of."""
    named = {group: name for group in CHOSEN if (name := settings.get(f"{group}.name")) is not None}
    words = [f"{group}={option(group, str(name))}" for group, name in named.items()]
    published = frozenset(name.split(".")[1] for name in settings if name.startswith("published."))
    return [*words, f"experiments={found}"] if (found := experiment(published)) else words


def differing(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings to give beside `choices`. None where these compose to nothing any more."""
    return {name: value for name, (value, _) in found.items()} if (found := beside(settings)) is not None else None


def beside(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]] | None:
    """As `differing`, each with what it is by itself; "???" where it must be given."""
    try:
        config, raw = _composed(words := tuple(choices(settings)))
    except SettingError:  # a choice of another version; what it is by itself cannot be known
        return None
    of_experiment = {"published"} if words[-1].startswith("experiments=") else set[str]()
    found = {name: (settings[name], "???") for name, value in raw.items() if value == "???" and name in settings}
    try:
        _set(config, {name: value for name, (value, _) in found.items()})
        counted = [name for name in settings if name not in found and _counts(name, of_experiment)]
        for asked, follows in product(ROUNDS, (False, True)):
            left = [name for name in counted if asked(name) and name not in found]
            names = [name for name in left if ("${" in str(raw.get(name))) == follows]
            pairs = {name: (settings[name], _now(name, config, raw, found)) for name in names}
            new = {n: pair for n, pair in pairs.items() if pair[1] is not ABSENT and text(pair[0]) != text(pair[1])}
            _set(config, {name: value for name, (value, _) in new.items()})
            found |= new
    finally:
        _set(config, {name: raw[name] for name in found})  # it is kept for the next run
    return found


def _counts(name: str, told: Set[str]) -> bool:
    """Whether a setting says something. `told` are groups that do so in spite of `UNTOLD`."""
    plain = not name.startswith(TREES) and name.rpartition(".")[2] not in (*CHOICES, "_partial_")
    return plain and name.partition(".")[0] not in {*UNTOLD} - told


def _now(name: str, config: Any, raw: Mapping[str, Any], found: Mapping[str, tuple[Any, Any]]) -> Any:
    """What a setting is beside the others that differ: those in `found`, which `config` has already."""
    while name not in found:
        value = raw.get(name, ABSENT)
        if not isinstance(value, str) or "${" not in value:
            return _resolved(name, config) if value is ABSENT or "${" in str(value) else value
        if (other := ANOTHER.fullmatch(value)) is None or other[1] not in raw:
            return _kept(name, config, raw, found)
        name = other[1]
    return found[name][0]


def _kept(name: str, config: Any, raw: Mapping[str, Any], found: Mapping[str, tuple[Any, Any]]) -> Any:
    """What a setting that follows from others is, resolved once for equal values of these: it takes a millisecond."""
    read: set[str] = set()
    pending = [name]
    while pending:
        one = pending.pop()
        words = {_absolute(one, *told) for told in NAMES.findall(str(raw[one]))} & raw.keys() - read
        read |= words
        pending += words
    key = (id(config), name, *((one, text(found[one][0])) for one in sorted(read) if one in found))
    if key not in _values:
        _values[key] = _resolved(name, config)
    return _values[key]


def _absolute(name: str, dots: str, other: str) -> str:
    """The whole name of what a setting calls `other`, behind so many dots."""
    return ".".join([*name.split(".")[: -len(dots)], other]) if dots else other


_values: dict[tuple[Any, ...], Any] = {}
"""What such settings are. A configuration that is asked for is kept by `_composed`."""


def _resolved(name: str, config: Any) -> Any:
    from omegaconf import Container, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = OmegaConf.select(config, name, default=ABSENT)
        return OmegaConf.to_container(found, resolve=True) if isinstance(found, Container) else found
    except (OmegaConfBaseException, SettingError):  # follows from others that are of another version
        return ABSENT


def _set(config: Any, values: Mapping[str, Any]) -> None:
    """Gives settings their values. What lies inside something that follows from others keeps what follows."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for name, value in values.items():
        with suppress(OmegaConfBaseException):
            OmegaConf.update(config, name, value)


@cache
def _composed(words: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """The configuration of some words, and all its settings by their dotted names, not resolved."""
    from hydra import compose  # here: a fifth of a second
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from diffmamba.configuration import composing

    with composing("train", words):
        try:
            config = compose("train", overrides=list(words))
            raw = OmegaConf.to_container(config)
        except OmegaConfBaseException as error:
            raise SettingError(str(error)) from error
    assert isinstance(raw, dict)
    return config, {name: value for key, part in raw.items() for name, value in flat(str(key), part)}
