"""The run store: one directory for each run, named by the run's identity. A run is a work in the store.

    runs/3f2a9c01b7de/
        result.json          what happened, and everything a table needs: the record
        rows.csv             of a measurement: what was measured, by coordinates
        checkpoints/         of a training: last.ckpt, best.ckpt
        csv/ wandb/
    runs/3f2a9c01b7de.before-1/    the run that had this name before, from other sources
    runs/.leases/            who works on which run now: see `lease`

A run whose record says "running" while nobody holds it was interrupted. What is damaged or was changed by hand hides
nothing else: it is no record, and is set aside under another name when its run is done again. Nothing here deletes.
"""

import errno
import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffmamba.atomic import write_json
from diffmamba.errors import SettingError
from diffmamba.runs import lease
from diffmamba.runs.form import DamagedRecordError, Record, record_of, sealed
from diffmamba.runs.lease import LostLeaseError as LostLeaseError
from diffmamba.runs.lease import RunTakenError as RunTakenError

log = logging.getLogger(__name__)

Facts = Mapping[str, Any]
"""What is known of data by their content: name, fingerprint, sizes of the splits, size of the vocabulary."""
BEFORE = ".before-"
"""In the name of a run that was set aside: between the name that it had and a number."""
WELL = ("finished", "stopped")
"""How a run ends well: its whole budget, or as long as a callback of the user's wanted."""
SWEEP = "DIFFMAMBA_SWEEP"
"""In the environment of the processes of a sweep: the token that names it. Records keep it."""
LEASES = ".leases"
MOST_TOLD = 6  # ids in a message
_left_out: set[str] = set()
"""Damage that this process has told of."""
OF_A_PATH = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors of a place that can never hold a store. All others are those of a disk, and may pass."""


class Run:
    """One run's directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.id = directory.name
        self.lease: lease.Lease | None = None
        """While this process holds the run, or works for the one that does."""

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoint("last")

    def checkpoint(self, name: str) -> Path:
        """The file of its checkpoint `last` or `best`."""
        return self.directory / "checkpoints" / f"{name}.ckpt"

    @property
    def result(self) -> Path:
        """The file of its record."""
        return self.directory / "result.json"

    @property
    def logged_as(self) -> str:
        """Its name for loggers outside the store: its id, with a number if it was trained under this id before."""
        return f"{self.id}-{self.times_before + 1}" if self.times_before else self.id

    @property
    def times_before(self) -> int:
        """How many runs of this name were set aside."""
        return sum(1 for _ in self.directory.parent.glob(f"{self.id}{BEFORE}*"))

    def load(self) -> Record | None:
        """The record as it was last written; None if the run was never started.

        Raises DamagedRecordError for a file that is no record, and SettingError for one of a later version.
        """
        try:
            record = record_of(json.loads(self.result.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise DamagedRecordError(f"{self.result} is a directory") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, SettingError) and not isinstance(error, DamagedRecordError):
                raise SettingError(f"{self.result} {error}") from None
            reason = str(error) if isinstance(error, DamagedRecordError) else f"is damaged ({error})"
            raise DamagedRecordError(f"{self.result} {reason}") from None
        if BEFORE in self.id:
            record["id"] = self.id  # it was recorded under the name that another run has now
        return record

    def read(self) -> Record | None:
        """The record as `load` has it; None also where that is damaged."""
        try:
            return self.load()
        except SettingError:
            return None

    def share_done(self) -> float:
        """How much of its steps a run under way has done, 0 to 1."""
        try:
            progress = json.loads((self.directory / "progress.json").read_text())
            return min(1.0, max(0.0, progress["step"] / progress["steps"]))
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError):  # not there, or of another form
            return 0.0

    def write(self, record: Record) -> None:
        """Replaces the record at once: a reader sees the old one or the new one. It gets a seal: see `form`.

        Raises LostLeaseError where this process held the run and does not any more.
        """
        write_json(self.result, sealed(record), self.require)

    def set_record_aside(self) -> Path:
        """Gives the record another name, beside which the run begins anew or goes on. For who holds the run."""
        return _renamed(self.result, ".damaged-")

    def set_aside(self) -> Path:
        """Gives the whole run another name, under which it can be read like any run. For who holds the run."""
        aside = _renamed(self.directory, BEFORE)
        self.directory.mkdir(exist_ok=True)
        return aside

    def require(self, lately: bool = False) -> None:
        """Raises LostLeaseError where this process held the run and does not any more: see `Lease.require`."""
        if self.lease is not None:
            self.lease.require(lately)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the run for this process. Raises RunTakenError at once where another process holds it and may live.

        Raises SettingError where there can be no store, and OSError where its disk cannot be written.
        """
        try:
            for directory in (self._leases, self.directory):
                directory.mkdir(parents=True, exist_ok=True)
            held = lease.take(self._leases, self.id)
        except OSError as error:
            if error.errno not in OF_A_PATH:
                raise
            raise SettingError(f"runs={self.directory.parent} cannot hold runs: {error}") from error
        self.lease = held
        try:
            yield
        finally:
            self.lease = None
            held.release()

    def is_taken(self) -> bool:
        """Whether a process holds the run, and is not known to be dead. Writes nothing."""
        try:
            return lease.holder(self._leases, self.id) is not None
        except OSError:  # nothing that anybody could hold
            return False

    @property
    def _leases(self) -> Path:
        return self.directory.parent.absolute() / LEASES


class RunStore:
    """All runs below one directory."""

    def __init__(self, directory: str | Path):
        if not str(directory):
            raise SettingError("runs= is empty; name the directory of the run store")
        self.directory = Path(directory)

    def require_directory(self) -> None:
        """Raises SettingError where there is no store."""
        if not self.directory.is_dir():
            raise SettingError(f"there is no run store at {self.directory}; runs=DIR names another one")

    def run(self, run_id: str) -> Run:
        return Run(self.directory / run_id)

    def taken(self) -> set[str]:
        """The ids of the runs that are under way. Reads the leases, however many runs there are."""
        return {name for name in lease.names(self.directory / LEASES) if self.run(name).is_taken()}

    def ids(self) -> list[str]:
        """The name of every run that was started, without those that were set aside."""
        found = (path.parent.name for path in self.directory.glob("*/result.json"))
        return sorted(name for name in found if BEFORE not in name)

    def id_of(self, given: str, ids: Collection[str], named: str) -> str | None:
        """Which of these ids is given, or begins so, also with `.before-N` for a run that was set aside.

        None if there is none. Raises SettingError where several begin so; `named` is what the message calls it.
        """
        beginning, before, number = given.partition(BEFORE)
        fitting = [beginning] if beginning in ids else [one for one in ids if one.startswith(beginning)]
        if len(fitting) > 1:
            some = ", ".join(fitting[:MOST_TOLD]) + ", ..." * (len(fitting) > MOST_TOLD)
            raise SettingError(f"{named} is the beginning of {len(fitting)} runs: {some}")
        found = f"{fitting[0]}{before}{number}" if fitting else given
        return found if found in ids or (before and self.run(found).result.exists()) else None

    def facts(
        self,
        data: Mapping[str, Any],
        known: Mapping[str, Any] | None = None,
        records: Mapping[str, Record] | None = None,
    ) -> Facts | None:
        """What the latest run with the same `data` found in it: the `corpus` of its record. None if there is none.

        `known` are the data that the weights of a measurement were trained on, where these are others: a measurement
        of weights that know the same symbols comes first. `records` are those of the store, or of some of its runs
        that have read all the data there are; without, all records are read.
        """

        def alike(record: Record) -> bool:
            """Whether these data were read in the symbols of `known`."""
            config = record["config"]
            return known is not None and bool(config.get("measured")) and _which(config["data"]) == _which(known)

        wanted = _which(data)
        same = [
            record
            for record in (self.records() if records is None else records).values()
            if "corpus" in record
            and _which(record["config"].get("measured") or record["config"]["data"]) == wanted
            and (record["corpus"].get("own_vocabulary", True) or alike(record))
        ]
        latest = max(same, key=lambda record: (alike(record), record["started"]), default=None)
        return latest["corpus"] if latest else None

    def records(self) -> dict[str, Record]:
        """The record of every run that was started, by run id, with the status it has now."""
        found, taken = {}, self.taken()
        for name in self.ids():
            run = self.run(name)
            try:
                record = run.load()
            except (SettingError, OSError) as error:  # one damaged record hides none of the others
                if str(error) not in _left_out:
                    _left_out.add(str(error))
                    log.warning("%s; it is left out", error)
                continue
            if record is not None:
                if record["status"] == "running" and name not in taken:
                    record["status"] = "interrupted"
                found[run.id] = record
        return found


def _which(data: Any) -> Any:
    """What says which data a configuration means; for a published corpus, without the place of its files."""
    source = data.get("source")
    if not isinstance(source, Mapping):
        return data.get("module")
    places = ("path", "url", "repository") if "expected" in source else ()
    kept = {key: value for key, value in source.items() if key not in places}
    return [data.get("name"), data.get("symbols"), kept]


def _renamed(path: Path, mark: str) -> Path:
    """Gives a file or directory the first free name of `NAME` + mark + 1, 2, 3, ..."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{mark}{number}")):
        number += 1
    return path.rename(aside)
