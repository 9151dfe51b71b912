"""Other people's mixers with the weights of ours. Each builder raises ImportError where its library is missing.

Parameter names are the same everywhere, mamba-ssm's, so weights move by `state_dict`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from benchmarks.variants import D_STATE_1, Scale

D_CONV, EXPAND = 4, 2
FAST_CHUNK = 64  # instead of transformers' 256: its fastest of 32, 64 and 256 on a CPU, in half the time


@dataclass(frozen=True)
class Peer:
    """A mixer of another library."""

    name: str
    variant: str  # ours of the same function
    build: Callable[[Scale], nn.Module]


def peers(device: torch.device) -> Iterator[Peer]:
    """Those that run on a device."""
    yield Peer("transformers Mamba2Mixer", "mamba", _transformers_mamba2)
    if device.type == "cpu":
        name = f"transformers Mamba2Mixer, chunk_size {FAST_CHUNK}"
        yield Peer(name, "mamba", partial(_transformers_mamba2, chunk_size=FAST_CHUNK))
    yield Peer("transformers MambaMixer", "mamba1", _transformers_mamba1)
    yield Peer("mambapy MambaBlock", "mamba1", _mambapy)
    if device.type == "cuda":
        yield Peer("mamba-ssm Mamba2", "mamba", _mamba_ssm_mamba2)
        yield Peer("mamba-ssm Mamba", "mamba1", _mamba_ssm_mamba1)


def _transformers_mamba2(scale: Scale, **settings: int) -> nn.Module:
    from transformers import Mamba2Config, logging
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    logging.set_verbosity_error()  # it says once for each kernel that it does without
    config = Mamba2Config(
        **_transformers_sizes(scale, scale.d_state),
        **settings,
        num_heads=EXPAND * scale.d_model // scale.headdim,
        head_dim=scale.headdim,
        n_groups=1,
        time_step_limit=(0.0, float("inf")),
    )
    return Mamba2Mixer(config, layer_idx=0)


def _transformers_mamba1(scale: Scale) -> nn.Module:
    from transformers import MambaConfig, logging
    from transformers.models.mamba.modeling_mamba import MambaMixer

    logging.set_verbosity_error()
    return MambaMixer(MambaConfig(**_transformers_sizes(scale, D_STATE_1)), layer_idx=0)


def _transformers_sizes(scale: Scale, states: int) -> dict[str, int]:
    sizes = {"hidden_size": scale.d_model, "state_size": states, "num_hidden_layers": 1, "expand": EXPAND}
    return sizes | {"conv_kernel": D_CONV, "use_bias": False, "use_conv_bias": True}


def _mambapy(scale: Scale) -> nn.Module:
    from mambapy.mamba import MambaBlock, MambaConfig

    return MambaBlock(
        MambaConfig(d_model=scale.d_model, n_layers=1, d_state=D_STATE_1, expand_factor=EXPAND, d_conv=D_CONV)
    )


def _mamba_ssm_mamba2(scale: Scale) -> nn.Module:
    from mamba_ssm.modules.mamba2 import Mamba2

    return Mamba2(scale.d_model, d_state=scale.d_state, d_conv=D_CONV, expand=EXPAND, headdim=scale.headdim)


def _mamba_ssm_mamba1(scale: Scale) -> nn.Module:
    from mamba_ssm.modules.mamba_simple import Mamba

    return Mamba(scale.d_model, d_state=D_STATE_1, d_conv=D_CONV, expand=EXPAND)
