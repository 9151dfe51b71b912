"""A run in W&B: what it is called, what it shows, and that every row is there once.

A run may have several sessions: it was killed, or stopped and started again. W&B counts the rows that it has of a run,
and a session goes on from there. So the rows of a run have numbers, and what a session sends depends on what W&B has:

- Online, a session sends all rows with their numbers. W&B's client leaves out those that the server has.
- Offline, nobody knows what the server will have. A session holds all rows that are not uploaded, and the earlier
  sessions that were not uploaded move to `wandb/replaced/`: it stands for them.

A session whose rows are all on the server has W&B's own mark of it, a file `*.wandb.synced`, and `rows.json` says how
many rows that are.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any

from hydra.utils import instantiate
from lightning.fabric.utilities.logger import _add_prefix
from lightning.pytorch.loggers import Logger, WandbLogger

from diffmamba import atomic
from diffmamba.errors import one_line
from diffmamba.runs.rows import Row
from diffmamba.runs.store import WELL, Record, Run
from diffmamba.runs.store_token import store_token
from diffmamba.runs.wandb_reach import reach
from diffmamba.runs.wandb_shown import configured, evaluation_of, labelled, labels, summary

ANSWER_SECONDS, START_SECONDS, END_SECONDS, FILES_SECONDS = 5, 20, 60, 1800
"""How long a run waits for W&B: for an answer of its server, its start, its last upload, and that of a checkpoint."""
LEAST_BYTES = 2**24
"""Room on its disk that a session starts with."""
FILES_RETRIES = 4
"""How often W&B tries to upload a file again. It waits longer each time."""
SESSION = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(.+)")
"""The name of a session's directory, which ends with W&B's id of the run."""
REPLACED, COUNT = "replaced", "rows.json"
STEP = "trainer/global_step"
"""The axis of W&B's charts, counted from 0."""
AXES = ("tokens", "seconds", "epoch")
"""Other axes that one may choose for a chart. W&B draws none of them by itself."""
log = logging.getLogger(__name__)


class WandbRun(Logger):
    """One session of a run in W&B.

    Args:
        node: the settings of Lightning's WandbLogger, and more of `wandb.init`. `log_model` uploads the checkpoints of
            a run that ended well.
        run: whose directory holds what W&B writes.
        settings: those of the work.
        kind: "training" or "measurement", W&B's job type.
        shown: more than the settings for W&B's configuration of the run.

    Raises OSError where W&B's directory cannot be written, and what W&B raises where it does not start.
    """

    def __init__(
        self, node: Mapping[str, Any], run: Run, settings: Mapping[str, Any], kind: str, shown: Mapping[str, Any]
    ):
        given = {"save_dir": str(run.directory), **node}
        self._folder = Path(given["save_dir"]) / "wandb"
        _require_room(self._folder)
        self._run, self._with_checkpoints = run, bool(given.pop("log_model", False))
        given |= labels({"project": "diffmamba"} | labelled(settings, kind) | dict(node))
        self._started = _start(given | {"id": wandb_id(run, self._folder), "resume": "allow"})
        self._offline = bool(self._started.experiment.settings._offline)
        self._next = 0  # the number of the next row
        self._first = 0  # and of the first one that this session holds
        for name in AXES:
            self._started.experiment.define_metric(name, hidden=True)
        self._started.log_hyperparams(configured(settings) | dict(shown))

    @property
    def name(self) -> str | None:
        return self._started.name

    @property
    def version(self) -> str | None:
        return self._started.version

    def go_on(self, rows: Sequence[Row]) -> None:
        """Sends the rows of the earlier sessions, of which W&B may lack some."""
        earlier = [path for path in _sessions(self._folder) if path.name != self._session.name]
        if self._offline:
            self._first = _uploaded_rows(earlier, len(rows))
        for path in earlier:
            if not _is_uploaded(path):
                _put_aside(path)
        for row in rows:
            self.log_metrics({name: value for name, value in row.items() if name != "step"}, row["step"])

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self._next >= self._first:
            row = {**_add_prefix(dict(metrics), self._started._prefix, "-"), STEP: step or 0}
            self._started.experiment.log(row, step=self._next - self._first, commit=True)
        self._next += 1

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sends a table of all rows, whose columns are those of any row."""
        import wandb

        columns: list[Any] = list(dict.fromkeys(column for row in rows for column in row))
        values: list[Any] = [[row.get(column) for column in columns] for row in rows]
        table = wandb.Table(columns, values, allow_mixed_types=True)
        self._started.experiment.log({name: table}, step=self._next, commit=True)
        self._next += 1

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Nothing: W&B was told when the session started."""

    def close(self, record: Record | None) -> None:
        """Ends the session, with the figures of the run's record as W&B's summary of it."""
        experiment, ended_well = self._started.experiment, record is not None and record["status"] in WELL
        if record is not None:
            experiment.summary.update(summary(record))
        if record is not None and ended_well and self._with_checkpoints:
            try:
                self._log_checkpoints(record)
            except Exception as error:
                log.warning("W&B did not take the checkpoints: %s", one_line(error))
        try:
            experiment.finish(exit_code=0 if ended_well else 1)
            lost = self._fatal_error()
        except TimeoutError:
            lost = f"not within {END_SECONDS} seconds"
        if lost:
            os.environ["WANDB_MODE"] = "offline"  # also for the next runs of a sweep, which need not wait again
            later = f"wandb sync --include-online {self._session}"
            log.warning("W&B did not take all of the run (later: %s): %s", later, lost)
            return
        atomic.write_json(self._session / COUNT, {"rows": max(self._first, self._next)})
        for file in self._session.glob("*.wandb") if not self._offline else ():
            atomic.write(file.with_name(f"{file.name}.synced"), "")  # so that `wandb sync` sends no row again

    def _fatal_error(self) -> str | None:
        """Why W&B has stopped to upload. It says so in its own log alone."""
        for line in (self._session / "logs" / "debug-internal.log").read_text(errors="replace").splitlines():
            if "fatal error" in line:
                with suppress(ValueError, LookupError):
                    return str(json.loads(line)["msg"])
        return None

    def _log_checkpoints(self, record: Record) -> None:
        """Uploads `best.ckpt` and `last.ckpt`, as versions of one artifact with these names as aliases."""
        import wandb

        for name in ("best", "last"):
            file = self._run.checkpoint(name)
            if file.exists():
                told = {"run": self._run.id, "checkpoint": name} | evaluation_of(record, name)
                artifact = wandb.Artifact(f"model-{self._started.experiment.id}", type="model", metadata=told)
                artifact.add_file(str(file.absolute()), name=file.name, policy="immutable", skip_cache=True)
                logged = self._started.experiment.log_artifact(artifact, aliases=[name])
                if not self._offline:
                    logged.wait(FILES_SECONDS)

    @property
    def _session(self) -> Path:
        return Path(self._started.experiment.settings.sync_dir)


