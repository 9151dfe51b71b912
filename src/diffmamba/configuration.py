"""What Hydra needs to know before it composes: where `experiments/` and `sweeps/` lie, and our resolvers."""

import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffmamba.errors import SettingError

ROOT = Path(__file__).resolve().parents[2]
CONF = str(ROOT / "conf")


def register() -> None:
    """Makes the repository root and the resolvers known to Hydra; every entry point calls it first."""
    os.environ["DIFFMAMBA_ROOT"] = str(ROOT)
    OmegaConf.register_new_resolver("div", lambda value, by: fraction(value, 1, by), replace=True)
    OmegaConf.register_new_resolver("fraction", fraction, replace=True)
    OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)


def fraction(value: int, numerator: int, denominator: int) -> int:
    """`value · numerator / denominator`, which must be whole: sizes of a model as fractions of the scale's sizes."""
    if value * numerator % denominator:
        raise SettingError(f"{value} must be a multiple of {denominator}, since this model takes {numerator}/{denominator} of it")
    return value * numerator // denominator


def wandb_offline() -> bool:
    """True unless W&B credentials are at hand: the WANDB_API_KEY variable or an entry that `wandb login` left in netrc."""
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"] == "offline"
    if os.environ.get("WANDB_API_KEY"):
        return False
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    try:
        return netrc.netrc().authenticators(host) is None
    except (OSError, netrc.NetrcParseError):
        return True


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data with every interpolation replaced, or a SettingError that says which cannot be."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(_one_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _one_line(error: OmegaConfBaseException) -> str:
    message = str(error).splitlines()[0].split("SettingError raised while resolving interpolation: ")[-1]
    return f"{error.full_key}: {message}" if error.full_key else message


def fail_clearly(entry: Callable[[], Any]) -> None:
    """Runs an entry point; a SettingError becomes one line on stderr and exit status 2, Ctrl-C exit status 130."""
    import sys

    try:
        entry()
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
