"""Chooses the state-space mixer by the name of its scan: the setting `model.ssm`."""

from functools import partial
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.mixers.mamba1 import Mamba1
from diffmamba.mixers.mamba2 import Mamba2

SSMS = ("mamba1", "mamba2")


def mamba(ssm: str, headdim: int, groups: int = 1, **settings: Any) -> Any:
    """Mamba-1 or Mamba-2, from the same settings.

    Args:
        ssm: "mamba1" or "mamba2".
        headdim: width of a head of Mamba-2. Mamba-1 has no heads and ignores it.
        groups: groups of B and C in one branch. Mamba-1 has exactly one.
        settings: further arguments of `Mamba1` or `Mamba2`.

    Returns:
        With `d_model` among the settings, the mixer itself. Without it, a `functools.partial` of `Mamba1` or `Mamba2`
        that builds the mixer from `d_model` and `depth`. The partial holds only what the mixer uses, so that settings
        without effect do not enter the identity of a run.

    Raises:
        SettingError: for an unknown `ssm`, and for several groups with Mamba-1; at once in both cases.
    """
    if ssm not in SSMS:
        raise SettingError(f"model.ssm={ssm} is not known; use one of {', '.join(SSMS)}")
    if ssm == "mamba1" and groups != 1:
        raise SettingError(f"model.groups={groups} needs heads, which Mamba-1 does not have; use 1, or ssm=mamba2")
    mixer: partial[Any] = partial(Mamba1) if ssm == "mamba1" else partial(Mamba2, headdim=headdim, groups=groups)
    return mixer(**settings) if "d_model" in settings else partial(mixer, **settings)
