"""Models as Hydra composes them, at sizes that a test can afford."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from diffmamba import configuration
from diffmamba.build import build_network
from diffmamba.models import LanguageModel

TINY = ("scale.d_model=32", "scale.headdim=32", "scale.d_state=4", "scale.n_layers=1")
ATTENTION = ("model=transformer", "model=diff_transformer")  # heads divide 3/2 · d_model, which 32 does not
VOCABULARY = 7


@cache
def _resolved(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        return configuration.resolved(compose("train", overrides=list(overrides)))


@pytest.fixture(scope="session")
def resolve() -> Callable[..., dict[str, Any]]:
    """The resolved configuration of some overrides."""
    return _resolved


@pytest.fixture(scope="session")
def build() -> Callable[..., LanguageModel]:
    """A tiny network from Hydra overrides; keywords replace settings of `model` in the result."""

    def build_(*overrides: str, **changes: Any) -> LanguageModel:
        torch.manual_seed(0)
        narrow = ["model.headdim=16" for word in overrides if word in ATTENTION]
        return build_network(_resolved(*TINY, *narrow, *overrides)["model"] | changes, VOCABULARY)

    return build_
