"""How a work ended, in one line for people. Which figures there are, the record says.

These lines are a side of the work: what a record lacks is left out, and no record makes them fail.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffmamba.runs.form import Record, is_tried_again


def summary(record: Record, store: Path) -> str:
    """The line of a command for one work."""
    place, training = store / record["id"], record["kind"] == "training"
    if record["status"] == "failed":
        step = record["error"].get("step") if training else None
        at = f" at step {step}" if step is not None else ""
        again = "the same command tries it again"
        again = again if is_tried_again(record["error"]) else "retry=failed goes on with it"
        message = record["error"]["message"]
        where = f"{record['error']['where']}; " if record["error"].get("where") else ""
        again = f"{record['error']['advice']}; {again}" if record["error"].get("advice") else again
        return f"error: run {record['id']} failed{at}: {message} ({where}traceback in {place}/result.json; {again})"
    total, speed = (record.get("parameters") or {}).get("total"), record.get("tokens_per_second")
    told = [figures(record) + _after(record)]
    told += [f"{total:,} parameters"] if training and total is not None else []
    told += [f"{record.get('wall_seconds', 0.0):.0f} s"]
    told += [f"{speed:,.0f} symbols/s"] if training and speed else []
    return f"{place}: {', '.join(told)}"


def _after(record: Record) -> str:
    """After how many steps a training was evaluated last, and where it was stopped."""
    evaluations, stopped = record.get("evaluations"), record.get("stopped")
    after = f" after {evaluations[-1]['step']} steps" if evaluations else ""
    return f"{after}, {_stopped(record)}" if record["status"] == "stopped" and stopped else after


def _stopped(record: Record) -> str:
    steps = (record.get("progress") or {}).get("steps")
    of = f" of {steps}" if steps else ""
    return f"stopped at step {record['stopped']['step']}{of} by {record['stopped']['by']}"


def title(config: Mapping[str, Any], measure: str = "") -> str:
    """Which work of a sweep: its data, its model and its seed."""
    model: dict[str, Any] = {"mixers": [], "name": "model"} | dict(config["model"])
    layers, seed = model.get("n_layers"), config.get("seed")
    mixers = [mixer for mixer in model["mixers"] or [] if isinstance(mixer, Mapping)]
    parts = [
        config["data"].get("name"),
        f"{layers} layer{'s' * (layers != 1)}" * (layers is not None),
        model["name"],
        "outer norm" * bool(model.get("outer_norm")),
        f"λ {model.get('lambda_form')}" * any("lambda_form" in (mixer.get("combine") or {}) for mixer in mixers),
        f"seed {seed}" * (seed is not None),
    ]
    name = ", ".join(map(str, filter(None, parts)))
    return f"{measure} of {name}" if measure else name


def titles(works: Iterable[tuple[str, Mapping[str, Any], str, str]]) -> dict[str, str]:
    """A title for each work of a sweep, by its id, so that no two look the same.

    A work is its id, its configuration, the name of its measure, and its `words`: the settings that vary in the sweep.
    The words are told where titles are the same without.
    """
    found = {run_id: (title(config, measure), words) for run_id, config, measure, words in works}
    names = Counter(name for name, _ in found.values())
    short = {run_id: _with(name, words) if names[name] > 1 else name for run_id, (name, words) in found.items()}
    alike = Counter(short.values())
    return {
        run_id: f"{name}, {words}" if words and alike[short[run_id]] > 1 else short[run_id]
        for run_id, (name, words) in found.items()
    }


def _with(name: str, words: str) -> str:
    """A title with the words that say something which it does not say."""
    said = name.split(", ")
    told = (word.partition("=") for word in words.split())
    kept = [key + sign + value for key, sign, value in told if value not in said and f"{key} {value}" not in said]
    return ", ".join([name, *([" ".join(kept)] if kept else [])])


def ending(record: Record, name: str) -> str:
    """The line of a sweep: which of its runs, by its title, and how it ended."""
    if record["status"] == "failed":
        return f"{name}: failed: {record['error']['message']} (run {record['id']})"
    stopped = f", {_stopped(record)}" if record["status"] == "stopped" and record.get("stopped") else ""
    return f"{name}: {figures(record, val=False)}{stopped} in {record.get('wall_seconds', 0.0):.0f} s"


def figures(record: Record, val: bool = True) -> str:
    """The headline of a finished work, by its name and with its digits; for a training also on the val split."""
    if record["kind"] == "measurement":
        told, values = record["measure"], record["values"]
        keys = [told.get("headline")]
    else:
        told, values = record.get("task") or {}, (record.get("evaluations") or [{}])[-1]
        headline = told.get("headline")
        keys = [headline, *([headline.replace("test/", "val/")] if val and headline else [])]
    return ", ".join(_figure(told, values, key) for key in dict.fromkeys(keys) if key) or "not evaluated"


def _figure(told: Mapping[str, Any], values: Mapping[str, Any], key: str) -> str:
    split, _, name = key.rpartition("/")
    value = values.get(key)
    try:
        metric = told["metrics"][name]
        label, number = metric["label"], f"{value:.{metric['digits']}f}"
    except (LookupError, TypeError, ValueError):  # not measured, or not described
        label, number = name, "not evaluated" if value is None else str(value)
    return f"{split} {label} {number}".strip()


def objective(record: Record) -> float | None:
    """The number that a search is to make better; None where the record does not have it yet.

    It is the headline. For a training it is that of the val split: settings that were chosen by the test split would
    say nothing about it. A work that failed is worse than any other: infinite, with the sign that is worse.
    """
    told = record["task"] if record["kind"] == "training" else record["measure"]
    metric = told["metrics"][told["headline"].rpartition("/")[2]]
    if record["status"] == "failed":
        return math.inf if metric["better"] == "lower" else -math.inf
    if record["kind"] == "measurement":
        return record["values"].get(told["headline"])
    values = (record["evaluations"] or [{}])[-1]
    return values.get(told["headline"].replace("test/", "val/"), values.get(told["headline"]))


def duration(seconds: float) -> str:
    """A time in the two units that matter: 45 s, 3 min 20 s, 2 h 15 min."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
