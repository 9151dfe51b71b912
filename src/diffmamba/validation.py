"""Every setting, checked against the annotation of what it is handed to, before anything is built or written.

A node of a configuration with a `_target_` names a constructor. Its other keys are arguments of that constructor, so
the annotations of the constructor say which values are allowed, also for constructors of the user. Settings without a
constructor have a schema, a TypedDict of `settings`. An error names the setting that holds the value: `scale.steps`,
where `budget.steps` is only `${scale.steps}`.
"""

import inspect
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence, Set
from dataclasses import is_dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from annotated_types import Ge, Gt, Le, Len, Lt
from omegaconf import DictConfig, ListConfig, Node

from diffmamba.errors import SettingError, one_line
from diffmamba.spelling import did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "text", NoneType: "null"}
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
STORABLE = (2**31 - 1, 2**63 - 1)
OTHER_SETTING = re.compile(r"\$\{(\.*)([^${}:]+)\}")
Values = MutableMapping[str, Any]
NameOf = Callable[[str], str]
"""From the path of a value in the configuration to the setting that holds it."""
Once = Callable[[Hashable, Callable[[], None]], None]
"""Makes a check, unless it was made before; the first argument says which it is."""


def each_time(what: Hashable, check: Callable[[], None]) -> None:
    """Makes every check."""
    check()


def validate(plain: Values, schema: type | None, config: DictConfig, once: Once = each_time) -> None:
    """Checks a resolved configuration against its schema and all constructors that it names.

    `plain` is `config` with every interpolation replaced. A whole number where text is needed becomes text.
    Raises SettingError that names the setting and says which values are allowed.
    `once` may leave out a check that it has made before, of the same object at the same place.
    """

    def name_of(path: str) -> str:
        return origin(config, path)

    checks = _Checks(name_of, once)
    if schema is not None:
        checks.schema(schema, plain, "")
    for group in ("logger", "callbacks"):
        for name, part in (plain.get(group) or {}).items():
            if not isinstance(part, Mapping) or "_target_" not in part:
                raise SettingError(f"{group}.{name}={shown(part)} must be a part with a _target_")
    checks.below(plain, "")


def origin(config: DictConfig, path: str) -> str:
    """The setting that the value at `path` comes from, where it is the value of another setting as a whole."""
    keys = path.split(".")
    node: Any = config
    for end, key in enumerate(keys, start=1):
        if not isinstance(node, DictConfig | ListConfig):
            break
        inner: Any = node._get_node(_index(node, key), validate_access=False)
        found = OTHER_SETTING.fullmatch(str(inner._value())) if isinstance(inner, Node) else None
        if found:
            base = keys[: end - len(found[1])] if found[1] else []
            return origin(config, ".".join([*base, found[2], *keys[end:]]))
        node = inner
    return path


def _index(node: Any, key: str) -> Any:
    return int(key) if isinstance(node, ListConfig) else key


def described(annotation: Any) -> str:
    """The values that an annotation allows, in words: `a whole number of at least 1, or null`."""
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return _within(described(arguments[0]), arguments[1:])
    if kind in (Union, UnionType):
        parts = list(dict.fromkeys(described(part) for part in sorted(arguments, key=lambda part: part is NoneType)))
        if "text" in parts:  # which a number may stand for
            parts = [part for part in parts if part != "a whole number"]
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, or {parts[-1]}"
    if kind is Literal:
        return f"one of {', '.join(map(shown, arguments))}"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping of names to values"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return f"a list, each entry {described(arguments[0])}" if arguments and arguments[0] is not Any else "a list"
    return WORDS.get(annotation, "a part with a _target_")


def _within(what: str, conditions: Iterable[Any]) -> str:
    """With its range: `a number above 0 and at most 1`. Bounds that only keep a number storable are not told."""
    bounds = []
    for condition in conditions:
        if isinstance(condition, Len):
            what = what.replace("a list", f"a list of {condition.min_length}", 1)
        elif type(condition) in BOUNDS:
            attribute, words = BOUNDS[type(condition)]
            bound = getattr(condition, attribute)
            bounds += [f"{words} {bound}"] if bound not in STORABLE else []
    joined = " and ".join(bounds)
    return f"{what} of {joined}" if joined.startswith("at ") else f"{what} {joined}".strip()


