"""The run store: one directory for each run, named by the run's identity.

    runs/3f2a9c01b7de/
        result.json          what happened, and everything a table needs
        checkpoints/         last.ckpt, best.ckpt
        csv/ wandb/ train.log
        lock                 held while a process trains the run

A run whose record says "running" while nobody holds its lock was interrupted.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from diffmamba.errors import SettingError

Record = dict[str, Any]


class RunTakenError(RuntimeError):
    """Another process is training this run."""


class Run:
    """One run's directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.id = directory.name

    @property
    def last_checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"

    def read(self) -> Record | None:
        """The record as it was last written; None if the run was never started."""
        try:
            return json.loads((self.directory / "result.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except json.JSONDecodeError as error:
            raise SettingError(
                f"{self.directory / 'result.json'} is damaged ({error}); delete {self.directory}"
            ) from error

    def share_done(self) -> float:
        """How much of its steps a run under way has done, 0 to 1."""
        try:
            progress = json.loads((self.directory / "progress.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return 0.0
        return progress["step"] / progress["steps"]

    def write(self, record: Record) -> None:
        """Replaces the record at once: a reader sees the old one or the new one."""
        write_json(self.directory / "result.json", record)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the run for this process; raises RunTakenError where another holds it.

        Waits a moment, since `is_taken` holds the lock for an instant.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"runs={self.directory.parent} cannot hold runs: {error}") from error
        lock = FileLock(self.directory / "lock")
        try:
            lock.acquire(timeout=0.2, poll_interval=0.02)
        except Timeout:
            raise RunTakenError(f"run {self.id} is being trained by another process") from None
        try:
            yield
        finally:
            lock.release()

    def is_taken(self) -> bool:
        """Whether a process holds the run."""
        try:
            with FileLock(self.directory / "lock", timeout=0):
                return False
        except Timeout:
            return True


class RunStore:
    """All runs below one directory."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    def run(self, run_id: str) -> Run:
        return Run(self.directory / run_id)

    def fingerprint(self, data: dict[str, Any]) -> str:
        """The fingerprint of the corpus that the latest run with this `data` source and symbols was fed; "" if none."""
        same = [record for record in self.records().values() if _which(record["config"]["data"]) == _which(data)]
        latest = max(same, key=lambda record: record["started"], default=None)
        return latest["corpus"]["fingerprint"] if latest else ""

    def records(self) -> dict[str, Record]:
        """The record of every run that was started, by run id, with the status it has now."""
        found = {}
        for path in sorted(self.directory.glob("*/result.json")):
            run = Run(path.parent)
            record = run.read()
            if record is not None:
                if record["status"] == "running" and not run.is_taken():
                    record["status"] = "interrupted"
                found[run.id] = record
        return found


def _which(data: dict[str, Any]) -> list[Any]:
    """What says which corpus a `data` configuration means; of a published one not where its files lie."""
    places = ("path", "url", "repository") if "expected" in data["source"] else ()
    source = {key: value for key, value in data["source"].items() if key not in places}
    return [data["name"], data["symbols"], source]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that an interruption leaves the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
