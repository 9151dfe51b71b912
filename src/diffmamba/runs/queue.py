"""The plan of a sweep as a file: the works that are left to do, for workers to take from.

    RUNS/.sweep/NAME-TOKEN/
        plan.jsonl       one work a line: its id, its name, the ids of what it needs, and its resolved settings
        worker-0.log     what each worker says

The file is written once, before a worker starts, and only read from then on. Who does which work is decided by the
leases of the store alone. The token names the sweep in the records of its runs.
"""

import errno
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs.plan import Planned
from diffmamba.runs.store import OF_A_PATH

FOLDER = ".sweep"
PLAN = "plan.jsonl"


@dataclass(frozen=True)
class Entry:
    """One work of a plan, without its settings: `place` is where its line begins."""

    id: str
    name: str
    needs: tuple[str, ...]
    place: int


class Queue:
    """The plan in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def token(self) -> str:
        """What names the sweep in records."""
        return self.folder.name.rpartition("-")[2]

    def entries(self) -> list[Entry]:
        """All works of the plan, in its order: what is needed comes first."""
        found, place = [], 0
        try:
            with (self.folder / PLAN).open("rb") as file:
                for line in file:
                    told = json.loads(line)
                    found.append(Entry(told["id"], told["name"], tuple(told["needs"]), place))
                    place += len(line)
        except (OSError, ValueError, LookupError) as error:
            raise SettingError(f"{self.folder} holds no plan of a sweep: {error}") from None
        return found

    def settings(self, entry: Entry) -> dict[str, Any]:
        """The resolved settings of one work."""
        with (self.folder / PLAN).open("rb") as file:
            file.seek(entry.place)
            return json.loads(file.readline())["settings"]


def new(runs: Path, sweep: str, works: Iterable[Planned], names: Mapping[str, str]) -> Queue:
    """Writes the plan of these works into a folder of its own: two sweeps may run at once."""
    folder = runs / FOLDER / f"{sweep.replace('/', '-')}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        if error.errno not in (*OF_A_PATH, errno.ENOENT, errno.EACCES, errno.EROFS):
            raise
        raise SettingError(f"runs={runs} cannot hold runs: {error.strerror}: {error.filename}") from error
    lines = (
        {"id": item.id, "name": names[item.id], "needs": item.needs, "settings": item.config | {"name": names[item.id]}}
        for item in works
    )
    with atomic.replacing(folder / PLAN) as file:
        file.writelines(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    return Queue(folder)
