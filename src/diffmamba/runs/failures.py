"""Why a work failed: of which kind, and whether it is worth another try.

A failure of the machine says nothing of the work: it is tried again, a few times in a sweep, and by the next command. A
failure of the work itself comes again each time: it is tried again only where `retry=failed` asks for it.
"""

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from torch.multiprocessing.spawn import ProcessException

from diffmamba.errors import SettingError
from diffmamba.free_memory import exhausted
from diffmamba.runs.form import TRANSIENT, Record
from diffmamba.runs.store import SWEEP, Run
from diffmamba.tasks.task import NonFiniteLossError

KINDS = {
    "disk": "the disk or its files",
    "connection": "a connection",
    "memory": "out of memory",
    "lost": "the worker died",
    "diverged": "a loss was not finite",
    "settings": "a setting",
    "needs": "what it needs has failed",
    "code": "an error in the code",
}
"""The kinds of failures, in words. The first ones, those of `TRANSIENT`, are of the machine."""
SMALLER = "trainer.accumulate_grad_batches=N takes the batch in N parts, each of which needs less (it is another run)"


class NeedsError(SettingError):
    """A work that this one needs has failed."""


class LostError(RuntimeError):
    """The workers of a work died, one after the other, without getting on with it."""


def failure(error: BaseException, step: int = 0) -> dict[str, Any]:
    """What a record says of an error: its kind, its type, its first line, the traceback, and the step it came at.

    `again`: the next command tries again: it is of the machine, or it came before the first step.
    """
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if "site-packages" not in frame.filename]
    kind = kind_of(cause)
    return {
        "kind": kind,
        "type": type(cause).__name__,
        "message": lines[-1] if isinstance(cause, ProcessException) else lines[0],  # of a rank: its traceback's last
        "advice": SMALLER if kind == "memory" else None,
        "where": f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None,
        "traceback": "".join(traceback.format_exception(error)),
        "step": step,
        "again": kind in TRANSIENT or (not step and kind != "diverged"),
    }


def kind_of(error: BaseException) -> str:
    """The kind of an error, one of `KINDS`."""
    if isinstance(error, NeedsError):
        return "needs"
    if isinstance(error, SettingError):
        return "settings"
    if isinstance(error, NonFiniteLossError):
        return "diverged"
    if isinstance(error, LostError):
        return "lost"
    if exhausted(error):
        return "memory"
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(("urllib", "httpx")):
        return "connection"
    if isinstance(error, OSError) and error.errno is not None:
        return "disk"
    return _kind_in(str(error)) if isinstance(error, ProcessException) else "code"


def _kind_in(text: str) -> str:
    """The kind of the error that ended a rank, of which there is only its traceback."""
    last = text.strip().splitlines()[-1].partition(":")[0].rpartition(".")[2]
    types = (NonFiniteLossError, SettingError, MemoryError, torch.OutOfMemoryError, ConnectionError, TimeoutError)
    made = {kind.__name__: kind for kind in types}
    if last in made:
        return kind_of(made[last](""))
    return "disk" if "[Errno " in text.strip().splitlines()[-1] else "code"


@contextmanager
def in_sweep(token: str) -> Iterator[None]:
    """Tells this process and those that it starts for which sweep they work: it limits their tries."""
    before = os.environ.get(SWEEP)
    os.environ[SWEEP] = token
    try:
        yield
    finally:
        os.environ.pop(SWEEP)
        if before is not None:
            os.environ[SWEEP] = before


def begun(run: Run, earlier: Record | None) -> dict[str, Any]:
    """What a record says of the session that begins: its `sweep`, the `attempt` in it, and its first `checkpoint`.

    An attempt is one more where the last one of the same sweep failed, or where its process died before it had written
    another checkpoint. Checkpoints are told apart by the time that their file system gave them.
    """
    sweep, last = os.environ.get(SWEEP), _session(earlier)
    try:
        stamp = run.last_checkpoint.stat().st_mtime_ns
    except OSError:
        stamp = None
    attempt = 1
    if earlier is not None and sweep is not None and last.get("sweep") == sweep:
        died = earlier["status"] == "running" and last.get("checkpoint") == stamp
        attempt = last["attempt"] + (earlier["status"] == "failed" or died)
    return {"sweep": sweep, "attempt": attempt, "checkpoint": stamp}


def given_up(record: Record, retries: int) -> bool:
    """Whether a failed work is left alone by the sweep that this process works for, which has tried it."""
    sweep, session = os.environ.get(SWEEP), _session(record)
    if sweep is None or session.get("sweep") != sweep:
        return False
    return record["error"].get("kind") not in TRANSIENT or session["attempt"] > retries


def _session(record: Record | None) -> Record:
    return (record or {}).get("session") or {}


def by_kind(records: Mapping[str, Record]) -> dict[str, list[Record]]:
    """The failed ones of some records, by the kind of their failure."""
    found: dict[str, list[Record]] = {}
    for record in records.values():
        if record["status"] == "failed":
            found.setdefault(record["error"].get("kind", "code"), []).append(record)
    return {kind: found[kind] for kind in (*KINDS, *found) if kind in found}
