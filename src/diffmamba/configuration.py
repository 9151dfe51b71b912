"""What Hydra composes from, and how what it composed becomes plain data.

Importing this module registers our resolvers and puts the user's own configuration directory on Hydra's search path, in
every process that composes a configuration. That directory is $DIFFMAMBA_CONF, or `conf` in the working directory.
"""

import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
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

from diffmamba import settings
from diffmamba.errors import SettingError
from diffmamba.trainer_arguments import REFUSED, check_arguments
from diffmamba.validation import Once, did_you_mean, each_time, names_in, nearest, validate

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
"""The root of the checkout that this package is in; None for an installed package."""
CONF = str((CHECKOUT or PACKAGE) / "conf")
"""The configuration: inside an installed package, beside `src` in a checkout."""


class UserConfiguration(SearchPathPlugin):
    """Puts the user's own directory behind ours: its files add models, data, sweeps and so on to those there are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = Path(os.environ.get("DIFFMAMBA_CONF", "conf")).absolute()
        if "DIFFMAMBA_CONF" in os.environ and not own.is_dir():
            raise SettingError(f"DIFFMAMBA_CONF={own} is no directory; name one, or unset the variable")
        if own.is_dir() and own.resolve() != Path(CONF).resolve():
            search_path.append(provider="diffmamba-user", path=f"file://{own}")
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
            _read[key] = super().load_config(config_path)
        return deepcopy(_read[key])


_read: dict[tuple[Any, ...], ConfigResult] = {}


def fraction(setting: str, numerator: int, denominator: int, *, _root_: DictConfig) -> int:
    """`numerator / denominator` of a setting, which must be whole: sizes of a model as fractions of the scale's."""
    value = OmegaConf.select(_root_, setting)
    if type(value) is not int or value * numerator % denominator:
        raise SettingError(
            f"{setting}={value} must be a multiple of {denominator}: this model takes {numerator}/{denominator} of it"
        )
    return value * numerator // denominator


def choose(setting: str, values: dict[str, Any], *, _root_: DictConfig) -> Any:
    """The value that belongs to a setting's name: what depends on a choice made elsewhere."""
    name = OmegaConf.select(_root_, setting)
    if name not in values:
        raise SettingError(f"{setting}={name} is not known; use one of {', '.join(map(str, values))}")
    return values[name]


def published(setting: str, otherwise: Any, *, _root_: DictConfig) -> Any:
    """The value of a setting where `scale.hyper_parameters` is "published", else `otherwise`."""
    if choose("scale.hyper_parameters", {"published": True, "own": False}, _root_=_root_):
        value = OmegaConf.select(_root_, setting)
        if value is None:
            raise SettingError(f"nothing is published for {setting}; use scale.hyper_parameters=own")
        return value
    return otherwise


def wandb_offline() -> bool:
    """True unless W&B credentials are at hand: WANDB_API_KEY, or the entry that `wandb login` leaves in netrc."""
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"] == "offline"
    if os.environ.get("WANDB_API_KEY"):
        return False
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is None
    except (OSError, netrc.NetrcParseError):
        return True


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
    except HydraException as error:
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
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(one_line(error, root)) from error
    assert isinstance(plain, dict)
    named = {str(key): value for key, value in plain.items()}
    check(named, config, root, words)
    return named


def check(named: dict[str, Any], config: DictConfig, root: str, words: Sequence[str], once: Once = each_time) -> None:
    """Raises SettingError for what is wrong in a configuration; `named` is `config` as plain data.

    `once` may leave out a check that it has made before, of the same object at the same place.
    """
    for word in words:
        if word.startswith("+"):
            once(("used", word), partial(_require_use, word, named, config, root))
    if isinstance(trainer := named.get("trainer"), Mapping):
        check_arguments(key for key in trainer if not key.startswith("_"))
    validate(named, settings.OF.get(root), config, once)


def _require_use(word: str, named: Mapping[str, Any], config: DictConfig, root: str) -> None:
    name = word.lstrip("+").partition("=")[0]
    if not _is_used(name, named, config, root):
        raise SettingError(f"{word}: nothing uses {name}{did_you_mean(name, set(names_in(named)) - {name})}")


