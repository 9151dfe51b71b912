"""What a sweep says of itself before its cells are composed: whether it is a search, what it varies, and its page."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from diffmamba.configuration import composing
from diffmamba.errors import SettingError
from diffmamba.runs.search import is_search
from diffmamba.runs.union import varied

NAMES = re.compile(r"[A-Za-z0-9/._+%-]+")
"""The names that Hydra takes as they are."""


@dataclass(frozen=True)
class Described:
    """A sweep with the words of a command line.

    Args:
        name: a file of sweeps/.
        group: that its runs have.
        fixed: those of the words that have one value.
        varied: the settings that have several values, or a range of them, or stand in an item of a union of grids, in
            the order of the file and of the words.
        search: whether its cells are not known beforehand.
        trials: how many a search is to have; None where it does not say.
        title: of its page; "" where the file gives none.
        baseline: the settings of the cell that others are compared with, as words of a command line; "" for none.
    """

    name: str
    group: str | None
    fixed: tuple[str, ...]
    varied: tuple[str, ...]
    search: bool
    trials: int | None
    title: str
    baseline: str


def describe(sweep: str, words: Sequence[str]) -> Described:
    """The sweep of this name with these words. Raises SettingError in one line where it cannot be composed."""
    if not NAMES.fullmatch(sweep):
        raise SettingError(
            f"sweep={sweep}: the name of a sweep may hold letters from a to z, digits and / . - _ + %; rename its file"
        )
    try:
        return _described(sweep, words)
    except SettingError as error:
        raise SettingError(str(error).replace(f"sweeps={sweep} is", f"sweep={sweep} is")) from None


def _described(sweep: str, words: Sequence[str]) -> Described:
    parser = OverridesParser.create()
    with composing("train", [f"sweeps={sweep}", *words]):
        given = parser.parse_overrides([f"sweeps={sweep}", *words])
        fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
        config = compose("train", overrides=fixed, return_hydra_config=True)
        report = _plain(config, "report")
        return Described(
            sweep,
            config.group,
            tuple(word for word in fixed[1:] if not word.startswith("hydra")),
            tuple(varied(config, given)),
            is_search(config.hydra),
            config.hydra.sweeper.get("n_trials"),
            str(report.get("title") or ""),
            _as_words(report.get("baseline")),
        )


def _plain(config: DictConfig, name: str) -> Mapping[str, Any]:
    found = OmegaConf.select(config, name)
    return OmegaConf.to_container(found, resolve=True) if isinstance(found, DictConfig) else {}  # type: ignore[return-value]


def _as_words(baseline: Any) -> str:
    """A baseline of a file, which is a mapping or such words themselves."""
    if not isinstance(baseline, Mapping):
        return str(baseline or "")
    return shlex.join(f"{name}={_text(value)}" for name, value in baseline.items())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
