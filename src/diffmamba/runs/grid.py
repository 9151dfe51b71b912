"""The cells of a grid, and the configuration of each, as Hydra composes it.

Hydra takes a tenth of a second for a configuration, most of it for the files that make it up. So each set of files is
composed once, and settings of one value are put on top once. A cell then only sets the values that vary: see
`variants`. What comes out is what Hydra's `compose` makes of the whole cell.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf._utils import split_key
from omegaconf.errors import OmegaConfBaseException

from diffmamba.configuration import CONF, check, explained, file_check, one_line, refuse
from diffmamba.errors import SettingError
from diffmamba.runs.search import file_of, is_search
from diffmamba.runs.union import items_of, params_of, with_words
from diffmamba.variants import Variants, place


@dataclass(frozen=True)
class Cell:
    """One cell of a grid: its overrides of a root configuration, and those that tell it from the others."""

    overrides: tuple[str, ...]
    words: str


class Grid:
    """The cells of a grid, in Hydra's order. They can be composed while Hydra is initialised: see `grid_of`.

    `params` are settings that a file varies, each with its place there.
    """

    def __init__(self, root: str, cells: Sequence[Sequence[str]], params: Mapping[str, str]) -> None:
        self._root, self._params = root, params
        common = set(cells[0]).intersection(*cells)
        self.cells = [Cell(tuple(cell), " ".join(word for word in cell if word not in common)) for cell in cells]
        self._varying = {word for cell in self.cells for word in cell.overrides} - common
        self._families: dict[tuple[str, ...], Variants | SettingError | None] = {}
        self._parsed: Callable[[str], Override] = cache(OverridesParser.create().parse_override)
        self._template: Callable[[tuple[str, ...]], DictConfig | SettingError] = cache(self._compose)
        self._check_files = file_check(root)
        self._of_files: Callable[[str], bool] = cache(self._chooses_files)
        self._values: Callable[[str], bool] = cache(self._sets_a_value)
        self._in_files: Callable[[tuple[str, ...]], dict[str, Any]] = cache(self._find_in_files)

    def composed(self, cell: Cell) -> dict[str, Any]:
        """The resolved configuration of a cell. Cells share the parts that are equal, so nobody may change them.

        Raises SettingError in one line.
        """
        for word in cell.overrides:
            refuse(word)
        family = self._family(cell.overrides)
        try:
            named = {str(key): value for key, value in family.plain().items()}
        except OmegaConfBaseException as error:
            raise SettingError(one_line(error, self._root)) from error
        check(named, family.config, family.raw, self._root, cell.overrides, family.once)
        return named

    def _family(self, words: tuple[str, ...]) -> Variants:
        """The configuration that these words share with other cells, set to the values of these words."""
        values = {self._parsed(word).key_or_group: self._parsed(word).value() for word in words if self._values(word)}
        values |= self._of_others(words)
        key = (*(word for word in words if not self._values(word)), *sorted(values))
        if key not in self._families:
            self._families[key] = self._new_family(words, list(values))
        found = self._families[key]
        if found is None:  # these values cannot be set alone
            key, values = ("", *words), {}
            if key not in self._families:
                self._families[key] = self._new_family(words, [])
            found = self._families[key]
        if isinstance(found, SettingError):
            if any(word in str(found) for word in words if self._values(word)):
                del self._families[key]  # an error of this cell alone
            raise found.with_traceback(None)
        assert found is not None
        found.set(values)
        return found

    def _of_others(self, words: tuple[str, ...]) -> dict[str, Any]:
        """The values that settings have in the files of a cell, where other cells of these files give them values.

        So the cells of all items of a union can be of one family. A value that another one decides is left out.
        """
        choices = self._choices(words)
        set_here = tuple(f"{self._parsed(word).key_or_group}." for word in words if word not in choices)
        return {name: one for name, one in self._in_files(choices).items() if not f"{name}.".startswith(set_here)}

    def _find_in_files(self, choices: tuple[str, ...]) -> dict[str, Any]:
        """The values that a choice of files has for settings to which cells of these files give one."""
        template = self._template(choices)
        if isinstance(template, SettingError):
            return {}
        words = {word for cell in self._by_choices[choices] for word in cell.overrides if self._values(word)}
        nodes = {name: place(template, name) for name in {self._parsed(word).key_or_group for word in words}}
        plain = {name: node._value() for name, node in nodes.items() if type(node) is AnyNode}
        return {name: value for name, value in plain.items() if _is_plain(value)}

    def _new_family(self, words: tuple[str, ...], names: list[str]) -> Variants | SettingError | None:
        choices = self._choices(words)
        template = self._template(choices)
        if isinstance(template, SettingError):
            return template
        overrides = [self._parsed(word) for word in words if not self._of_files(word)]
        config = deepcopy(template)
        try:
            with explained(self._root, words):
                ConfigLoaderImpl._apply_overrides_to_config(overrides, config)
                self._check_files(OmegaConf.to_container(config), choices)
        except SettingError as error:
            return self._with_its_file(error)
        return Variants(config, names) if _can_vary(config, names, overrides, template) else None

    def _with_its_file(self, error: SettingError) -> SettingError:
        """The error with the file that names a setting that there is not."""
        name = str(error).removeprefix("there is no setting ").partition(";")[0]
        return SettingError(f"{self._params[name]}: {error}") if name in self._params else error

    def _compose(self, choices: tuple[str, ...]) -> DictConfig | SettingError:
        try:
            with explained(self._root, choices):
                return compose(self._root, overrides=list(choices))
        except SettingError as error:
            return error

    @cached_property
    def _by_choices(self) -> dict[tuple[str, ...], list[Cell]]:
        """The cells of each choice of files."""
        found: dict[tuple[str, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(self._choices(cell.overrides), []).append(cell)
        return found

    def _choices(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the words that Hydra reads when it makes the list of files."""
        return tuple(word for word in words if self._of_files(word))

    def _chooses_files(self, word: str) -> bool:
        """Whether a word is one of the choices of files. All others Hydra puts on top of these files."""
        override = self._parsed(word)
        name, loader = override.key_or_group, GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        if name.split("/")[0].split(".")[0] == "hydra":
            return True
        return loader.repository.group_exists(name) and not isinstance(override.value(), dict)

    def _sets_a_value(self, word: str) -> bool:
        """Whether a word does no more than to give a setting a value, which is another one in other cells."""
        override = self._parsed(word)
        if word not in self._varying or self._of_files(word) or override.type is not OverrideType.CHANGE:
            return False
        return override.package is None and _is_plain(override.value())