REMOVABLE = ("~logger.", "~callbacks.")
READ_AS_A_WHOLE = ("hydra", "published", "logger", "callbacks", "slurm.additional")
"""Settings below these are read whatever their names are."""


def _is_used(name: str, plain: Mapping[str, Any], config: DictConfig, root: str) -> bool:
    """Whether anything can read a setting that the command line added: a constructor, or another setting."""
    keys = name.split("@")[0].split(".")
    as_a_whole = name.startswith(tuple(f"{group}." for group in READ_AS_A_WHOLE))
    if as_a_whole or name in READ_AS_A_WHOLE or "/" in name or OmegaConf.select(config, name) is None:
        return True  # the last: a choice of a group, which is no setting
    if name in names_in(OmegaConf.to_container(_default(root), resolve=False)):
        return True  # it was there already
    node: Any = plain
    for key in keys:
        if isinstance(node, Mapping) and "_target_" in node:
            return True
        node = node[key] if isinstance(node, Mapping) else node[int(key)]
    return any(_refers(text, name) for text in _texts(OmegaConf.to_container(config, resolve=False)))


def _refers(text: str, name: str) -> bool:
    """Whether a text refers to a setting by its whole name, or from beside it by its last name."""
    return any(found.strip(".") in (name, name.rpartition(".")[2]) for found in re.findall(r"[\w.]*\w", text))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping | list):
        for inner in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(inner)
    elif isinstance(node, str) and "${" in node:
        yield node


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
        return f"{error.full_key}: {message}" if error.full_key else message
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if found := re.search(r"Could not override '(.+?)'", text):
        return f"there is no setting {found[1]}{_advice(found[1], root)}"
    if found := re.search(r"Could not append to config. An item is already at '(.+?)'", text):
        return f"+{found[1]}: {found[1]} is there already; leave out the +"
    if found := re.search(r"Could not find '(.+)/(.*?)'\s+Available options in '.+':\s((?:\t.+\n?)+)", text):
        group, name, options = found[1], found[2], found[3].split()
        hint = f"; did you mean {meant}?" if (meant := nearest(name, options)) else ""
        extra = f" ({name} needs the extra: pip install -e '.[search]')" * (name == "optuna")
        return f"{group}={name} is not known{hint or ';'} available are {', '.join(options)}{extra}"
    lines = [line.strip() for line in text.split("Config search path")[0].splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("Set the environment", "To append to")))


def _advice(name: str, root: str) -> str:
    """What to do about a name that is no setting: where it is one, or the nearest that there is."""
    group, _, key = name.partition(".")
    if group == "trainer" and key in REFUSED:
        return f"; {REFUSED[key]}"
    choices = [file.stem for file in sorted(Path(CONF, group).glob("*.yaml")) if _defines(file, key)] if key else []
    if choices:
        return f"; it belongs to {' or '.join(f'{group}={choice}' for choice in choices)}"
    return did_you_mean(name, known_names(root))


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
    plain = OmegaConf.to_container(_default(root), resolve=False)
    assert isinstance(plain, dict)
    return [*_groups(root), *names_in({key: value for key, value in plain.items() if key != "hydra"})]


def _groups(root: str) -> list[str]:
    return [name.partition("@")[0] for name in _default(root).hydra.runtime.choices]


def _default(root: str) -> DictConfig:
    """The configuration without a word, with Hydra's own part."""
    if GlobalHydra.instance().is_initialized():
        return compose(root, return_hydra_config=True)
    with initialize_config_dir(CONF, version_base="1.3", job_name=root):
        return compose(root, return_hydra_config=True)


OmegaConf.register_new_resolver("fraction", fraction, replace=True)
OmegaConf.register_new_resolver("choose", choose, replace=True)
OmegaConf.register_new_resolver("published", published, replace=True)
OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)
Plugins.instance().register(UserConfiguration)
Plugins.instance().register(ReadOnce)
