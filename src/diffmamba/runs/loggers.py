"""What a work logs, and the loggers it goes to.

Logs are beside the work: an error of a logger is told in one line, and the run goes on without it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from diffmamba.errors import one_line
from diffmamba.runs.rows import Kind, Rows, is_of_evaluation, kind
from diffmamba.runs.store import LostLeaseError, Record, Run
from diffmamba.runs.wandb_run import WandbRun, is_wandb, wanted
from diffmamba.runs.wandb_shown import configured

ROWS = "csv/metrics.csv"

log = logging.getLogger(__name__)


class Logs(Logger):
    """All loggers of a run as one. Every row also goes to `csv/metrics.csv`, and no logger has a row twice.

    W&B writes and sends late, and a killed process takes rows with it. So it gets all rows of a run that goes on, and
    `WandbRun` knows which ones are there.
    """

    def __init__(self, run: Run, settings: Mapping[str, Any], parameters: int):
        super().__init__()
        self._run = run
        self._rows = Rows(run.directory / ROWS)
        self._rows_work = True
        self._logged: set[Kind] = set()
        self._loggers: dict[str, Logger] = {}
        self.reached: Callable[[], Mapping[str, float]] = dict
        """What every row says of how far the training is, where it does not say so itself."""
        told = {"run": run.id, "parameters": parameters}
        nodes = wanted(settings["logger"]) if rank_zero_only.rank == 0 else {}  # type: ignore[attr-defined]
        for name, node in nodes.items():
            started = self._beside(name, partial(_started, node, run, settings, "training", told))
            if started is not None:
                self._loggers[name] = started

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
        rows = self._beside(ROWS, self._rows.read) or []
        self._each(lambda logger: logger.go_on(rows) if isinstance(logger, WandbRun) else None)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self._run.require(lately=True)
        row = {**self.reached(), **metrics, "step": step or 0}
        if self._rows_work:
            self._beside(ROWS, lambda: self._rows.add(row, is_of_evaluation(row)))  # a checkpoint follows
        told = {name: value for name, value in row.items() if name != "step"}
        is_there = kind(row) in self._logged
        self._each(
            lambda logger: logger.log_metrics(told, step) if isinstance(logger, WandbRun) or not is_there else None
        )

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
            self._each(lambda logger: logger.close(record()) if isinstance(logger, WandbRun) else None)

    def _each(self, act: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            self._beside(name, partial(act, logger))

    def _beside(self, name: str, act: Callable[[], Any]) -> Any:
        """What `act` returns. A logger whose act fails is left out from then on, which is told in one line."""
        try:
            return act()
        except Exception as error:
            self._loggers.pop(name, None)
            self._rows_work &= name != ROWS
            _warn(name, error)
            return None


def log_measurement(run: Run, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Tells the loggers of a measurement that has ended: its figures, and to W&B also the rows, as a table.

    Args:
        run: whose record holds the figures.
        settings: those of the measurement.
        rows: `measure`, `value`, and the coordinates of each.
    """
    record = run.read()
    assert record is not None
    told = {"run": run.id, "parameters": record["parameters"]["total"], "weights": record["weights"]}
    for name, node in wanted(settings["logger"]).items():
        try:
            logger = _started(node, run, settings, "measurement", told)
            logger.log_metrics(record["values"], 0)
            if isinstance(logger, WandbRun):
                logger.log_table("rows", rows)
                logger.close(record)
            else:
                logger.finalize("success")
        except Exception as error:
            _warn(name, error)


def _warn(name: str, error: Exception) -> None:
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    log.warning("the logger %s failed, the run goes on without it: %s", name, one_line(cause))


def _started(
    node: Mapping[str, Any], run: Run, settings: Mapping[str, Any], kind: str, told: Mapping[str, Any]
) -> Logger:
    """The logger of a node, told where the run lives and what it is."""
    if is_wandb(node):
        return WandbRun(node, run, settings, kind, told)
    logger: Logger = instantiate({"save_dir": str(run.directory), **node})
    logger.log_hyperparams(configured(settings) | dict(told))
    return logger
