"""In what a run's settings differ from those that its model, data and scale have by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.browse.columns import TREES, UNTOLD
from diffmamba.browse.fields import CHOICES, text
from diffmamba.errors import SettingError
from diffmamba.runs.index import flat

CHOSEN = ("model", "data", "scale")
ROUNDS = (
    lambda name: name.startswith("scale."),
    lambda name: name.count(".") < 2,
    lambda name: True,
)
"""Which settings are tried first: what they set further need not be told."""


def choices(settings: Mapping[str, Any]) -> list[str]:
    """The words for the files of the groups that a run was composed of."""
    return [f"{group}={name}" for group in CHOSEN if (name := settings.get(f"{group}.name")) is not None]


def differing(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings to give beside `choices`. None where these compose to nothing any more."""
    words = choices(settings)
    found: dict[str, Any] = {}
    try:
        for asked in ROUNDS:
            plain = _composed(words)
            new = {name: value for name, value in settings.items() if asked(name) and _differs(name, value, plain)}
            found |= new
            words += [f"{name}={_word(value)}" for name, value in new.items()]
    except SettingError:  # a setting or a choice of another version; what it is by itself cannot be known
        return found or None
    return found


def _differs(name: str, value: Any, plain: Mapping[str, Any]) -> bool:
    if name.partition(".")[0] in UNTOLD or name.startswith(TREES) or name.rpartition(".")[2] in (*CHOICES, "_partial_"):
        return False
    return name in plain and text(value) != text(plain[name])


def _composed(words: Sequence[str]) -> dict[str, Any]:
    """The settings that some words compose to."""
    from hydra import compose  # here: a fifth of a second
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from diffmamba.configuration import composing

    with composing("train", words):
        try:
            config = OmegaConf.to_container(compose("train", overrides=list(words)), resolve=True)
        except OmegaConfBaseException as error:
            raise SettingError(str(error)) from error
    assert isinstance(config, dict)
    return {name: value for key, part in config.items() for name, value in flat(str(key), part)}


def _word(value: Any) -> str:
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    return "null" if value is None else text(value)
