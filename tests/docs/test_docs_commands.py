"""Every command of the pages works: those of this package at tiny sizes, in this process.

A block under `<!-- not run: REASON -->` is composed but not run, so that a renamed setting is found there too. Lines of
`make` are not run either: `make -n` says which commands they stand for, and these are composed.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pages
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny import MAD, TINY, TINY_MAD

from diffmamba import command_line, configuration
from diffmamba.__main__ import COMMANDS, MODULES
from diffmamba.reports import designs, pictures
from diffmamba.runs import plan

OF_A_SWEEP = ("sweep", "reproduce", "report", "wandb_sweep")
OF_OTHERS = ("cat", "cd", "git", "head", "ls", "pip", "squeue", "unzip", "wandb")  # programs that are not ours
ENDING = {
    "train": TINY,
    "measure": TINY,
    "evaluate": ("device=cpu", "limit=4"),
    "generate": ("length=8",),
    **dict.fromkeys(OF_A_SWEEP, TINY),
    "wandb_sweep": tuple(word for word in TINY if not word.startswith("logger=")),  # it is of W&B
}
BLOCKS = pages.all_blocks("sh")


def command_of(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """The command of this package and its settings, for `diffmamba NAME ...` and `... -m diffmamba.NAME ...`."""
    for index, word in enumerate(words[:-1]):
        if word == "diffmamba":
            return words[index + 1], list(words[index + 2 :])
        if word == "-m" and words[index + 1].startswith("diffmamba."):
            return words[index + 1].removeprefix("diffmamba."), list(words[index + 2 :])
    return None


@pytest.mark.parametrize("block", BLOCKS, ids=map(str, BLOCKS))
def test_commands_of_a_page(block: pages.Block, folder: Path, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn for the page whose files make new ones."""
    if block.page.name != "extending.md":
        monkeypatch.setattr(pictures, "drawn", lambda chart, kind: kind.encode())
    for words in block.commands:
        words = [re.sub(r"\bID\b", run_id, word) for word in words]
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        called = command_of(words)
        if called and not block.not_run:
            run(*called)
        elif called:
            compose(*called)
        elif words[0] == "make":
            for line in made(words):
                compose(*line)
        else:
            assert block.not_run, f"{block}: {' '.join(words)} can be neither run nor checked; say why it is not run"
            assert words[0].rpartition("/")[2] in (*OF_OTHERS, "python"), words


UNNAMED = [block for block in pages.all_blocks("python") if not block.file]


@pytest.mark.parametrize("block", UNNAMED, ids=map(str, UNNAMED))
def test_python_of_a_page_runs(block: pages.Block, run_id: str) -> None:
    """Blocks that are a file are used by the commands."""
    exec(compile(block.text, str(block.page), "exec"), {})


NAMED = [block for block in (*pages.all_blocks("python"), *pages.all_blocks("yaml")) if block.file]


@pytest.mark.parametrize("block", NAMED, ids=map(str, NAMED))
def test_file_of_a_page_is_used(block: pages.Block) -> None:
    """Another block of the page names it: a command `model=NAME`, a `_target_`, or a design its sweep."""
    others = "".join(other.text for other in pages.blocks(block.page) if other != block)
    assert re.search(rf"[=.\"]{Path(block.file).stem}\b", others)


def is_site(name: str, words: list[str]) -> bool:
    """Whether a command builds the site of all runs, which takes no settings of trainings."""
    return name == "report" and not any(word.startswith(("table=", "figure=", "sweep=")) for word in words)


def run(name: str, words: list[str]) -> None:
    """Runs a command as its page gives it, at tiny sizes."""
    given = {word.partition("=")[0] for word in words}
    ending = TINY_MAD if set(MAD) & set(words) else ENDING.get(name, ())
    further = [word for word in ending if word.partition("=")[0] not in given]
    if name == "measure" and "weights=run" in words:  # the network is that of the run
        further = [word for word in further if not word.startswith(("model.", "scale."))]
    if any(word.startswith("--") for word in words) or is_site(name, words):  # asks for help, or for the configuration
        further = []
    elif (name == "measure" and "measure" not in given) or "measure=perplexity" in words:
        further.append("measure.limit=4")
    entry = import_module(MODULES.get(name, f"diffmamba.{name}")).main
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [name, *words, *further])
        with pytest.raises(SystemExit) as ended:
            entry()
    assert ended.value.code in (0, None), (name, words)


def compose(name: str, words: list[str]) -> None:
    """Composes what a command would work on; a wrong setting raises."""
    assert name in COMMANDS, name
    if name == "runs" or is_site(name, words):  # has no settings to compose
        return
    if name in (*OF_A_SWEEP, "audit"):
        settings, rest = command_line.own_settings(name, words)
        if settings.get("predictions"):  # made of a file, so there is nothing to compose
            assert settings["figure"] in designs.of_files("figure")
            return
        plan.configurations(settings.get("sweep") or swept(settings), rest)
        return
    words = [word for word in words if word not in ("-m", "--multirun")]
    parsed = OverridesParser.create().parse_overrides(words)
    for cell in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]:
        configuration.composed(cell, name)


def swept(settings: dict[str, str]) -> str:
    """The sweep of the table or figure that is asked for; that of table 2 where none is."""
    kind = "figure" if settings.get("figure") else "table"
    design = designs.find(kind, settings.get(kind) or "table2")
    assert isinstance(design, designs.Design)
    return design.sweep


def made(words: list[str]) -> list[tuple[str, list[str]]]:
    """The commands of this package that a line of `make` would run."""
    told = subprocess.run([*words[:1], "-n", *words[1:]], cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    lines = [shlex.split(line) for line in told.stdout.splitlines() if " -m diffmamba." in line]
    return [called for line in lines if (called := command_of(line))]
