"""What W&B shows of a run: its labels, its configuration, and the summary that its record makes."""

import re
from collections.abc import Mapping
from typing import Any

from diffmamba.runs.store import Record

PARTS = ("network", "module")
"""Of `model` and `data`: what the settings beside them are made into, which say the same a second time."""
NOISE = ("logger", "runs", "retry", "retries", "force", "checkpoint", "threads", "group", "name", "published")
"""Settings that say nothing of what a run computes."""
FINAL = ("status", "wall_seconds", "tokens_per_second", "corpus", "git")
"""What the summary says of the record, beside its last evaluation."""
LONGEST = {"name": 128, "group": 128, "job_type": 64, "project": 128, "tags": 64}
"""Characters that W&B allows in its labels."""
NOT_IN_PROJECT = re.compile(r"[/\\#?%:]")


def labelled(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What W&B shows of a run in its lists."""
    names = [settings[group]["name"] for group in ("model", "data", "scale")]
    measured = [settings["measure"]["_target_"].rpartition(".")[2]] if kind == "measurement" else []
    own = str(settings.get("name") or "").strip()
    return {
        "name": own or "-".join(map(str, [*measured, *names, f"seed{settings['seed']}"])),
        "group": settings.get("group"),
        "job_type": kind,
        "tags": [*measured, *names],
    }


def labels(told: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as W&B takes them: texts, not empty and not too long."""
    found: dict[str, Any] = {}
    for name, longest in LONGEST.items():
        value = told.get(name)
        given = [_text(one)[:longest] for one in (value if isinstance(value, list) else [value]) if one is not None]
        texts = [one for one in given if one.strip()]
        found[name] = list(dict.fromkeys(texts)) if name == "tags" else next(iter(texts), None)
    if found["project"]:
        found["project"] = NOT_IN_PROJECT.sub("-", found["project"])
    return found


def _text(value: Any) -> str:
    """As text that can be sent: a name of a file may hold bytes that are none."""
    return str(value).encode(errors="replace").decode()


def configured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say what a run computes, each once."""
    told = {name: value for name, value in settings.items() if name not in NOISE}
    for group in ("model", "data"):
        told[group] = {key: value for key, value in settings[group].items() if key not in PARTS}
    return {name: _without_partial(value) for name, value in told.items()}


def _without_partial(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_partial(part) for key, part in value.items() if key != "_partial_"}
    return [_without_partial(part) for part in value] if isinstance(value, list) else value


def summary(record: Record) -> dict[str, Any]:
    """The figures of a record: those of the last evaluation by their names, the best ones below `best/`."""
    told = {key: record[key] for key in FINAL if record.get(key) is not None}
    told["parameters"] = record["parameters"].get("total")
    if record.get("kind") == "measurement":
        return told | record["values"]
    evaluations = record["evaluations"] or [{}]
    best = {}
    for name, metric in record["task"]["metrics"].items():
        choose = max if metric["better"] == "higher" else min
        for key in (f"val/{name}", f"test/{name}"):
            if values := [entry[key] for entry in evaluations if key in entry]:
                best[f"best/{key}"] = choose(values)
    return told | {key: value for key, value in evaluations[-1].items() if not isinstance(value, Mapping)} | best


def evaluation_of(record: Record, checkpoint: str) -> dict[str, Any]:
    """The evaluation at which a checkpoint was written."""
    monitor, evaluations = record["task"]["monitor"], record["evaluations"]
    if checkpoint == "last" or any(monitor not in entry for entry in evaluations):
        return dict(evaluations[-1])
    metric = record["task"]["metrics"][monitor.partition("/")[2]]
    choose = max if metric["better"] == "higher" else min
    return dict(choose(evaluations, key=lambda entry: entry[monitor]))
