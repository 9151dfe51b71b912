"""Where the pages of a table or figure lie: those of the plain sweep in NAME-SCALE, those of other settings apart.

A page of other settings has them in the name of its directory, `table2-smoke-data=pysrc8-seed=1,2`, and in its title.
So it never takes the place of the plain page.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffmamba.errors import SettingError

HOW = (
    *("runs", "logger", "threads", "group", "name", "retry", "retries", "checkpoint", "force", "compile"),
    *("hydra", "model.backend"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.log_every_n_steps"),
    *("data.directory", "data.eval_batch_size", "scale.eval_batch_size"),
)
"""Settings that say how or where something is computed. With all that is below them, they make no other result."""
MACHINE = ("threads", "model.backend", "trainer.accelerator")
"""Those of them that make another result of what is measured of the machine, as `DEVICES` do."""
DEVICES = ("trainer=auto", "trainer=cpu", "trainer=gpu", "trainer=ddp", "trainer=fsdp")
LONGEST = 80  # characters of the settings in a name; file systems take 255 bytes


def telling(words: Iterable[str], of_machine: bool = False) -> tuple[str, ...]:
    """The words that may change a result, in the order of their names, so that their order makes no other page.

    `of_machine`: the results depend on the machine.
    """
    return tuple(sorted(word for word in words if not _says_how(word) or (of_machine and _says_where(word))))


def directory(reports: str | Path, name: str, settings: Iterable[str]) -> Path:
    """The directory of the page `name`, such as `table2-smoke`, with these settings."""
    return Path(reports) / "-".join(filter(None, [name, _slug(settings)]))


def check_place(reports: str | Path) -> None:
    """Raises SettingError if pages cannot be written there, for those who are about to train for hours."""
    there = next(place for place in (Path(reports).absolute(), *Path(reports).absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written to" if there.is_dir() else "is no directory"
        raise SettingError(f"reports={reports}: {there} {why}; use reports=DIR for another place")


def others(reports: str | Path, name: str) -> Iterator[tuple[Path, str]]:
    """The pages that were made of the same table or figure with other settings, and these settings."""
    stem = name.partition("-")[0]
    for found in sorted(Path(reports).glob(f"{name}-*")):
        path = next((path for path in (found / "table.json", found / f"{stem}.json") if path.is_file()), None)
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))["settings"] if path else []
            if settings:
                yield found, " ".join(settings)
        except (OSError, ValueError, KeyError, TypeError):  # no page of ours
            continue


@contextmanager
def writing(reports: Path) -> Iterator[None]:
    """Inside, a place for `reports` that cannot be one is a SettingError."""
    try:
        yield
    except (NotADirectoryError, FileExistsError, PermissionError) as error:
        if error.filename is None or not Path(error.filename).is_relative_to(reports):
            raise
        raise SettingError(f"reports={reports}: {error.strerror}; use reports=DIR for another place") from error


def _says_where(word: str) -> bool:
    return word in DEVICES or _name(word) in MACHINE


def _name(word: str) -> str:
    """The setting that a word is of."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".")


def _says_how(word: str) -> bool:
    name = _name(word)
    return word in DEVICES or any(name == known or name.startswith(f"{known}.") for known in HOW)


def _slug(settings: Iterable[str]) -> str:
    """The settings as part of a file name. A hash follows where signs or letters had to be left out."""
    told = "-".join(settings)
    safe = re.sub(r"[^A-Za-z0-9=,._+-]", "_", told)[:LONGEST]
    return safe if safe == told else f"{safe}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
