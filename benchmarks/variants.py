"""The models of `conf/model`, built without Hydra. A test compares each with what `conf/` composes.

`mamba1` and `diff_mamba1` are `mamba` and `diff_mamba` with `model.ssm=mamba1`.

A variant is what the backbone needs: the width, and the mixers to take in turn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from diffmamba.mixers import Attention, Difference, Mamba1, Mamba2, MapDifference, Mixer, OneMap, Single
from diffmamba.models import Backbone, LanguageModel

D_STATE_1 = 16  # of Mamba-1, in all of its published models


@dataclass(frozen=True)
class Scale:
    """Sizes, by their names in `conf/scale` and `conf/architecture`."""

    d_model: int
    headdim: int
    d_state: int
    n_layers: int = 1
    layer: tuple[str, ...] = ("mixer", "mixer", "ffn")
    residual: str = "post_norm"
    vocabulary: int = 27


@dataclass(frozen=True)
class Variant:
    """Width and mixers of a network."""

    d_model: int
    mixers: tuple[Callable[..., Mixer], ...]


def _mamba(scale: Scale) -> Variant:
    return Variant(scale.d_model, (_vanilla(scale),))


def _mamba_grouped(scale: Scale) -> Variant:
    return Variant(scale.d_model, (_vanilla(replace(scale, headdim=scale.headdim // 2), groups=2),))


def _diff_mamba(scale: Scale, sign: int = -1) -> Variant:
    return Variant(scale.d_model, (_differential(scale, sign),))


def _diff_mamba_hybrid(scale: Scale) -> Variant:
    return Variant(scale.d_model, (_differential(scale), _vanilla(scale)))


def _diff_s6(scale: Scale, outer_norm: bool = True) -> Variant:
    """27/32 as wide, which is how parameters match (table 5)."""
    combine = partial(Difference, scope="ssm", outer_norm=outer_norm)
    mixer = partial(Mamba2, headdim=scale.headdim * 27 // 32, d_state=scale.d_state, combine=combine)
    return Variant(scale.d_model * 27 // 32, (mixer,))


def _attention(scale: Scale, combine: Callable[..., object]) -> Variant:
    """Heads together 3/2 as wide as the model, which is how parameters match."""
    inner = scale.d_model * 3 // 2
    return Variant(scale.d_model, (partial(Attention, headdim=scale.headdim, inner=inner, combine=combine),))


def _vanilla(scale: Scale, groups: int = 1) -> Callable[..., Mixer]:
    return partial(Mamba2, headdim=scale.headdim, d_state=scale.d_state, groups=groups, combine=Single)


def _differential(scale: Scale, sign: int = -1) -> Callable[..., Mixer]:
    """Two branches of expand 1 and half the head dimension."""
    combine = partial(Difference, scope="block", sign=sign)
    return partial(Mamba2, headdim=scale.headdim // 2, d_state=scale.d_state, expand=1, combine=combine)


def _mamba1(scale: Scale) -> Variant:
    return Variant(scale.d_model, (partial(Mamba1, d_state=D_STATE_1),))


def _diff_mamba1(scale: Scale) -> Variant:
    combine = partial(Difference, scope="block")
    return Variant(scale.d_model, (partial(Mamba1, d_state=D_STATE_1, expand=1, combine=combine),))


VARIANTS: dict[str, Callable[[Scale], Variant]] = {
    "mamba": _mamba,
    "mamba_grouped": _mamba_grouped,
    "diff_mamba": _diff_mamba,
    "diff_mamba_additive": partial(_diff_mamba, sign=1),
    "diff_mamba_hybrid": _diff_mamba_hybrid,
    "diff_s6": _diff_s6,
    "naive_diff": partial(_diff_s6, outer_norm=False),
    "mamba1": _mamba1,
    "diff_mamba1": _diff_mamba1,
    "transformer": partial(_attention, combine=OneMap),
    "diff_transformer": partial(_attention, combine=MapDifference),
}


def mixer(name: str, scale: Scale, depth: int = 2) -> Mixer:
    """The variant's mixer by itself; of the hybrid, the differential one."""
    variant = VARIANTS[name](scale)
    return variant.mixers[0](d_model=variant.d_model, depth=depth)


def language_model(name: str, scale: Scale) -> LanguageModel:
    """The variant as a whole network, without dropout."""
    variant = VARIANTS[name](scale)
    backbone = Backbone(variant.d_model, scale.n_layers, variant.mixers, scale.layer, scale.residual)
    return LanguageModel(scale.vocabulary, backbone, variant.d_model)


def parameters(module: Mixer | LanguageModel) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())