def is_wandb(node: Mapping[str, Any]) -> bool:
    """Whether these are the settings of W&B's logger."""
    return str(node["_target_"]).endswith("WandbLogger")


def wanted(loggers: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The settings of each logger, without W&B's where `WANDB_MODE=disabled`, or its own setting `mode`, says so."""
    mode = os.environ.get("WANDB_MODE")
    return {name: node for name, node in loggers.items() if not is_wandb(node) or node.get("mode", mode) != "disabled"}


def wandb_id(run: Run, folder: Path | None = None) -> str:
    """W&B's id of a run: its own, and the token of its store. A run that W&B knows already keeps the id it has there.

    Raises OSError where the store has no token and cannot be written.
    """
    folder = folder or run.directory / "wandb"
    ids = [_id_of(session) for session in _sessions(folder)]
    return ids[-1] if ids else f"{run.logged_as}-{store_token(run.directory.parent)}"


def _id_of(session: Path) -> str:
    """The id of the run of a session. Of two that began in one second, the name of the second one ends with -1."""
    kept = next(session.glob("run-*.wandb"), None)
    return kept.stem.removeprefix("run-") if kept else SESSION.sub(r"\1", session.name)


def _sessions(folder: Path) -> list[Path]:
    """The directories of a run's sessions, without those that another one stands for, in the order of their names."""
    found = [path for path in folder.glob("*run-*") if SESSION.fullmatch(path.name) and not path.is_symlink()]
    return sorted(found)


def _require_room(folder: Path) -> None:
    """Raises OSError where W&B could not write. It would write to another place, or tell of it thousands of times."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")
    if disk_usage(folder).free < LEAST_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _start(given: Mapping[str, Any]) -> WandbLogger:
    """Starts a session, offline where W&B cannot be reached."""
    if given.get("offline") or os.environ.get("WANDB_MODE", "online") != "online":
        return _wandb(given)
    import wandb  # here: it takes half a second

    try:
        reach(ANSWER_SECONDS)
        return _wandb(given)
    except Exception as error:
        where = Path(given["save_dir"]) / "wandb" / "offline-run-*"
        log.warning("W&B cannot be reached, so it is offline (later: wandb sync %s): %s", where, one_line(error))
        os.environ["WANDB_MODE"] = "offline"  # also for the next runs of a sweep, which need not wait again
        wandb.teardown()  # which still holds the run that it could not start
        return _wandb({**given, "offline": True})


def _wandb(given: Mapping[str, Any]) -> WandbLogger:
    import wandb

    if wandb.run is not None:  # of a logger that failed, which Lightning's would go on with
        with suppress(Exception):  # whatever W&B raises: that run's own trouble was told when its logger failed
            wandb.run.finish(exit_code=1)
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's directory says what its banner says
    settings = wandb.Settings(
        init_timeout=START_SECONDS,
        finish_timeout=END_SECONDS,
        finish_timeout_raises=True,
        x_file_transfer_retry_max=FILES_RETRIES,
        x_save_requirements=False,  # which takes a tenth of a second, and the record says it
    )
    logger: WandbLogger = instantiate({"settings": settings} | dict(given))
    logger._wandb_init.pop("anonymous", None)  # Lightning's default, which W&B warns about
    assert logger.experiment is not None  # starts it
    for handler in logging.getLogger("wandb").handlers:
        handler.handleError = _silent  # type: ignore[method-assign]
    return logger


def _silent(record: logging.LogRecord) -> None:
    """In the place of a page for each line of W&B's own log that a full disk does not take."""


def _is_uploaded(session: Path) -> bool:
    return any(session.glob("*.wandb.synced"))


def _uploaded_rows(sessions: Iterable[Path], kept: int) -> int:
    """How many rows the server has. One that was killed, and uploaded before the run went on, counts with those that
    the run has `kept`.
    """
    count = 0
    for session in filter(_is_uploaded, sessions):
        try:
            count = max(count, int(json.loads((session / COUNT).read_text())["rows"]))
        except (OSError, ValueError, LookupError, TypeError):
            count = max(count, kept)
    return count


def _put_aside(session: Path) -> None:
    """Moves a session to `replaced/`, where `wandb sync` is not told to look."""
    aside = session.parent / REPLACED
    aside.mkdir(exist_ok=True)
    count = len(list(aside.glob(f"{session.name}*")))
    session.rename(aside / (f"{session.name}.{count}" if count else session.name))  # two began in one second
