"""What Hydra composes from, and how what it composed becomes plain data and a corpus.

Importing this module registers our resolvers, in every process that composes or resolves a configuration.
"""

import json
import netrc
import os
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from diffmamba.data.corpus import Corpus, prepare
from diffmamba.errors import SettingError

ROOT = Path(__file__).resolve().parents[2]
CONF = str(ROOT / "conf")


def fraction(setting: str, numerator: int, denominator: int, *, _root_: DictConfig) -> int:
    """`numerator / denominator` of a setting, which must be whole: sizes of a model as fractions of the scale's."""
    value = OmegaConf.select(_root_, setting)
    if value * numerator % denominator:
        raise SettingError(
            f"{setting}={value} must be a multiple of {denominator}: this model takes {numerator}/{denominator} of it"
        )
    return value * numerator // denominator


def choose(setting: str, values: dict[str, Any], *, _root_: DictConfig) -> Any:
    """The value that belongs to a setting's name: what depends on a choice made elsewhere."""
    name = OmegaConf.select(_root_, setting)
    if name not in values:
        raise SettingError(f"{setting}={name} is not known; use one of {', '.join(values)}")
    return values[name]


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


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, every interpolation replaced; SettingError names one that cannot be."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(_one_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _one_line(error: OmegaConfBaseException) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; give {error.full_key}=VALUE"
    message = str(error).splitlines()[0].split("SettingError raised while resolving interpolation: ")[-1]
    return f"{error.full_key}: {message}" if error.full_key else message


def corpus(data: dict[str, Any]) -> Corpus:
    """The prepared corpus of a resolved `data` configuration; the same process looks at its source only once."""
    return _corpus(json.dumps(data["source"], sort_keys=True), data["symbols"], data["directory"])


@cache
def _corpus(source: str, symbols: str, directory: str | None) -> Corpus:
    return prepare(instantiate(json.loads(source)), symbols, directory)


OmegaConf.register_new_resolver("fraction", fraction, replace=True)
OmegaConf.register_new_resolver("choose", choose, replace=True)
OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)
