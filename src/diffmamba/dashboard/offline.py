"""How to look at runs without W&B's pages: folders in which `wandb leet` and `wandb sync` find all runs of a group.

Each run keeps its W&B sessions in its own directory, `runs/ID/wandb/offline-run-*`. `wandb leet FOLDER` shows all
sessions of one folder. So a folder for each group holds links to those of its runs.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from diffmamba.resolvers import wandb_offline
from diffmamba.runs.index import Entry
from diffmamba.runs.store import RunStore

SESSIONS = "*run-*"
"""The sessions of a run: `offline-run-DATE-ID`, and `run-DATE-ID` of those that were online."""

LONGEST = 60  # characters of a group in the name of a file; they may have four bytes each


def is_offline() -> bool:
    """Whether nothing is to be sent: WANDB_MODE says so, or nobody is logged in."""
    return os.environ.get("WANDB_MODE") in ("disabled", "dryrun") or wandb_offline()


def link(reports: Path, group: str, entries: Iterable[Entry], store: RunStore) -> Path | None:
    """Makes `reports/wandb/GROUP/`, with a link to each session of these runs; None where they have none.

    Links to what is no longer there go. Sessions that another one has replaced are left out.
    """
    found = [path for entry in entries for path in sessions(store, entry.id)]
    if not found:
        return None
    folder = reports / "wandb" / name_of(group)
    folder.mkdir(parents=True, exist_ok=True)
    wanted: Mapping[str, Path] = {path.name: path.resolve() for path in found}
    for old in folder.iterdir():
        if old.is_symlink() and wanted.get(old.name) != Path(os.readlink(old)):
            old.unlink()
    for name, target in wanted.items():
        with suppress(FileExistsError):
            (folder / name).symlink_to(target)
    return folder


def sessions(store: RunStore, run: str) -> list[Path]:
    """The W&B sessions of a run that are there."""
    found = (store.run(run).directory / "wandb").glob(SESSIONS)
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def name_of(group: str) -> str:
    """The group as the name of a file, on every file system. Where that changes it, a hash tells it from others."""
    safe = re.sub(r"[^\w,=+-]", "_", group)[:LONGEST]
    return safe if safe == group else f"{safe}-{hashlib.sha256(group.encode()).hexdigest()[:8]}"
