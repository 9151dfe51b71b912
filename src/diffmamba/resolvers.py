"""What a configuration can say in the place of a value: `${fraction:scale.headdim,1,2}` and the like."""

import netrc
import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from diffmamba.errors import SettingError


def fraction(setting: str, numerator: int, denominator: int, *, _root_: DictConfig) -> int:
    """`numerator / denominator` of a setting, which must be whole: sizes of a model as fractions of the scale's."""
    value = OmegaConf.select(_root_, setting)
    if type(value) is not int or value * numerator % denominator:
        raise SettingError(
            f"{setting}={value} must be a multiple of {denominator}: this model takes {numerator}/{denominator} of it"
        )
    return value * numerator // denominator


def batches(examples: str, batch_size: str, *, _root_: DictConfig) -> int:
    """The number of batches that so many examples make, the last one smaller; both are names of settings."""
    count, size = (OmegaConf.select(_root_, name) for name in (examples, batch_size))
    if count is None:
        name = OmegaConf.select(_root_, "data.name")
        raise SettingError(f"data={name} is no data of examples, which this experiment is for; use data=mad/NAME")
    if type(count) is not int or type(size) is not int or count < 1 or size < 1:
        raise SettingError(f"{examples}={count}, {batch_size}={size} must be whole numbers of at least 1")
    return -(-count // size)


def choose(setting: str, values: dict[str, Any], *, _root_: DictConfig) -> Any:
    """The value that belongs to a setting's name: what depends on a choice made elsewhere.

    Names that are not listed have the value of `otherwise`, if there is one.
    """
    name = OmegaConf.select(_root_, setting)
    if name not in values:
        if "otherwise" in values:
            return values["otherwise"]
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


def register() -> None:
    """Makes OmegaConf know them."""
    for resolver in (batches, fraction, choose, published, wandb_offline):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
