"""Configurations that differ in the values of a few settings: what they share is resolved and checked once.

`Variants` holds one composed configuration. Each part of it is resolved by OmegaConf itself, and kept together with the
varying settings that were read on the way. Where these have the same values again, the part is the same.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from omegaconf import AnyNode, Container, DictConfig, ListConfig
from omegaconf._utils import split_key
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from diffmamba.errors import SettingError

T = TypeVar("T")
Value = int | float | bool | str | None


class _Noted(AnyNode):
    """The value of a varying setting. Whoever reads it is noted."""

    note: Callable[[], None]

    def _value(self) -> Any:
        self.note()
        return super()._value()

    def __deepcopy__(self, memo: dict[int, Any]) -> AnyNode:
        self.note()
        return super().__deepcopy__(memo)


class Variants:
    """One configuration for many values of some settings.

    Args:
        config: composed, with any value for each of these settings. It belongs to this object from now on.
        names: the settings, each found by `place` in the configuration.
    """

    def __init__(self, config: DictConfig, names: Iterable[str]) -> None:
        self.config = config
        self._kept: dict[Hashable, dict[tuple[str, ...], dict[tuple[Hashable, ...], Any]]] = {}
        self._children: dict[int, list[tuple[Any, Callable[[], Any]]]] = {}
        self._read: dict[str, None] = {}
        self._values: Mapping[str, tuple[type, Value]] = {}
        self._nodes = {name: self._watch(name) for name in names}

    def set(self, values: Mapping[str, Value]) -> None:
        """Gives all of the settings their values."""
        self._values = {name: (type(value), value) for name, value in values.items()}  # since True == 1 == 1.0
        for name, value in values.items():
            self._nodes[name]._set_value(value)

    def plain(self) -> dict[Any, Any]:
        """What `OmegaConf.to_container` makes of it with `resolve` and `throw_on_missing`, with the same errors.

        Equal parts of the results are the same objects, so nobody may change them.
        """
        return {key: make() for key, make in self._children_of(self.config)}

    def once(self, what: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives or raises, computed once for equal values of the varying settings that it reads."""
        kept = self._kept.setdefault(what, {})
        for names, found in kept.items():
            key = tuple(self._values[name] for name in names)
            if key in found:
                self._read.update(dict.fromkeys(names))
                return _given(found[key])
        before, self._read = self._read, {}
        try:
            result: Any = compute()
        except (OmegaConfBaseException, SettingError) as error:
            result = _Failure(error)
        names = tuple(self._read)
        self._read = before | self._read
        kept.setdefault(names, {})[tuple(self._values[name] for name in names)] = result
        return _given(result)

    def _watch(self, name: str) -> AnyNode:
        node = place(self.config, name)
        assert type(node) is AnyNode
        node.__class__ = _Noted
        node.__dict__["note"] = lambda: self._read.setdefault(name)
        return node

    def _children_of(self, conf: DictConfig | ListConfig) -> list[tuple[Any, Callable[[], Any]]]:
        """Its keys, each with what makes the plain value."""
        if id(conf) not in self._children:
            keys = conf.keys() if isinstance(conf, DictConfig) else range(len(conf))
            self._children[id(conf)] = [(key, self._maker(conf, key)) for key in keys]
        return self._children[id(conf)]

    def _maker(self, conf: DictConfig | ListConfig, key: Any) -> Callable[[], Any]:
        node: Any = conf._get_node(key, validate_access=False)
        elsewhere = node._is_none() or node._is_missing() or node._is_interpolation()
        if isinstance(node, DictConfig | ListConfig) and not elsewhere:
            return lambda: self.once(id(node), lambda: self._container(node))
        if type(node) is AnyNode and not elsewhere:
            constant = node._value()
            return lambda: constant
        return lambda: self.once((id(conf), key), lambda: _resolved(conf, key))

    def _container(self, conf: DictConfig | ListConfig) -> Any:
        made = {key: make() for key, make in self._children_of(conf)}
        return made if isinstance(conf, DictConfig) else list(made.values())


class _Failure:
    """Stands for an error among results."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _given(result: Any) -> Any:
    if isinstance(result, _Failure):
        raise result.error.with_traceback(None)
    return result


def _resolved(conf: DictConfig | ListConfig, key: Any) -> Any:
    """One value of a container as plain data, as `OmegaConf.to_container` makes it."""
    try:
        node = conf._get_child(key, throw_on_missing_value=True)
    except MissingMandatoryValue as error:
        conf._format_and_raise(key=key, value=None, cause=error)
    try:
        node = node._dereference_node()  # type: ignore[union-attr]
    except InterpolationResolutionError as error:
        conf._format_and_raise(key=key, value=None, cause=error)
    if isinstance(node, Container):
        return BaseContainer._to_content(node, resolve=True, throw_on_missing=True)
    return node._value()  # type: ignore[union-attr]


def place(config: DictConfig, name: str) -> Any:
    """The node of a setting, where its name leads there without an interpolation; else None."""
    node: Any = config
    for key in split_key(name):
        if not isinstance(node, DictConfig | ListConfig) or node._is_none() or node._is_interpolation():
            return None
        try:
            node = node._get_node(int(key) if isinstance(node, ListConfig) else key, validate_access=False)
        except (ValueError, IndexError):
            return None
    return node
