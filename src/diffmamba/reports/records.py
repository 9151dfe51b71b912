"""What a report reads of a record, the content of a run's `result.json`: one seed's result, and what is measured.

A record may be absent or incomplete: a run that has not started, or was stopped, has no result yet. That is settled
here. Which metric counts, how it prints and whether lower or higher is better are said by the record itself, under
`task` for a training and under `measure` for a measurement.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
SCHEMA_1: Record = {"headline": "test/ppl", "metrics": {"ppl": {"label": "PPL", "better": "lower", "digits": 3}}}
"""What a record without `task` and `measure` is about: those were all trainings of language models."""


@dataclass(frozen=True)
class Headline:
    """The metric that counts. `key` is its name in records: `test/ppl`. `better` is lower, higher, or "" if unknown."""

    key: str
    label: str
    better: str = ""
    digits: int = 3

    @property
    def name(self) -> str:
        """The key without its split: `ppl`."""
        return self.key.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The label with its split: `test PPL`."""
        return " ".join(filter(None, [self.key.rpartition("/")[0], self.label]))

    def verdict(self, lower: str, higher: str) -> str:
        """Which of two words is better, such as `left is better` if lower values are; "" if the record does not say."""
        word = {"lower": lower, "higher": higher}.get(self.better)
        return f"{word} is better" if word else ""

    def text(self, number: float | None) -> str:
        """A value, or a standard deviation of values."""
        return "–" if number is None else f"{number:.{self.digits}f}"

    def difference(self, number: float | None) -> str:
        """A difference with its sign: a real minus sign, and no sign before a zero."""
        if number is None or round(number, self.digits) == 0:
            return self.text(None if number is None else 0.0)
        return f"{number:+.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class SeedResult:
    """One seed of a cell. `value` is set exactly when the run counts in a mean; `reason` says why it does not."""

    id: str
    seed: int
    status: str
    reason: str = ""
    value: float | None = None
    record: Record = field(default_factory=dict)

    def part(self, name: str) -> Record:
        """A part of the record, such as `git` or `corpus`; empty where it has none."""
        return self.record.get(name) or {}


def headline(records: Iterable[Record], key: str | None) -> Headline:
    """The metric that `key` names, or that is the headline of these records, as the first record describes it."""
    described = [record.get("task") or record.get("measure") or SCHEMA_1 for record in records]
    for about in [*described, *[SCHEMA_1] * (key is not None)]:
        found = key or about["headline"]
        if words := about["metrics"].get(found.rpartition("/")[2]):
            return Headline(found, words["label"], words["better"], words["digits"])
    name = key or "result"
    return Headline(name, name.rpartition("/")[2])


def read(run_id: str, seed: int, record: Record | None, metric: Headline) -> SeedResult:
    """The result in `record`; no record means that the run has not started.

    A run that finished without a finite metric is reported as failed: it has no result.
    """
    status = (record or {}).get("status", "pending")
    if record is None or status == "pending":
        return SeedResult(run_id, seed, "pending", "not started", record=record or {})
    if status != "finished":
        return SeedResult(run_id, seed, status, _reason(record), record=record)
    evaluated = record.get("values") if record.get("kind") == "measurement" else (record.get("evaluations") or [{}])[-1]
    value = _finite((evaluated or {}).get(metric.key))
    if value is None:
        return SeedResult(run_id, seed, "failed", f"finished without a finite {metric.key}", record=record)
    return SeedResult(run_id, seed, status, value=value, record=record)


def _reason(record: Record) -> str:
    """Why a run that has started does not count: `failed at step 120: loss is not finite`, `running at step 3 of 9`."""
    error, progress = record.get("error") or {}, record.get("progress") or {}
    if record["status"] == "failed":
        message = str(error.get("message") or error.get("type") or "no message").strip().splitlines()[0]
        return f"failed: {message}" if error.get("step") is None else f"failed at step {error['step']}: {message}"
    known = {"step", "steps"} <= set(progress)
    return record["status"] + (f" at step {progress['step']} of {progress['steps']}" if known else "")


def _finite(value: Any) -> float | None:
    """A number as float; None for NaN, infinity and what is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