class _Checks:
    """Walks over a configuration. An error names the setting by `name_of` the path."""

    def __init__(self, name_of: NameOf, once: Once) -> None:
        self._name_of, self._once = name_of, once

    def below(self, value: Any, path: str) -> None:
        """Checks every constructor named at this path or below it."""
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"{self._name_of(path)}={value} must be a finite number")
        if isinstance(value, MutableMapping) and "_target_" in value:
            self._node(value, path)
        for key, inner in _items(value):
            within = _join(path, key)
            if isinstance(inner, MutableMapping | list):
                self._once(("below", id(inner), within), partial(self.below, inner, within))
            else:
                self.below(inner, within)

    def schema(self, schema: type, values: Values, path: str) -> None:
        """Checks the settings that a schema names."""
        required: Set[str] = schema.__required_keys__  # type: ignore[attr-defined]
        for key in sorted(required - values.keys()):
            name = self._name_of(_join(path, key))
            raise SettingError(f"{name} is missing; give {name}=VALUE")
        self._values(_hints(schema), values, path)

    def _node(self, node: Values, path: str) -> None:
        named_by = self._name_of(_join(path, "_target_"))
        if not isinstance(node["_target_"], str) or not node["_target_"]:
            raise SettingError(f"{named_by}={shown(node['_target_'])} must name a class or function, as module.Name")
        constructor = target(node["_target_"], named_by)
        for key in node:
            check_argument(constructor, key, partial(self._name_of, _join(path, key)))
        self._values(_hints(constructor), node, path)

    def _values(self, hints: Mapping[str, Any], values: Values, path: str) -> None:
        for key in hints.keys() & values.keys():
            values[key] = self._accepted(hints[key], values[key], _join(path, key))

    def _accepted(self, annotation: Any, value: Any, path: str) -> Any:
        """The value, if the annotation allows it; a whole number as text, where only text is allowed."""
        if is_typeddict(annotation):
            if not isinstance(value, MutableMapping):
                raise SettingError(f"{self._name_of(path)}={shown(value)} must be a group; choose one of its files")
            self._once(("schema", id(value), path), partial(self.schema, annotation, value, path))
            return value
        if _holds_parts(value):
            return value  # parts are checked by themselves
        adapter = _adapter(annotation)
        if adapter is None or _fits(adapter, value):
            return value
        if isinstance(value, str) and _fits(adapter, Path(value)):
            return value
        if type(value) is int and (_fits(adapter, str(value)) or _fits(adapter, Path(str(value)))):
            return str(value)
        raise SettingError(_refusal(annotation, value, self._name_of(path)))


def check_argument(constructor: Callable[..., Any], key: str, name_of: Callable[[], str]) -> None:
    """Raises SettingError where a constructor has no such argument; `name_of` gives the name of the setting."""
    if key.startswith("_") and key.endswith("_"):  # of Hydra
        return
    known = _arguments(constructor)
    if known is not None and key not in known:
        name = name_of()
        hint = did_you_mean(name, (name.rpartition(".")[0] + "." + one for one in known))
        raise SettingError(f"{name} is no argument of {constructor.__name__}{hint}")


@cache
def _arguments(constructor: Callable[..., Any]) -> list[str] | None:
    """The names of a constructor's arguments; None where it takes any, or is written in C and does not say."""
    try:
        found = inspect.signature(constructor).parameters
    except ValueError:
        return None
    return None if any(one.kind is one.VAR_KEYWORD for one in found.values()) else list(found)


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, MutableMapping):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _refusal(annotation: Any, value: Any, name: str) -> str:
    choices = [part for part in _parts(annotation) if part is not NoneType]
    if isinstance(value, str) and len(choices) == 1 and get_origin(choices[0]) is Literal:
        return f"{name}={value} is not known; use one of {', '.join(map(shown, get_args(choices[0])))}"
    text = described(annotation)
    if "text" in text and isinstance(value, bool | float | NoneType):
        return f"{name}={shown(value)} must be {text}; if it is meant as text, quote it twice: '{name}=\"...\"'"
    return f"{name}={shown(value)} must be {text}"


def _parts(annotation: Any) -> tuple[Any, ...]:
    """What an annotation allows one or the other of."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _fits(adapter: "TypeAdapter[Any]", value: Any) -> bool:
    from pydantic import ValidationError

    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _holds_parts(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value
    return isinstance(value, list) and any(_holds_parts(one) for one in value)


def target(name: str, setting: str) -> Callable[..., Any]:
    """The constructor that a `_target_` names. Raises SettingError where there is none."""
    first, *parts = name.split(".")
    try:
        found: Any = import_module(first)
        for end, part in enumerate(parts, start=1):
            inner = ".".join([first, *parts[:end]])
            if not hasattr(found, part) and (end == len(parts) or not hasattr(found, "__path__")):
                raise SettingError(f"{setting}={name}: there is no {part} in it{did_you_mean(part, dir(found))}")
            found = getattr(found, part) if hasattr(found, part) else import_module(inner)
    except SettingError:
        raise
    except (ImportError, ValueError, AttributeError) as error:
        raise SettingError(f"{setting}={name} cannot be imported: {one_line(error)}") from error
    if not callable(found):
        raise SettingError(f"{setting}={name} is no class or function")
    return found


def text_settings(schema: type) -> list[str]:
    """The settings of a schema that are text."""
    return [name for name, hint in _hints(schema).items() if str in _parts(hint)]


@cache
def _hints(constructor: Any) -> dict[str, Any]:
    """The annotations of a constructor's arguments, or of a schema's settings."""
    inner = constructor.func if isinstance(constructor, partial) else constructor
    if isinstance(inner, type) and not is_typeddict(inner) and not is_dataclass(inner):
        inner = inner.__init__  # type: ignore[misc]
    try:
        return get_type_hints(inner, include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations of another package that only its type checker reads
        return {}


@cache
def _adapter(annotation: Any) -> "TypeAdapter[Any] | None":
    """Checks without converting; None for an annotation that says nothing of a plain value."""
    # only here, since it is compiled for one Python: benchmarks compose models on machines that do not have it
    from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=strict)
    except (PydanticSchemaGenerationError, TypeError, NameError):
        return None


def shown(value: Any) -> str:
    """A value as it is written in a configuration."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list) else str(value)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def names_in(value: Any, path: str = "") -> list[str]:
    """The names of all settings of a configuration, groups and values."""
    found = [path] if path else []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found += names_in(inner, _join(path, key))
    return found
