"""What a sweep would do, without doing it: its plan, and how long that may take by what the store knows.

The time of a training is forecast from the finished trainings of the store, nearest first: those of the same network,
data and scale; else those of the same model, with time growing like parameters times symbols; else all. A forecast
holds for a machine like those that trained these runs.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffmamba.runs.engine import Engine
from diffmamba.runs.form import Record
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.plan import Planned
from diffmamba.runs.queue import FOLDER
from diffmamba.runs.shown import duration
from diffmamba.runs.store import WELL
from diffmamba.runs.sweeping import check, count, names, pending, records, store_of, undisturbed
from diffmamba.runs.work import Training

TOLD = 20  # works that are named


def told(planned: Sequence[Planned], engine: Engine) -> Iterator[str]:
    """The lines of a dry run. Raises SettingError where the sweep would."""
    left, store = pending(planned, records(planned)), store_of(planned)
    check(left, engine)
    engine = undisturbed(engine, left)
    stored = store.records()
    yield f"{len(left)} of {count(planned)} runs to do, in {store.directory}; nothing was started"
    if not left:
        return
    states = Counter(_state(stored.get(item.id)) for item in left)
    yield "  " + ", ".join(f"{count} {state}" for state, count in states.most_common())
    named, costs = names(planned), Forecast(stored)
    seconds = {item.id: costs.seconds(item) for item in left}
    for item in left[:TOLD]:
        after = f", after {', '.join(item.needs)}" if item.needs else ""
        yield f"  {item.id}  {_about(seconds[item.id])}  {named[item.id]}{after}"
    if len(left) > TOLD:
        yield f"  and {len(left) - TOLD} more"
    yield from _sum(list(seconds.values()), engine, left)
    yield from engine.described(store.directory / FOLDER / "NAME", left[0].work.execution.devices, len(left))


def _state(record: Record | None) -> str:
    return "new" if record is None else str(record["status"])


def _about(seconds: float | None) -> str:
    return f"{'?' if seconds is None else duration(seconds):>12}"


def _sum(seconds: list[float | None], engine: Engine, left: Sequence[Planned]) -> Iterator[str]:
    known = [one for one in seconds if one is not None]
    if not known:
        yield "no forecast: the store holds no finished run to go by; do one first, such as the first of these"
        return
    whole = statistics.mean(known) * len(seconds)
    workers = engine.count(left[0].work.execution.devices, len(left))
    guess = f" ({len(seconds) - len(known)} of them unknown, taken as the mean)" * (len(known) < len(seconds))
    yield f"about {duration(whole)} of work{guess}, with {workers} at a time about {duration(whole / workers)}"


class Forecast:
    """How long works take, by the finished runs of a store."""

    def __init__(self, stored: Mapping[str, Record]):
        self.same: dict[Any, list[float]] = {}  # seconds a step
        self.alike: dict[Any, list[float]] = {}  # seconds for a symbol and a parameter, by model; under None for all
        self.measured: dict[Any, list[float]] = {}  # seconds of a measure
        for record in stored.values():
            if record["status"] in WELL and record.get("wall_seconds"):
                self._learn(record)

    def _learn(self, record: Record) -> None:
        seconds, config = record["wall_seconds"], record["config"]
        if record["kind"] == "measurement":
            self.measured.setdefault(record["measure"].get("name"), []).append(seconds)
            return
        evaluations, parameters = record["evaluations"], (record.get("parameters") or {}).get("total")
        if not evaluations or not evaluations[-1]["step"]:
            return
        self.same.setdefault(_which(config), []).append(seconds / evaluations[-1]["step"])
        if parameters and evaluations[-1].get("tokens"):
            each = seconds / (parameters * evaluations[-1]["tokens"])
            for key in (config["model"].get("name"), None):
                self.alike.setdefault(key, []).append(each)

    def seconds(self, item: Planned) -> float | None:
        """How long a work takes; None where no run says anything about it."""
        work = item.work
        if isinstance(work, Measurement):
            found = self.measured.get(work.measure.described()["name"])
            return statistics.median(found) if found else None
        assert isinstance(work, Training)
        if found := self.same.get(_which(work.settings)):
            return (work.length.steps or 0) * statistics.median(found)
        found = self.alike.get(work.settings["model"].get("name")) or self.alike.get(None)
        if not found:
            return None
        parameters = sum(parameter.numel() for parameter in work.shapes.parameters())
        return statistics.median(found) * parameters * work.symbols


def _which(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells trainings apart that take different times a step."""
    scale, trainer = config.get("scale", {}), config.get("trainer", {})
    sizes = ("d_model", "n_layers", "evaluate_every")
    of_data = ("name", "vocabulary", "length", "batch_size", "examples", "evaluated", "eval_windows")
    return (
        config["model"].get("name"),
        *(scale.get(name) for name in sizes),
        *(config["data"].get(name) for name in of_data),
        trainer.get("accelerator"),
        trainer.get("precision"),
    )
