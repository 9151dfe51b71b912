"""What a training logs, and the loggers it goes to.

Logs are beside the work: an error of a logger is told in one line, and the run goes on without it.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from diffmamba.runs.rows import Kind, Row, Rows, is_of_evaluation, kind
from diffmamba.runs.store import LostLeaseError, Record, Run

PARTS = ("network", "module")  # of `model` and `data`: what the settings beside them are made into
LONGEST = {"name": 128, "group": 128, "project": 128, "tags": 64}
"""Characters that W&B allows in its labels."""
ANSWER_SECONDS, START_SECONDS, END_SECONDS = 5, 20, 60
"""How long a run waits for W&B: for an answer of its server, for its start, and for its last upload."""

ROWS = "csv/metrics.csv"

log = logging.getLogger(__name__)


class Logs(Logger):
    """All loggers of a run as one. Every row also goes to `csv/metrics.csv`, and no logger gets a row twice.

    W&B writes late where it is offline, and a killed process takes rows with it. So there each session of a run begins
    with all rows of the earlier ones, and replaces them.
    """

    def __init__(self, run: Run, settings: Mapping[str, Any], parameters: int):
        super().__init__()
        self._run = run
        self._rows = Rows(run.directory / ROWS)
        self._rows_work = True
        self._logged: set[Kind] = set()
        self._loggers: dict[str, Logger] = {}
        self.beside_evaluation: Callable[[], Mapping[str, Any]] = dict
        """What is logged beside an evaluation: how far the training was."""
        self._from_start: set[str] = set()  # those that get all rows of a run that goes on
        shown = _shown(settings) | {"run": run.id, "parameters": parameters}
        wanted = settings["logger"] if rank_zero_only.rank == 0 else {}  # type: ignore[attr-defined]
        for name, node in wanted.items():
            started = self._beside(name, partial(_started, node, run, settings, shown))
            if started is not None:
                self._loggers[name] = started
                if self._beside(name, partial(_replaces_earlier, started, run)):
                    self._from_start.add(name)

    @property
    def name(self) -> str:
        return ""  # Lightning makes paths of it

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def go_on(self, step: int, evaluation_due: bool) -> None:
        """The rows of the steps after the first `step` ones are logged again. The loggers have them already.

        `evaluation_due`: the row of the evaluation of the last of them, too.
        """
        self._logged = self._beside(ROWS, lambda: self._rows.go_on(step, evaluation_due)) or set()
        if self._from_start:
            rows = self._beside(ROWS, self._rows.read) or []
            self._each(lambda logger: _log_all(logger, rows), self._from_start)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self._run.require(lately=True)
        metrics = {**metrics, **(self.beside_evaluation() if is_of_evaluation(metrics) else {})}
        row = {**metrics, "step": step or 0}
        if self._rows_work:
            self._beside(ROWS, lambda: self._rows.add(row, is_of_evaluation(row)))  # a checkpoint follows
        lacking = self._from_start if kind(row) in self._logged else None
        self._each(lambda logger: logger.log_metrics(metrics, step), lacking)

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Nothing: each logger was told the settings when it started."""

    def save(self) -> None:
        if self._rows_work:
            self._beside(ROWS, self._rows.keep)
        self._each(lambda logger: logger.save())

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        self._each(lambda logger: logger.after_save_checkpoint(checkpoint_callback))

    def finalize(self, status: str) -> None:
        self._each(lambda logger: logger.finalize(status))

    def close(self, record: Callable[[], Record | None]) -> None:
        """Ends the W&B run, with the figures of the run's record as its summary."""
        with suppress(LostLeaseError, OSError):
            self._run.require(lately=True)
            self._each(lambda logger: _close(logger, record()))

    def _each(self, act: Callable[[Logger], None], names: Collection[str] | None = None) -> None:
        """Lets every logger act, or those of these names."""
        for name, logger in list(self._loggers.items()):
            if names is None or name in names:
                self._beside(name, partial(act, logger))

    def _beside(self, name: str, act: Callable[[], Any]) -> Any:
        """What `act` returns. A logger whose act fails is left out from then on, which is told in one line."""
        try:
            return act()
        except Exception as error:
            self._loggers.pop(name, None)
            self._rows_work &= name != ROWS
            log.warning("the logger %s failed, the run goes on without it: %s", name, _one_line(error))
            return None


