"""The form of a record: what every reader of the run store may rely on, checked once, where a record is read.

A record in a file has a seal, a digest of all the rest. So a record that somebody changed by hand is not used: its
figures are not what happened. Older records have none.
"""

import hashlib
import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

from diffmamba.errors import SettingError

Record = dict[str, Any]
"""The content of a run's result.json."""
SCHEMA = 2
TRANSIENT = ("disk", "connection", "memory", "lost")
"""The kinds of failures that are of the machine, and may not come again: see `failures`."""
SCHEMA_1: Record = {"headline": "test/ppl", "metrics": {"ppl": {"label": "PPL", "better": "lower", "digits": 3}}}
"""What a record without `task` and `measure` is about: those were all trainings of language models."""
STATUSES = ("running", "interrupted", "failed", "finished", "stopped")
ALWAYS: Mapping[str, Any] = {"id": str, "status": str, "kind": str, "started": str, "config": Mapping}
"""What every record has, and of which type it is."""
OF_KIND: Mapping[str, Mapping[str, Any]] = {
    "training": {"evaluations": list},
    "measurement": {"measure": Mapping, "values": Mapping, "weights": Mapping},
}
IF_THERE: Mapping[str, Any] = {
    **dict.fromkeys(("corpus", "git", "versions", "hardware", "operators", "parameters", "task", "progress"), Mapping),
    **dict.fromkeys(("error", "sources", "stopped"), Mapping | None),
    "session": Mapping,
    "finished": str | None,
    "wall_seconds": Real,
    "tokens_per_second": Real | None,
}
"""What a record of an earlier version may lack."""


class DamagedRecordError(SettingError):
    """A file stands where a record should be, and is none."""


def record_of(content: Any) -> Record:
    """A record from a file's content. Every key that readers index is there and of its type.

    Raises DamagedRecordError for what is no record, and SettingError for a record of a later version of ours.
    """
    if not isinstance(content, dict):
        raise DamagedRecordError("is no record of a run")
    schema = content.get("schema", 1)
    if type(schema) is int and schema > SCHEMA:
        raise SettingError(f"was written by a later version of diffmamba (schema {schema}); update this one")
    if "seal" in content and content["seal"] != _seal(content):
        raise DamagedRecordError("was changed by hand, or is damaged: its seal is that of another content")
    content = {key: value for key, value in content.items() if key != "seal"}
    record = {"kind": "training", **content}  # before schema 2 there was nothing else
    kind = record["kind"] if isinstance(record["kind"], str) else None
    needed = {**ALWAYS, **OF_KIND.get(kind or "", {})}
    wrong = [key for key, form in needed.items() if not isinstance(record.get(key), form)]
    wrong += [key for key, form in IF_THERE.items() if key in record and not isinstance(record[key], form)]
    wrong += ["kind"] * (kind not in OF_KIND) + ["status"] * (record["status"] not in STATUSES if not wrong else 0)
    wrong += [] if wrong else _wrong_inside(record)
    if wrong:
        raise DamagedRecordError(f"is no record of a run ({wrong[0]})")
    return record


def sealed(record: Mapping[str, Any]) -> Record:
    """The record with its seal, as it is written to a file."""
    return {**record, "seal": _seal(json.loads(json.dumps(record)))}  # as a reader has it: texts as keys, lists


def _seal(content: Mapping[str, Any]) -> str:
    """A digest of all but the seal itself. How the file is laid out does not count."""
    rest = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_tried_again(error: Mapping[str, Any]) -> bool:
    """Whether the next call tries a failed work again. Older records do not say: then if it failed before a step."""
    return bool(error.get("again", not error.get("step")))


def _wrong_inside(record: Record) -> list[str]:
    """Keys whose parts readers index too."""
    checks = {
        "config": isinstance(record["config"].get("data"), Mapping)
        and isinstance(record["config"].get("model"), Mapping),
        "evaluations": all(isinstance(entry, Mapping) and "step" in entry for entry in record.get("evaluations", [])),
        "error": record["status"] != "failed" or "message" in (record.get("error") or {}),
        "stopped": record["status"] != "stopped" or {"step", "by"} <= (record.get("stopped") or {}).keys(),
        "parameters": isinstance((record.get("parameters") or {}).get("total", 0), int),
    }
    return [key for key, right in checks.items() if not right]
