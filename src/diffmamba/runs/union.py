"""A sweep may be a union of grids: its file has lists of small grids under `grids`, and `grid` chooses one of them.

    grid: factors
    grids:
      factors:
        - {model: "mamba,diff_mamba"}
        - {model: mamba, scale.n_layers: "1,4"}
        - {model: mamba, scale.d_state: "8,32"}

The cells of the sweep are those of each item in turn. One factor at a time is such a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffmamba.configuration import one_line
from diffmamba.errors import SettingError
from diffmamba.runs.search import file_of, refuse_grids
from diffmamba.spelling import did_you_mean

EXAMPLE = '- {model: mamba, scale.d_state: "8,32"}'


@dataclass(frozen=True)
class Item:
    """One small grid of a union: where it stands in its file, and its settings with their values, by their names."""

    place: str
    settings: Mapping[str, Override]


def items_of(config: DictConfig, given: Sequence[Override]) -> list[Item]:
    """The small grids that a sweep is the union of; none where it is one grid.

    `config` is what the words compose to, with Hydra's own part, and `given` are these words. Raises SettingError in
    one line, with the file, for what is wrong with `grid` or `grids`.
    """
    refuse_grids(config, given)
    file = file_of(given)
    grids, default = (_resolved(config, name, file) for name in ("grids", "grid"))
    swept = next((one for one in given if one.key_or_group == "grid" and one.is_sweep_override()), None)
    chosen = list(dict.fromkeys(values(swept))) if swept else [str(default or "")]
    if grids is None:
        if chosen != [""]:
            raise SettingError(f"{file}grid={','.join(chosen)} chooses among grids, and there are none")
        return []
    form = _checked(grids, file)
    for name in chosen:
        if name not in form:
            hint = did_you_mean(name, form) if name else "; give grid=NAME"
            raise SettingError(f"{file}grid={name or 'null'} is none of its grids, which are {', '.join(form)}{hint}")
    params = {one.get_key_element().lstrip("+") for one in params_of(config)}
    return [item for name in chosen for item in _items(form[name], f"{file}grids.{name}", params)]


def varied(config: DictConfig, given: Sequence[Override]) -> list[str]:
    """The settings that have several values in a multirun, or a range of them, or stand in an item of a union.

    They are in the order of the file and of the words. `config` is what the words compose to, with Hydra's own part,
    and `given` are these words.
    """
    of_items = [one.key_or_group for item in items_of(config, given) for one in item.settings.values()]
    params, swept = (
        [one.key_or_group for one in words if one.is_sweep_override()] for words in (params_of(config), given)
    )
    return list(dict.fromkeys([*params, *of_items, *(name for name in swept if name != "grid")]))


def params_of(config: DictConfig) -> list[Override]:
    """What `hydra.sweeper.params` says, as words of a command line."""
    params = config.hydra.sweeper.get("params") or {}
    return OverridesParser.create().parse_overrides([_word(name, value) for name, value in params.items()])


def values(override: Override) -> list[str]:
    """The values that a word gives a setting, as they are written."""
    several = override.is_sweep_override()
    return list(override.sweep_string_iterator()) if several else [override.get_value_element_as_str()]


def with_words(items: Sequence[Item], given: Sequence[Override]) -> Iterator[list[Override]]:
    """The settings of each item, with the words of a command line in their place.

    A choice of a file that items have, such as `data=pydoc8`, leaves out the items that have others: their further
    settings may belong to these. One that no item has takes the place of all.
    """
    by_name = {one.get_key_element(): one for one in given}
    narrowing = {
        name for name, one in by_name.items() if _chooses(one) and set(values(one)) <= _all_values(items, name)
    }
    for item in items:
        merged: dict[str, Override | None] = {**item.settings, **by_name}
        for name in narrowing.intersection(item.settings):
            there = values(item.settings[name])
            merged[name] = _override(name, [value for value in values(by_name[name]) if value in there])
        found = [one for one in merged.values() if one is not None]
        if len(found) == len(merged):
            yield found


def _resolved(config: DictConfig, name: str, file: str) -> Any:
    """A setting alone, as plain data: others may need the settings of an item."""
    try:
        found = config.get(name)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
    except OmegaConfBaseException as error:
        told = one_line(error)
        raise SettingError(f"{file}{told if told.startswith(name) else f'{name}: {told}'}") from error


def _checked(grids: Any, file: str) -> Mapping[str, Any]:
    if not isinstance(grids, Mapping) or not grids:
        raise SettingError(f"{file}grids must be names, each with a list of small grids such as {EXAMPLE}")
    for name, items in grids.items():
        if not isinstance(items, list) or not items:
            raise SettingError(f"{file}grids.{name} must be a list of small grids such as {EXAMPLE}")
        for number, item in enumerate(items, 1):
            place = f"{file}grids.{name}: item {number}"
            if not isinstance(item, Mapping) or not item:
                raise SettingError(f"{place} must be settings with their values, such as {EXAMPLE}")
            for key, value in item.items():
                if isinstance(value, Mapping):
                    raise SettingError(f"{place}: {key} must be a setting with values; write {key}.NAME: VALUES")
    return {str(name): items for name, items in grids.items()}


def _items(found: Sequence[Mapping[str, Any]], place: str, params: set[str]) -> Iterator[Item]:
    for number, item in enumerate(found, 1):
        for name in item:
            if str(name).lstrip("+") in params:
                raise SettingError(
                    f"{place}: item {number} and hydra.sweeper.params both set {name}; leave it out of one of them"
                )
        words = [OverridesParser.create().parse_override(_word(name, value)) for name, value in item.items()]
        if empty := next((one.key_or_group for one in words if not values(one)), None):
            raise SettingError(f"{place}: item {number}: {empty} has no values")
        yield Item(place, {one.get_key_element(): one for one in words})


def _word(name: Any, value: Any) -> str:
    """A setting of a file with its values, as a word of a command line. A text may hold several; a list is one."""
    return f"{name}={value if isinstance(value, str) else _plain(value)}"


def _plain(value: Any) -> str:
    """A value of YAML as Hydra writes it. A text in a list stands in quotes."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(repr(one) if isinstance(one, str) else _plain(one) for one in value)}]"
    return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))


def _chooses(override: Override) -> bool:
    """Whether a word names a file of a group."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return loader.repository.group_exists(override.key_or_group)


def _all_values(items: Sequence[Item], name: str) -> set[str]:
    return {value for item in items if name in item.settings for value in values(item.settings[name])}


def _override(name: str, found: Sequence[str]) -> Override | None:
    return OverridesParser.create().parse_override(f"{name}={','.join(found)}") if found else None
