"""The state-space mixer by the name of its scan, for `model.ssm`."""

from typing import Any

from diffmamba.errors import SettingError
from diffmamba.mixers.mamba1 import Mamba1
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.mixers.mixer import Mixer

SSMS = ("mamba1", "mamba2")


def mamba(ssm: str, headdim: int, groups: int = 1, **settings: Any) -> Mixer:
    """Mamba-1 or Mamba-2 with the same settings; Mamba-1 has no heads, and B and C of one group in a branch."""
    if ssm not in SSMS:
        raise SettingError(f"model.ssm={ssm} is not known; use one of {', '.join(SSMS)}")
    if ssm == "mamba2":
        return Mamba2(headdim=headdim, groups=groups, **settings)
    if groups != 1:
        raise SettingError(f"model.groups={groups} needs heads to share out, which Mamba-1 lacks; use 1, or ssm=mamba2")
    return Mamba1(**settings)
