"""What Hydra composes from, and how what it composed becomes plain data.

Importing this module registers our resolvers and puts the user's own configuration directory on Hydra's search path, in
every process that composes a configuration. That directory is $DIFFMAMBA_CONF, or `conf` in the working directory.
"""

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from diffmamba.errors import SettingError

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
    try:
        with initialize_config_dir(CONF, version_base="1.3", job_name=root):
            return resolved(compose(root, overrides=list(words)))
    except HydraException as error:
        raise SettingError(one_line(error)) from error


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, every interpolation replaced. SettingError names one that cannot be."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(one_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def one_line(error: Exception) -> str:
    """The message of Hydra or OmegaConf in one line, without advice on search paths."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; give {error.full_key}=VALUE"
    if isinstance(error, OmegaConfBaseException):
        message = str(error).splitlines()[0].split("SettingError raised while resolving interpolation: ")[-1]
        if "Missing mandatory value: " in message:
            missing = message.split("Missing mandatory value: ")[-1]
            return f"{missing} is not set; give {missing}=VALUE"
        return f"{error.full_key}: {message}" if error.full_key else message
    if isinstance(error, OverrideParseException) and "=" not in error.override:
        return f"{error.override!r} is not a setting; write name=value"
    lines = [line.strip() for line in str(error).split("Config search path")[0].splitlines()]
    told = (line for line in lines if line and not line.startswith(("Set the environment", "To append to your config")))
    text = " ".join(told).replace("Could not override", "there is no setting")
    return text.replace("Available options in", "; available options in")


OmegaConf.register_new_resolver("fraction", fraction, replace=True)
OmegaConf.register_new_resolver("choose", choose, replace=True)
OmegaConf.register_new_resolver("published", published, replace=True)
OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)
Plugins.instance().register(UserConfiguration)
