"""What Hydra composes is what the files say now, though a process reads each file once."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra

from diffmamba import command_line
from diffmamba.configuration import composed
from diffmamba.errors import SettingError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scale of the user's own."""
    monkeypatch.setenv("DIFFMAMBA_CONF", str(tmp_path))
    (tmp_path / "scale").mkdir()
    return tmp_path / "scale" / "mine.yaml"


def test_a_file_that_changes_between_two_compositions_is_read_anew(own: Path) -> None:
    for steps in (11, 12):
        own.write_text(f"defaults: [smoke]\nname: mine\nsteps: {steps}\n")
        assert composed(["scale=mine"])["budget"]["steps"] == steps
    own.unlink()
    with pytest.raises(SettingError, match=r"^scale=mine is not known"):
        composed(["scale=mine"])


def test_a_file_is_parsed_once_and_no_composition_changes_what_the_next_one_reads(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.write_text("defaults: [smoke]\nname: mine\nsteps: 11\n")
    plain = composed(["scale=mine"])
    monkeypatch.setattr(FileConfigSource, "load_config", lambda source, path: pytest.fail(f"{path} was read again"))
    assert composed(["scale=mine", "scale.steps=5"])["budget"]["steps"] == 5
    assert composed(["scale=mine"]) == plain


def test_a_command_of_one_work_composes_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    compose_config = Hydra.compose_config

    def noted(self: Hydra, *given: Any, **named: Any) -> Any:
        seen.append(named["overrides"])
        return compose_config(self, *given, **named)

    monkeypatch.setattr(Hydra, "compose_config", noted)
    monkeypatch.setattr(sys, "argv", ["train", "seed=3"])
    assert command_line.application("train", lambda settings: settings["seed"]) == 3
    assert seen == [["seed=3"]]
