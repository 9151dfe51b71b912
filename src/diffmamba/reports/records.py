"""What a report reads of a record, the content of a run's `result.json`: one seed's result, and what is measured.

A record may be absent or incomplete: a run that has not started, or was stopped, has no result yet. That is settled
here, so everything above works with one complete, typed object. Which metric counts, how it prints and whether lower or
higher is better are said by the record itself, under `task` for a training and under `measure` for a measurement.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
SCHEMA_1 = {"headline": "test/ppl", "metrics": {"ppl": {"label": "PPL", "better": "lower", "digits": 3}}}
"""What a record without `task` and `measure` is about: those were all trainings of language models."""


@dataclass(frozen=True)
class Metric:
    """What is measured: `key` names it in a record (`test/ppl`), `label` in words. `better`: lower, higher or ""."""

    key: str
    label: str
    better: str = ""
    digits: int = 3

    @property
    def name(self) -> str:
        """The key without its split: `ppl`."""
        return self.key.rpartition("/")[2]

    @property
    def best(self) -> str:
        """`lowest` or `highest`: what the best value is."""
        return "highest" if self.better == "higher" else "lowest"

    def verdict(self, lower: str, higher: str) -> str:
        """One of two words: the first if lower values are better, the second if higher ones; "" if neither is said."""
        return {"lower": f"{lower} is better", "higher": f"{higher} is better"}.get(self.better, "")

    def text(self, number: float | None) -> str:
        """A value, or a standard deviation of values."""
        return "–" if number is None else f"{number:.{self.digits}f}"

    def difference(self, number: float | None) -> str:
        """A difference with its sign: a real minus sign, and no sign before a zero."""
        if number is None:
            return "–"
        text = f"{number:+.{self.digits}f}"
        return self.text(0.0) if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True)
class Point:
    """The metric at one evaluation while training. `epoch` may be a fraction, `tokens` counts symbols seen."""

    step: int
    epoch: float
    tokens: int
    value: float


@dataclass(frozen=True)
class SeedResult:
    """One seed of a cell. `value` is set exactly when the run counts in a mean."""

    id: str
    seed: int
    status: str
    reason: str = ""
    value: float | None = None
    curve: tuple[Point, ...] = ()
    parameters: int | None = None
    wall_seconds: float | None = None
    tokens_per_second: float | None = None
    finished_at: str | None = None
    corpus: Mapping[str, Any] = field(default_factory=dict)
    git: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


def metric(records: Iterable[Record], key: str | None) -> Metric:
    """The metric that `key` names, or that is the headline of these records, as the first record describes it."""
    described = [record.get("task") or record.get("measure") or SCHEMA_1 for record in records]
    for about in [*described, *[SCHEMA_1] * (key is not None)]:
        found = Metric(key or about["headline"], "")
        if found.name in about["metrics"]:
            words = about["metrics"][found.name]
            return Metric(found.key, words["label"], words["better"], words["digits"])
    name = key or "result"
    return Metric(name, name.rpartition("/")[2])


def read(run_id: str, seed: int, record: Record | None, metric: Metric) -> SeedResult:
    """The result in `record`; no record means that the run has not started.

    A run that finished without a finite metric is reported as failed: it has no result.
    """
    if record is None:
        return SeedResult(run_id, seed, "pending", "not started")
    evaluations = record.get("evaluations") or []
    last = record.get("values") if record.get("kind") == "measurement" else (evaluations or [None])[-1]
    value = finite((last or {}).get(metric.key))
    status, reason = _outcome(record, value, metric.key)
    return SeedResult(
        id=run_id,
        seed=seed,
        status=status,
        reason=reason,
        value=value if status == "finished" else None,
        curve=tuple(
            Point(int(entry["step"]), float(entry["epoch"]), int(entry["tokens"]), float(entry[metric.key]))
            for entry in evaluations
            if finite(entry.get(metric.key)) is not None
        ),
        parameters=(record.get("parameters") or {}).get("total"),
        wall_seconds=finite(record.get("wall_seconds")),
        tokens_per_second=finite(record.get("tokens_per_second")),
        finished_at=record.get("finished"),
        corpus=record.get("corpus") or {},
        git=record.get("git") or {},
        versions=record.get("versions") or {},
        hardware=record.get("hardware") or {},
    )


def finite(value: Any) -> float | None:
    """A number as float; None for NaN, infinity and what is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _outcome(record: Record, value: float | None, key: str) -> tuple[str, str]:
    """The status, and in words why the run does not count ("" if it does)."""
    status = record.get("status", "pending")
    if status == "finished":
        return ("finished", "") if value is not None else ("failed", f"finished without a finite {key}")
    if status == "failed":
        return status, _failure(record.get("error") or {})
    if status == "pending":
        return status, "not started"
    progress = record.get("progress") or {}
    at = f" at step {progress['step']} of {progress['steps']}" if {"step", "steps"} <= set(progress) else ""
    return status, status + at


def _failure(error: Record) -> str:
    step = error.get("step")
    message = str(error.get("message") or error.get("type") or "no message").strip().splitlines()[0]
    return f"failed: {message}" if step is None else f"failed at step {step}: {message}"
