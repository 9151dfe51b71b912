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

    def number(self, name: str) -> float | None:
        """A number of the record, such as `wall_seconds`."""
        return finite(self.record.get(name))

    def curve(self, metric: Headline) -> list[dict[str, Any]]:
        """The metric while training: step, epoch (may be a fraction), symbols seen and value of each evaluation."""
        return [
            {"step": at["step"], "epoch": float(at["epoch"]), "symbols": at["tokens"], "value": at[metric.key]}
            for at in self.record.get("evaluations") or []
            if finite(at.get(metric.key)) is not None
        ]


def headline(records: Iterable[Record], key: str | None) -> Headline:
    """The metric that `key` names, or that is the headline of these records, as the first record describes it."""
    described = [record.get("task") or record.get("measure") or SCHEMA_1 for record in records]
    for about in [*described, *[SCHEMA_1] * (key is not None)]:
        found = Headline(key or about["headline"], "")
        if words := about["metrics"].get(found.name):
            return Headline(found.key, words["label"], words["better"], words["digits"])
    name = key or "result"
    return Headline(name, name.rpartition("/")[2])


def read(run_id: str, seed: int, record: Record | None, metric: Headline) -> SeedResult:
    """The result in `record`; no record means that the run has not started.

    A run that finished without a finite metric is reported as failed: it has no result.
    """
    if record is None:
        return SeedResult(run_id, seed, "pending", "not started")
    evaluated = record.get("values") if record.get("kind") == "measurement" else (record.get("evaluations") or [{}])[-1]
    value = finite((evaluated or {}).get(metric.key))
    status, reason = _outcome(record, value, metric.key)
    return SeedResult(run_id, seed, status, reason, value if status == "finished" else None, record)


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
