"""What Hydra composes from, and how what it composed becomes plain data.

Importing this module registers our resolvers and puts the user's own configuration directory on Hydra's search path, in
every process that composes a configuration. That directory is $DIFFMAMBA_CONF, or `conf` in the working directory.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from diffmamba import reading, resolvers, settings
from diffmamba.errors import SettingError
from diffmamba.reading import CHECKED, USER, is_read, texts_in
from diffmamba.spelling import did_you_mean, nearest
from diffmamba.trainer_arguments import REFUSED, check_arguments
from diffmamba.validation import Once, each_time, names_in, validate

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
"""The root of the checkout that this package is in; None for an installed package."""
CONF = str((CHECKOUT or PACKAGE) / "conf")
"""The configuration: inside an installed package, beside `src` in a checkout."""


def _own() -> Path:
    """The user's own configuration directory; there may be none."""
    return Path(os.environ.get("DIFFMAMBA_CONF", "conf")).absolute()


class UserConfiguration(SearchPathPlugin):
    """Puts the user's own directory behind ours: its files add models, data, sweeps and so on to those there are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = _own()
        if "DIFFMAMBA_CONF" in os.environ and not own.is_dir():
            raise SettingError(f"DIFFMAMBA_CONF={own} is no directory; name one, or unset the variable")
        if own.is_dir() and own.resolve() != Path(CONF).resolve():
            search_path.append(provider=USER, path=f"file://{own}")
        for place in search_path.get_path():
            scheme, _, path = (place.path or "").rpartition("://")
            if path and scheme in ("", "file"):
                place.path = f"{ReadOnce.scheme()}://{path}"


class ReadOnce(FileConfigSource):
    """A folder of configurations. A process reads each file once, unless it changes.

    Every cell of a grid is composed of some twenty files, and to parse them took a third of the time.
    """

    @staticmethod
    def scheme() -> str:
        return "once"

    def load_config(self, config_path: str) -> ConfigResult:
        try:
            file = Path(self.path, self._normalize_file_name(config_path)).stat()
        except OSError:
            return super().load_config(config_path)  # says what is wrong
        key = (self.provider, self.path, config_path, file.st_ino, file.st_size, file.st_mtime_ns)
        if key not in _read:
            try:
                _read[key] = super().load_config(config_path)
            except MarkedYAMLError as error:
                where = f"{Path(self.path, self._normalize_file_name(config_path))}, line {error.problem_mark.line + 1}"
                raise SettingError(f"{where}: this is no YAML: {error.problem}") from error
        return deepcopy(_read[key])


_read: dict[tuple[Any, ...], ConfigResult] = {}


def composed(words: Sequence[str], root: str = "train") -> dict[str, Any]:
    """What a command line of this root configuration composes to, as plain data; SettingError in one line."""
    with composing(root, words):
        return resolved(compose(root, overrides=list(words)), root, words)


@contextmanager
def composing(root: str, words: Sequence[str] = ()) -> Iterator[None]:
    """Hydra's `compose` works inside. What it refuses of these words becomes a SettingError of one line."""
    with initialize_config_dir(CONF, version_base="1.3", job_name=root), explained(root, words):
        yield


@contextmanager
def explained(root: str, words: Sequence[str] = ()) -> Iterator[None]:
    """Raises SettingError of one line in place of what Hydra raises."""
    for word in words:
        refuse(word)
    try:
        yield
    except SettingError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingError(one_line(error, root)) from error
    except (ValueError, TypeError) as error:  # of Hydra, for a choice that is no name
        wrong = _without_a_choice(root, words)
        if not wrong:
            raise
        raise SettingError(f"{wrong}: a group needs a choice; name one of its files") from error


def refuse(word: str) -> None:
    """Raises SettingError for a word that Hydra takes and we do not."""
    if word.startswith("~") and not word.startswith(REMOVABLE):
        raise SettingError(f"{word}: a setting cannot be removed; give it another value")
    if not word.strip("+~").partition("=")[0]:
        raise SettingError(f"{word!r} is not a setting; write name=value")