def _started(node: Mapping[str, Any], run: Run, settings: Mapping[str, Any], shown: Mapping[str, Any]) -> Logger:
    """The logger of a node, told where the run lives and what it is."""
    given = {"save_dir": str(run.directory), **node}
    if not str(node["_target_"]).endswith("WandbLogger"):
        logger: Logger = instantiate(given)
        logger.log_hyperparams(dict(shown))
        return logger
    given |= _labels({"project": "diffmamba"} | _told(settings) | dict(node)) | {"id": run.logged_as}
    if given.get("offline") or os.environ.get("WANDB_MODE", "online") != "online":
        return _wandb(given, shown)
    import wandb  # here: it takes half a second

    try:
        _reach_wandb()
        return _wandb(given, shown)
    except Exception as error:
        where = run.directory / "wandb" / "offline-run-*"
        log.warning("W&B cannot be reached, so it is offline (later: wandb sync %s): %s", where, _one_line(error))
        os.environ["WANDB_MODE"] = "offline"  # also for the next runs of a sweep, which need not wait again
        wandb.teardown()  # which still holds the run that it could not start
        return _wandb(given | {"offline": True}, shown)


def _reach_wandb() -> None:
    """Raises OSError where W&B's server does not answer at all, in the place of W&B's own minutes of trying."""
    with suppress(HTTPError):  # an answer
        urlopen(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout=ANSWER_SECONDS).close()


def _wandb(given: Mapping[str, Any], shown: Mapping[str, Any]) -> Logger:
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")  # the run's directory says what its banner says
    logger: WandbLogger = instantiate(
        {"settings": wandb.Settings(init_timeout=START_SECONDS, finish_timeout=END_SECONDS)} | dict(given)
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning's default, which W&B warns about
    logger.log_hyperparams(dict(shown))
    return logger


def _log_all(logger: Logger, rows: Iterable[Row]) -> None:
    for row in rows:
        logger.log_metrics({name: value for name, value in row.items() if name != "step"}, row["step"])


def _replaces_earlier(logger: Logger, run: Run) -> bool:
    """Whether a session of W&B stands for all earlier ones, which are then put aside: none of them was uploaded."""
    sessions = sorted((run.directory / "wandb").glob("offline-run-*"))
    if not isinstance(logger, WandbLogger) or not sessions or any(run.directory.glob("wandb/*/*.synced")):
        return False
    own = Path(logger.experiment.dir).parent  # names of two that began in one second do not sort by age
    for session in (one for one in sessions if one.name != own.name):
        (session.parent / "replaced").mkdir(exist_ok=True)
        target = session.parent / "replaced" / session.name
        count = len(list(target.parent.glob(f"{session.name}*")))
        session.rename(target.with_name(f"{target.name}.{count}") if count else target)  # two began in one second
    return True


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B shows of a run."""
    names = [settings[group]["name"] for group in ("model", "data", "scale")]
    return {
        "name": settings.get("name") or "-".join([*map(str, names), f"seed{settings['seed']}"]),
        "group": settings["group"],
        "tags": names,
    }


def _labels(told: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as W&B takes them: texts, and not too long."""
    labels: dict[str, Any] = {}
    for name, longest in LONGEST.items():
        value = told[name]
        texts = [str(one)[:longest] for one in (value if isinstance(value, list) else [value]) if one is not None]
        labels[name] = texts if name == "tags" else next(iter(texts), None)
    return labels


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the trees that they are made into, which say the same a second time."""
    shown = dict(settings)
    for group in ("model", "data"):
        shown[group] = {key: value for key, value in settings[group].items() if key not in PARTS}
    return shown


def _close(logger: Logger, record: Record | None) -> None:
    if not isinstance(logger, WandbLogger) or record is None:
        return
    summary = {key: record[key] for key in ("status", "wall_seconds", "tokens_per_second", "corpus", "git")}
    logger.experiment.summary.update(summary | record["parameters"] | (record["evaluations"] or [{}])[-1])
    logger.experiment.finish(exit_code=0 if record["status"] in ("finished", "stopped") else 1)


def _one_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return " ".join(str(cause).split()) or type(cause).__name__
