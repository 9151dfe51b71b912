"""One run as a report needs it, read from its record (the content of `result.json`).

A record may be absent or cut short: a run that has not started, or was stopped, has no metrics yet. That is settled
here, so that everything above works with one complete, typed object.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Point:
    """The tested metric at one evaluation; `epoch` may be a fraction, `tokens` counts symbols seen."""

    step: int
    epoch: float
    tokens: int
    ppl: float


@dataclass(frozen=True)
class Run:
    """One seed of a cell. `ppl` is the final test PPL and is set exactly when the run counts in a mean."""

    id: str
    seed: int
    status: str
    reason: str = ""
    ppl: float | None = None
    curve: tuple[Point, ...] = ()
    parameters: int | None = None
    wall_seconds: float | None = None
    tokens_per_second: float | None = None
    finished_at: str | None = None
    corpus: Mapping[str, Any] = field(default_factory=dict)
    git: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


def read(run_id: str, seed: int, record: Mapping[str, Any] | None, metric: str) -> Run:
    """The run behind `record`; no record means that it has not started.

    A run that finished without a finite metric in its last evaluation is reported as failed: it has no result.
    """
    if record is None:
        return Run(run_id, seed, "pending", "not started")
    final = _finite((record.get("evaluations") or [{}])[-1].get(metric))
    status, reason = _outcome(record, final, metric)
    return Run(
        id=run_id,
        seed=seed,
        status=status,
        reason=reason,
        ppl=final if status == "finished" else None,
        curve=_curve(record, metric),
        parameters=(record.get("parameters") or {}).get("total"),
        wall_seconds=_finite(record.get("wall_seconds")),
        tokens_per_second=_finite(record.get("tokens_per_second")),
        finished_at=record.get("finished"),
        corpus=record.get("corpus") or {},
        git=record.get("git") or {},
        versions=record.get("versions") or {},
        hardware=record.get("hardware") or {},
    )


def _outcome(record: Mapping[str, Any], final: float | None, metric: str) -> tuple[str, str]:
    """The status, and in words why the run does not count ("" if it does)."""
    status = record.get("status", "pending")
    if status == "finished":
        return ("finished", "") if final is not None else ("failed", f"finished without a finite {metric}")
    if status == "failed":
        return status, _failure(record.get("error") or {})
    if status == "pending":
        return status, "not started"
    return status, f"{status}{_position(record.get('progress') or {})}"


def _failure(error: Mapping[str, Any]) -> str:
    step = error.get("step")
    message = str(error.get("message") or error.get("type") or "no message").strip().splitlines()[0]
    return f"failed: {message}" if step is None else f"failed at step {step}: {message}"


def _position(progress: Mapping[str, Any]) -> str:
    return f" at step {progress['step']} of {progress['steps']}" if {"step", "steps"} <= set(progress) else ""


def _curve(record: Mapping[str, Any], metric: str) -> tuple[Point, ...]:
    return tuple(
        Point(int(entry["step"]), float(entry["epoch"]), int(entry["tokens"]), float(entry[metric]))
        for entry in record.get("evaluations") or []
        if _finite(entry.get(metric)) is not None
    )


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
