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
from urllib.error import HTTPError
from urllib.request import urlopen

from hydra.utils import instantiate
from lightning.fabric.utilities.logger import _add_prefix
from lightning.pytorch.loggers import Logger, WandbLogger

from diffmamba import atomic
from diffmamba.runs.rows import Row
from diffmamba.runs.store import WELL, Record, Run
from diffmamba.runs.store_token import store_token

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
PARTS = ("network", "module")
"""Of `model` and `data`: what the settings beside them are made into, which say the same a second time."""
NOISE = ("logger", "runs", "retry", "retries", "force", "checkpoint", "threads", "group", "name", "published")
"""Settings that say nothing of what a run computes."""
FINAL = ("status", "wall_seconds", "tokens_per_second", "corpus", "git")
"""What the summary says of the record, beside its last evaluation."""
LONGEST = {"name": 128, "group": 128, "job_type": 64, "project": 128, "tags": 64}
"""Characters that W&B allows in its labels."""
NOT_IN_PROJECT = re.compile(r"[/\\#?%:]")

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
        given |= labels({"project": "diffmamba"} | _told(settings, kind) | dict(node))
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
        earlier = [path for path in self._sessions() if path.name != self._session.name]
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

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Nothing: W&B was told when the session started."""

    def close(self, record: Record | None) -> None:
        """Ends the session, with the figures of the run's record as W&B's summary of it."""
        experiment = self._started.experiment
        if record is None:
            return
        experiment.summary.update(summary(record))
        if self._with_checkpoints and record["status"] in WELL:
            try:
                self._log_checkpoints(record)
            except Exception as error:
                log.warning("W&B did not take the checkpoints: %s", " ".join(str(error).split()))
        try:
            experiment.finish(exit_code=0 if record["status"] in WELL else 1)
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
        """Uploads `last.ckpt` and `best.ckpt`, as versions of one artifact with these names as aliases."""
        import wandb

        for name in ("last", "best"):
            file = self._run.checkpoint(name)
            if file.exists():
                told = {"run": self._run.id, "checkpoint": name} | _evaluation_of(record, name)
                artifact = wandb.Artifact(f"model-{self._started.experiment.id}", type="model", metadata=told)
                artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)
                logged = self._started.experiment.log_artifact(artifact, aliases=[name])
                if not self._offline:
                    logged.wait(FILES_SECONDS)

    @property
    def _session(self) -> Path:
        return Path(self._started.experiment.settings.sync_dir)

    def _sessions(self) -> list[Path]:
        return [path for path in self._folder.glob("*run-*") if SESSION.fullmatch(path.name) and not path.is_symlink()]


def wandb_id(run: Run, folder: Path | None = None) -> str:
    """W&B's id of a run: its own, and the token of its store. A run that W&B knows already keeps the id it has there.

    Raises OSError where the store has no token and cannot be written.
    """
    folder = folder or run.directory / "wandb"
    found = (SESSION.fullmatch(path.name) for path in sorted(folder.glob("**/*run-*")) if not path.is_symlink())
    ids = [match[1] for match in found if match]
    return ids[-1] if ids else f"{run.logged_as}-{store_token(run.directory.parent)}"


def labels(told: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as W&B takes them: texts, not empty and not too long."""
    found: dict[str, Any] = {}
    for name, longest in LONGEST.items():
        value = told.get(name)
        given = [_text(one)[:longest] for one in (value if isinstance(value, list) else [value]) if one is not None]
        texts = [one for one in given if one.strip()]
        found[name] = list(dict.fromkeys(texts)) if name == "tags" else next(iter(texts), None)
    if found["project"]:
        found["project"] = NOT_IN_PROJECT.sub("-", found["project"])
    return found


def _text(value: Any) -> str:
    """As text that can be sent: a name of a file may hold bytes that are none."""
    return str(value).encode(errors="replace").decode()


def configured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say what a run computes, each once."""
    told = {name: value for name, value in settings.items() if name not in NOISE}
    for group in ("model", "data"):
        told[group] = {key: value for key, value in settings[group].items() if key not in PARTS}
    return {name: _without_partial(value) for name, value in told.items()}


def _without_partial(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_partial(part) for key, part in value.items() if key != "_partial_"}
    return [_without_partial(part) for part in value] if isinstance(value, list) else value


def summary(record: Record) -> dict[str, Any]:
    """The figures of a record: those of the last evaluation by their names, the best ones below `best/`."""
    told = {key: record[key] for key in FINAL if record.get(key) is not None}
    told["parameters"] = record["parameters"].get("total")
    if record.get("kind") == "measurement":
        return told | record["values"]
    evaluations = record["evaluations"] or [{}]
    best = {}
    for name, metric in record["task"]["metrics"].items():
        choose = max if metric["better"] == "higher" else min
        for key in (f"val/{name}", f"test/{name}"):
            if values := [entry[key] for entry in evaluations if key in entry]:
                best[f"best/{key}"] = choose(values)
    return told | {key: value for key, value in evaluations[-1].items() if not isinstance(value, Mapping)} | best


def _evaluation_of(record: Record, checkpoint: str) -> dict[str, Any]:
    """The evaluation at which a checkpoint was written."""
    monitor, evaluations = record["task"]["monitor"], record["evaluations"]
    if checkpoint == "last" or any(monitor not in entry for entry in evaluations):
        return dict(evaluations[-1])
    metric = record["task"]["metrics"][monitor.partition("/")[2]]
    choose = max if metric["better"] == "higher" else min
    return dict(choose(evaluations, key=lambda entry: entry[monitor]))


def _told(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What W&B shows of a run in its lists."""
    names = [settings[group]["name"] for group in ("model", "data", "scale")]
    measured = [settings["measure"]["_target_"].rpartition(".")[2]] if kind == "measurement" else []
    return {
        "name": settings.get("name") or "-".join(map(str, [*measured, *names, f"seed{settings['seed']}"])),
        "group": settings.get("group"),
        "job_type": kind,
        "tags": [*measured, *names],
    }


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
        _reach()
        return _wandb(given)
    except Exception as error:
        where = Path(given["save_dir"]) / "wandb" / "offline-run-*"
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("W&B cannot be reached, so it is offline (later: wandb sync %s): %s", where, reason)
        os.environ["WANDB_MODE"] = "offline"  # also for the next runs of a sweep, which need not wait again
        wandb.teardown()  # which still holds the run that it could not start
        return _wandb({**given, "offline": True})


def _reach() -> None:
    """Raises OSError where W&B's server does not answer at all, in the place of W&B's own minutes of trying."""
    with suppress(HTTPError):  # an answer
        urlopen(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout=ANSWER_SECONDS).close()


def _wandb(given: Mapping[str, Any]) -> WandbLogger:
    import wandb

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
