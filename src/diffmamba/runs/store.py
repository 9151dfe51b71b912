"""The run store: one directory for each run, named by the run's identity. A run is a work in the store.

    runs/3f2a9c01b7de/
        result.json          what happened, and everything a table needs: the record
        rows.csv             of a measurement: what was measured, by coordinates
        checkpoints/         of a training: last.ckpt, best.ckpt
        csv/ wandb/
        lock                 held while a process works on the run

A run whose record says "running" while nobody holds its lock was interrupted.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from diffmamba.atomic import write_json
from diffmamba.errors import SettingError

log = logging.getLogger(__name__)

Record = dict[str, Any]
"""The content of a run's result.json."""
Facts = Mapping[str, Any]
"""What is known of data by their content: name, fingerprint, sizes of the splits, size of the vocabulary."""


class RunTakenError(RuntimeError):
    """Another process works on this run."""


class Run:
    """One run's directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.id = directory.name

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoint("last")

    def checkpoint(self, name: str) -> Path:
        """The file of its checkpoint `last` or `best`."""
        return self.directory / "checkpoints" / f"{name}.ckpt"

    def read(self) -> Record | None:
        """The record as it was last written; None if the run was never started."""
        path = self.directory / "result.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, OSError) as error:
            raise SettingError(f"{path} is damaged ({error}); restore it, or delete {self.directory}") from error
        if not isinstance(record, dict) or "status" not in record:
            raise SettingError(f"{path} is no record of a run; restore it, or delete {self.directory}")
        return record

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
            raise RunTakenError(f"run {self.id} is worked on by another process") from None
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
        if not str(directory):
            raise SettingError("runs= is empty; name the directory of the run store")
        self.directory = Path(directory)

    def run(self, run_id: str) -> Run:
        return Run(self.directory / run_id)

    def facts(self, data: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Facts | None:
        """What the latest run with the same `data` found in it: the `corpus` of its record. None if there is none.

        `known` are the data that the weights of a measurement were trained on, where these are others: a measurement
        of weights that know the same symbols comes first.
        """

        def alike(record: Record) -> bool:
            """Whether these data were read in the symbols of `known`."""
            config = record["config"]
            return known is not None and bool(config.get("measured")) and _which(config["data"]) == _which(known)

        same = [
            record
            for record in self.records().values()
            if _which(record["config"].get("measured") or record["config"]["data"]) == _which(data)
            and (record["corpus"].get("own_vocabulary", True) or alike(record))
        ]
        latest = max(same, key=lambda record: (alike(record), record["started"]), default=None)
        return latest["corpus"] if latest else None

    def records(self) -> dict[str, Record]:
        """The record of every run that was started, by run id, with the status it has now."""
        found = {}
        for path in sorted(self.directory.glob("*/result.json")):
            run = Run(path.parent)
            try:
                record = run.read()
            except SettingError as error:  # one damaged record hides none of the others
                log.warning("%s", error)
                continue
            if record is not None:
                record.setdefault("kind", "training")  # before schema 2 there was nothing else
                if record["status"] == "running" and not run.is_taken():
                    record["status"] = "interrupted"
                found[run.id] = record
        return found


def _which(data: Mapping[str, Any]) -> Any:
    """What says which data a configuration means; for a published corpus, without the place of its files."""
    if "source" not in data:
        return data["module"]
    places = ("path", "url", "repository") if "expected" in data["source"] else ()
    source = {key: value for key, value in data["source"].items() if key not in places}
    return [data["name"], data["symbols"], source]