def _without_a_choice(root: str, words: Sequence[str]) -> str:
    """The word whose group is given a value that is no name of a file."""
    groups, parser = set(_groups(root)), OverridesParser.create()
    found = (one for one in parser.parse_overrides(list(words)) if one.key_or_group in groups)
    return next((str(one.input_line) for one in found if not isinstance(one.value(), str)), "")


def resolved(config: DictConfig, root: str = "train", words: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration as plain data: every interpolation replaced, every value checked by type and range.

    `words` are those of the command line. Raises SettingError that names the setting to change.
    """
    raw = _raw(config)
    file_check(root)(raw, tuple(words))
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(one_line(error, root)) from error
    assert isinstance(plain, dict)
    named = {str(key): value for key, value in plain.items()}
    check(named, config, raw, root, words)
    return named


def check(
    named: dict[str, Any], config: DictConfig, raw: Any, root: str, words: Sequence[str], once: Once = each_time
) -> None:
    """Raises SettingError for what is wrong in a configuration.

    `named` is `config` as plain data, and `raw` is so too, with interpolations. `once` may leave out a check that it
    has made before, of the same object at the same place.
    """
    for word in words:
        if word.startswith("+"):
            once(("used", word), partial(_require_use, word, config, raw, root))
    if isinstance(trainer := named.get("trainer"), Mapping):
        check_arguments(key for key in trainer if not key.startswith("_"))
    validate(named, settings.OF.get(root), config, once)


def _require_use(word: str, config: DictConfig, raw: Any, root: str) -> None:
    """Raises SettingError for a setting that the command line adds and nothing reads."""
    name = word.lstrip("+").partition("=")[0]
    if "/" in name or OmegaConf.select(config, name) is None:
        return  # a choice of a group, which is no setting
    if not is_read(name, raw, list(texts_in(raw))) and name not in names_in(_raw(_default(root))):
        raise SettingError(f"{word}: nothing uses {name}{did_you_mean(name, set(names_in(raw)) - {name})}")


def file_check(root: str) -> Callable[[Any, tuple[str, ...]], None]:
    """Raises SettingError for a key that nothing reads, in a sweep, an experiment or a file of the user's own.

    The function takes a configuration as plain data, with interpolations, and the words that choose its files. What it
    reads for these words it keeps.
    """

    @cache
    def known() -> set[str]:
        places = {name.rpartition("/")[0] or name for name in _groups("train")}
        files = [file for place in places for file in Path(CONF, place).rglob("*.yaml")]
        groups = {file: ".".join(file.parent.relative_to(CONF).parts) for file in files}
        ours = {f"{group}.{name}" for file, group in groups.items() for name in names_in(_raw(OmegaConf.load(file)))}
        return ours.union(*(names_in(_raw(_default(name))) for name in {"train", root}))

    @cache
    def files(words: tuple[str, ...]) -> list[reading.File]:
        return list(reading.files(root, words))

    return lambda raw, words: reading.check_files(files(reading.choosing(words)), raw, settings.OF.get(root), known)


def _raw(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


REMOVABLE = ("~logger.", "~callbacks.")


def one_line(error: Exception, root: str = "train") -> str:
    """The message of Hydra or OmegaConf in one line, with what may have been meant."""
    text = str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; give {error.full_key}=VALUE"
    if isinstance(error, OmegaConfBaseException):
        message = text.splitlines()[0].split("SettingError raised while resolving interpolation: ")[-1]
        if "Missing mandatory value: " in message:
            missing = message.split("Missing mandatory value: ")[-1]
            return f"{missing} is not set; give {missing}=VALUE"
        name = message.partition("=")[0]
        of_choice = "." not in name and name in _groups(root)  # then it matters little which setting reads it
        return f"{error.full_key}: {message}" if error.full_key and not of_choice else message
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    of_file = _of_file(text)
    if found := re.search(r"Key '.+?' not in '.+?'\s+full_key: (\S+)", text):  # of Hydra's own settings
        return f"{of_file}there is no setting {found[1]}{did_you_mean(found[1], names_in(_raw(_default(root))))}"
    if found := re.search(r"Could not override '(.+?)'", text):
        return f"{of_file}there is no setting {found[1].lstrip('/')}{_advice(found[1].lstrip('/'), root)}"
    if found := re.search(r"Could not append to config. An item is already at '(.+?)'", text):
        return f"+{found[1]}: {found[1]} is there already; leave out the +"
    if found := re.search(r"Could not find '(.+)'\s+Available options in '(.+)':\s((?:\t.+\n?)+)", text):
        return of_file + _unknown_choice(found[2], found[1].removeprefix(f"{found[2]}/"), found[3].split(), root)
    lines = [line.strip() for line in text.split("Config search path")[0].splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("Set the environment", "To append to")))


def _unknown_choice(group: str, name: str, options: Sequence[str], root: str) -> str:
    """What there is in the place of a choice that is not known. `options` are those outside of folders in the group."""
    known = [*options, *(choice for choice, _ in _files_of(group, root, CONF, _own()) if "/" in choice)]
    meant = next((choice for choice in known if choice.endswith(f"/{name}")), None) or nearest(name, known)
    folder = f"{name.partition('/')[0]}/"
    available = [choice for choice in known if choice.startswith(folder)] or known
    hint = f"; did you mean {meant}?" if meant else ";"
    extra = f" ({name} needs the extra: pip install -e '.[search]')" * (name == "optuna")
    return f"{group}={name} is not known{hint} available are {', '.join(available)}{extra}"


def _of_file(text: str) -> str:
    """The beginning of an error of Hydra's about a file of sweeps or experiments; else nothing."""
    found = re.match(r"In '(.+?)': ", text)
    return f"{found[1]}.yaml: " if found and found[1].startswith(CHECKED) else ""


def _advice(name: str, root: str) -> str:
    """What to do about a name that is no setting: where it is one, or the nearest that there is."""
    group, _, key = name.partition(".")
    if group == "trainer" and key in REFUSED:
        return f"; {REFUSED[key]}"
    if name == "grid":
        return "; only a sweep has it whose file has `grids`"
    if choices := [choice for choice, file in _files_of(group, root, CONF) if _defines(file, key)] if key else []:
        return f"; it belongs to {' or '.join(f'{group}={choice}' for choice in choices)}"
    return did_you_mean(name, known_names(root))


def _files_of(group: str, root: str, *places: str | Path) -> list[tuple[str, Path]]:
    """The choices of a group with their files, as `mad/compression` of data. A folder in it may be a group itself."""
    others, folders = set(_groups(root)) - {group}, [Path(place, group) for place in places]
    found = ((file.relative_to(folder), file) for folder in folders for file in sorted(folder.rglob("*.yaml")))
    files = {name.with_suffix("").as_posix(): file for name, file in found}
    return [(name, file) for name, file in files.items() if f"{group}/{name}".rpartition("/")[0] not in others]


def _defines(file: Path, key: str) -> bool:
    """Whether a file of a group has a setting of this name, such as `path` or `early_stopping.patience`."""
    found = OmegaConf.load(file)
    return key in found or OmegaConf.select(found, key) is not None


def _unreadable(word: str) -> str:
    """What to do about a word that Hydra cannot parse."""
    name, equals, value = word.partition("=")
    if not equals:
        return f"{word!r} is not a setting; write name=value"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f"{word} cannot be read; if the value is meant as text, quote it twice: '{name}=\"{quoted}\"'"


def known_names(root: str) -> list[str]:
    """The names of all settings and groups of a root configuration at its defaults."""
    plain = _raw(_default(root))
    return [*_groups(root), *names_in({key: value for key, value in plain.items() if key != "hydra"})]


def _groups(root: str) -> list[str]:
    return [name.partition("@")[0] for name in _default(root).hydra.runtime.choices]


def _default(root: str) -> DictConfig:
    """The configuration without a word, with Hydra's own part."""
    if GlobalHydra.instance().is_initialized():
        return compose(root, return_hydra_config=True)
    with initialize_config_dir(CONF, version_base="1.3", job_name=root):
        return compose(root, return_hydra_config=True)


resolvers.register()
Plugins.instance().register(UserConfiguration)
Plugins.instance().register(ReadOnce)
