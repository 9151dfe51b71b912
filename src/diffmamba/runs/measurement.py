"""What a measurement does: opens the network with its weights, takes the measure, and writes rows and record."""

import math
import sys
import time
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffmamba import atomic
from diffmamba.allocator import keep_freed_memory
from diffmamba.errors import SettingError
from diffmamba.measures import Row, Subject
from diffmamba.ops import backend
from diffmamba.runs.provenance import hardware, now
from diffmamba.runs.store import Run
from diffmamba.runs.work import Measurement

ROWS = "rows.csv"


def measure(work: Measurement, run: Run, progress_bar: bool) -> None:
    """Takes a measure, and writes the rows beside a record that says `finished`."""
    keep_freed_memory()
    if work.execution.threads:
        torch.set_num_threads(work.execution.threads)
    started = time.monotonic()
    accelerator = "cuda" if work.execution.devices.on_gpu else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=1, precision=work.execution.precision)  # type: ignore[arg-type]
    network = work.network()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    fabric.setup_module(network.eval())  # moves and converts it; measures are handed the network itself, not a wrapper
    with _shown(work.measure.described()["name"], progress_bar) as progress, fabric.autocast():
        subject = Subject(network, work.data, fabric.to_device, progress)
        rows = list(work.measure.rows(subject))
    _check_finite(work, rows)
    atomic.write(run.directory / ROWS, table(rows).to_csv(index=False))
    record = run.read()
    assert record is not None
    run.write(
        record
        | {
            "status": "finished",
            "values": {row.measure: row.value for row in rows if not row.coordinates},
            "parameters": {"total": parameters},
            "hardware": hardware(fabric.device) | {"devices": 1},
            "operators": {"backend": backend.describe(fabric.device), "compiled": False},
            "wall_seconds": time.monotonic() - started,
            "finished": now(),
        }
    )


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table: measure, value, and one column for each coordinate."""
    return pd.DataFrame([{"measure": row.measure, "value": row.value, **row.coordinates} for row in rows])


def read_rows(run: Run) -> pd.DataFrame:
    """What `measure` wrote for a finished measurement."""
    return pd.read_csv(run.directory / ROWS)


def _check_finite(work: Measurement, rows: list[Row]) -> None:
    wrong = next((row for row in rows if not math.isfinite(row.value)), None)
    if wrong:
        raise SettingError(
            f"{wrong.measure} is {wrong.value} on {work.facts['name']}: the network has diverged, or the window is too "
            "long for this model"
        )


@contextmanager
def _shown(name: str, progress_bar: bool) -> Any:
    """A progress bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = not progress_bar or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disable) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
