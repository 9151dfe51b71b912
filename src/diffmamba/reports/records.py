"""What a record says: which metric counts, and the result of one seed.

A record is the content of a run's `result.json`. It may be of an older version, of another task, or damaged by hand, so
it is looked through once, at the entrance: what has not the shape that it should have is left out (`cleaned`).
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from diffmamba.runs.form import SCHEMA_1

Record = Mapping[str, Any]
DESCRIBED = ("label", "better", "digits")
NO_MEMORY = "out of memory"
"""The status of a seed that a fold gives to what a measurement was too large for; its run is finished."""
SHAPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("status", "kind", "finished"), str),
    **dict.fromkeys(("wall_seconds", "tokens_per_second"), (int, float)),
    **dict.fromkeys(("config", "task", "measure", "values", "error", "progress", "stopped", "sources"), Mapping),
    **dict.fromkeys(("git", "versions", "hardware", "parameters", "corpus", "details"), Mapping),
    "evaluations": list,
}
"""The types of those parts of a record that tables read."""


def cleaned(record: Any) -> Record:
    """The parts of a record that have the type they should have; NaN and infinity are None, as JSON has neither."""
    parts: dict[str, Any] = _finite_parts(record) if isinstance(record, Mapping) else {}
    found = {name: part for name, part in parts.items() if name not in SHAPES or isinstance(part, SHAPES[name])}
    if "evaluations" in found:
        found["evaluations"] = [at for at in found["evaluations"] if isinstance(at, Mapping)]
    return found


def damaged_record(reason: str) -> dict[str, Any]:
    """Stands for a record that cannot be read."""
    return {"status": "damaged", "error": {"message": reason}}


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

    def verdict(self, lower: str, higher: str) -> str:
        """Which of two words is better, such as `left is better` if lower values are; "" if the record does not say."""
        return {"lower": f"{lower} is better", "higher": f"{higher} is better"}.get(self.better, "")

    def text(self, number: float | None) -> str:
        """A value, or a standard deviation of values; with a real minus sign."""
        return "–" if number is None else f"{number:.{self.digits}f}".replace("-", "−")

    def difference(self, number: float | None) -> str:
        """A difference with its sign: a real minus sign, and no sign before a zero."""
        if number is None or round(number, self.digits) == 0:
            return self.text(None if number is None else 0.0)
        return f"{number:+.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class SeedResult:
    """One seed of a cell. `value` is set exactly when it counts in a mean; `reason` says why it does not.

    It is that of a run. Where cells were folded (see `Results.fine`) it is that of several, and has no `id`; its
    `record` is then what the fold has found of them. `rows_of` reads the rows of a measurement from the store.
    """

    id: str
    seed: int
    status: str
    reason: str = ""
    value: float | None = None
    record: Record = field(default_factory=dict)
    rows_of: Callable[[str], pd.DataFrame] | None = field(default=None, compare=False)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Everything that a measurement which counts has measured: measure, value and coordinates. Else no rows."""
        if self.rows_of is None or self.value is None or self.record.get("kind") != "measurement":
            return pd.DataFrame(columns=["measure", "value"])
        return self.rows_of(self.id)

    def part(self, name: str) -> Record:
        """A part of the record, such as `git` or `corpus`; empty where it has none."""
        return self.record.get(name) or {}


def headline(records: Iterable[Record], key: str | None) -> Headline:
    """The metric that `key` names, or that is the headline of these records, as the first record describes it."""
    described = [
        record.get("task") or record.get("measure") or SCHEMA_1
        for record in records
        if record.get("status") != "damaged"
    ]
    for about in [*described, *[SCHEMA_1] * (key is not None)]:
        found, metrics = key or str(about.get("headline", "")), about.get("metrics") or {}
        if words := metrics.get(found.rpartition("/")[2]):
            return Headline(found, **{"label": found} | {name: words[name] for name in DESCRIBED if name in words})
    name = key or "result"
    return Headline(name, name.rpartition("/")[2])


def read(
    run_id: str, seed: int, record: Record | None, metric: Headline, counting: Collection[str] = ("finished",)
) -> SeedResult:
    """The result in `record`, if the run has started. Runs count that have one of the statuses `counting`.

    One that counts, but has no finite metric, has failed.
    """
    status = (record or {}).get("status", "pending")
    if record is None or status == "pending":
        return SeedResult(run_id, seed, "pending", "not started", record=record or {})
    if status not in counting:
        return SeedResult(run_id, seed, status, _reason(record), record=record)
    evaluated = record.get("values") if record.get("kind") == "measurement" else (record.get("evaluations") or [{}])[-1]
    value = _finite((evaluated or {}).get(metric.key))
    if value is None:
        return SeedResult(run_id, seed, "failed", f"{status} without a finite {metric.key}", record=record)
    return SeedResult(run_id, seed, status, value=value, record=record)


def _reason(record: Record) -> str:
    """Why a run that has started does not count: `failed at step 120: loss is not finite`, `running at step 3 of 9`."""
    error, progress = record.get("error") or {}, record.get("progress") or {}
    if record["status"] == "damaged":
        return f"has a record that cannot be read: {error.get('message')}"
    if stopped := record.get("stopped"):
        of = f" of {progress['steps']}" if "steps" in progress else ""
        return f"stopped at step {stopped.get('step')}{of} by {stopped.get('by')}"
    if record["status"] == "failed":
        said = str(error.get("message") or "").strip() or str(error.get("type") or "no message")
        message = said.splitlines()[0]
        return f"failed: {message}" if error.get("step") is None else f"failed at step {error['step']}: {message}"
    known = {"step", "steps"} <= set(progress)
    return record["status"] + (f" at step {progress['step']} of {progress['steps']}" if known else "")


def rank(seed: Any) -> tuple[bool, Any]:
    """The key by which seeds are sorted: numbers first, then texts."""
    return isinstance(seed, str), seed


def _finite(value: Any) -> float | None:
    """A number as float; None for NaN, infinity and what is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _finite_parts(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {str(key): _finite_parts(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_finite_parts(value) for value in part]
    return None if isinstance(part, float) and not math.isfinite(part) else part
