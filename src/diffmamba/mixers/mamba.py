"""Chooses the state-space mixer by the name of its scan: the setting `model.ssm`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from diffmamba.errors import SettingError
from diffmamba.mixers.combine import Single
from diffmamba.mixers.mamba1 import Mamba1
from diffmamba.mixers.mamba2 import Mamba2
from diffmamba.ranges import Size

Scan = Literal["mamba2", "mamba1"]


def mamba(
    ssm: Scan,
    headdim: Size,
    d_state: Size = 16,
    d_conv: Size = 4,
    expand: Size = 2,
    groups: Size = 1,
    combine: Callable[..., Any] = Single,
    d_model: Size | None = None,
    depth: Size | None = None,
) -> Any:
    """Mamba-1 or Mamba-2, from the same settings, which are those of `Mamba1` and `Mamba2`.

    Args:
        ssm: "mamba1" or "mamba2".
        headdim: width of a head of Mamba-2. Mamba-1 has no heads and ignores it.
        groups: groups of B and C in one branch. Mamba-1 has exactly one.

    Returns:
        With `d_model` and `depth` the mixer itself. Without them a `functools.partial` of `Mamba1` or `Mamba2` that
        builds the mixer from these two. It holds only what the mixer uses, so that settings without effect do not enter
        the identity of a run.

    Raises:
        SettingError: for several groups with Mamba-1, at once.
    """
    if ssm == "mamba1" and groups != 1:
        raise SettingError(f"model.groups={groups} needs heads, which Mamba-1 does not have; use 1, or ssm=mamba2")
    mixer: partial[Any] = partial(Mamba1) if ssm == "mamba1" else partial(Mamba2, headdim=headdim, groups=groups)
    mixer = partial(mixer, d_state=d_state, d_conv=d_conv, expand=expand, combine=combine)
    return mixer if d_model is None else mixer(d_model=d_model, depth=depth)
