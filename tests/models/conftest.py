"""Models as Hydra composes them, at sizes that a test can afford."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.models import LanguageModel
from diffmamba.runs.parts import built

TINY = ("scale.d_model=32", "scale.headdim=32", "scale.d_state=4", "scale.n_layers=1")
ATTENTION = ("model=transformer", "model=diff_transformer")  # heads divide 3/2 · d_model, which 32 does not
VOCABULARY = 7


@cache
def _resolved(*overrides: str) -> dict[str, Any]:
    return composed(overrides)


@pytest.fixture(scope="session")
def resolve() -> Callable[..., dict[str, Any]]:
    """The resolved configuration of some overrides."""
    return _resolved


@pytest.fixture(scope="session")
def build() -> Callable[..., LanguageModel]:
    """A tiny network from Hydra overrides; keywords replace arguments of its backbone."""

    def build_(*overrides: str, **changes: Any) -> LanguageModel:
        torch.manual_seed(0)
        narrow = ["model.headdim=16" for word in overrides if word in ATTENTION]
        network = _resolved(*TINY, *narrow, *overrides)["model"]["network"]
        return built(network | {"backbone": network["backbone"] | changes})(VOCABULARY)

    return build_