def _is_plain(value: Any) -> bool:
    """Whether a value is one for itself: no part of a configuration, and nothing that refers to another value."""
    return (value is None or isinstance(value, bool | int | float | str)) and "${" not in str(value) and value != "???"


def _can_vary(config: DictConfig, names: list[str], overrides: list[Override], template: DictConfig) -> bool:
    """Whether other values for these settings need no other change than that of the values.

    It is not so where a name leads through an interpolation, or where one override changes what another one has set.
    """
    paths = [tuple(split_key(override.key_or_group)) for override in overrides]
    for override in overrides if names else ():
        name = override.key_or_group
        if place(config, name) is None and not override.is_delete():
            return False
        if override.is_add() and place(template, name) is not None:
            return False
    for name in names:
        path = tuple(split_key(name))
        above = [other for other in paths if other == path[: len(other)]]
        if len(above) > 1 or type(place(config, name)) is not AnyNode:
            return False
    return True


@contextmanager
def grid_of(words: Sequence[str], root: str) -> Iterator[Grid]:
    """The grid that a command line stands for, while Hydra can compose its cells.

    Words for Hydra itself are left out. Raises SettingError for words without a grid.
    """
    of_hydra = [word for word in words if word.lstrip("+~").startswith("hydra")]
    with initialize_config_dir(CONF, version_base="1.3", job_name=root):
        with explained(root, words):
            grid = Grid(root, *_overrides([word for word in words if word not in of_hydra], of_hydra, root))
        yield grid


def _overrides(words: Sequence[str], of_hydra: Sequence[str], root: str) -> tuple[list[list[str]], dict[str, str]]:
    """The overrides of each cell, and the settings that the sweep's file varies, each with its place there."""
    parser = OverridesParser.create()
    given = parser.parse_overrides(list(words))
    fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
    of_sweeper = [word for word in of_hydra if word.lstrip("+~").startswith("hydra.sweeper.params")]
    master = compose(root, overrides=[*fixed, *of_sweeper], return_hydra_config=True)
    items, params = items_of(master, given), params_of(master)
    sweep = next((word for word in words if word.startswith("sweeps=")), None)
    if is_search(master.hydra):
        raise SettingError(f"{sweep or 'this'} is a search, whose cells are not known beforehand: use diffmamba train")
    if sweep and not params and not items and fixed == words:
        raise SettingError(
            f"{sweep} has no grid: its file must begin with `# @package _global_` and set "
            "hydra.sweeper.params, or a setting must have several values"
        )
    given = [one for one in given if one.key_or_group != "grid"]
    cells = {
        frozenset(cell): list(cell)
        for settings in (with_words(items, given) if items else [given])
        for cell in BasicSweeper.split_arguments([*params, *settings], max_batch_size=None)[0]
    }
    if not cells:
        raise SettingError(f"{' '.join(word for word in words if word not in fixed)} has no values, so no cell is left")
    places = {one.key_or_group: f"{file_of(given)}hydra.sweeper.params" for one in params} if sweep else {}
    places |= {one.key_or_group: item.place for item in items for one in item.settings.values()}
    own = {one.key_or_group for one in given}
    return list(cells.values()), {name: place for name, place in places.items() if name not in own}
