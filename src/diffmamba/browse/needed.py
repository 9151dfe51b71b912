"""What must not be removed: what tables and figures need, what others start from, and what is under way."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.runs.index import Entry
from diffmamba.runs.store import WELL, RunStore


@dataclass
class Needed:
    """Reasons to keep runs, or at least their checkpoints, by run id. `unknown`: plans that cannot be known."""

    runs: dict[str, str] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def by_works(store: RunStore, entries: Mapping[str, Entry], all_of_it: bool) -> Needed:
    """Runs under way, the plans of sweeps under way, and what works start from.

    With `all_of_it` the weights of works that have ended well do not count.
    """
    found = Needed()
    for entry in entries.values():
        if entry.status == "running":
            found.runs[entry.id] = "a process works on it"
        if entry.weights and not (all_of_it and entry.status in WELL):
            found.checkpoints.setdefault(entry.weights, f"{entry.kind} {entry.id} takes its weights")
    for name, item in _plans_under_way(store):
        found.runs.setdefault(item["id"], f"in the plan of a sweep: {name}")
        _need_weights(found, entries, item["id"], item.get("needs", ()), name)
    return found


def by_tables(store: RunStore, entries: Mapping[str, Entry]) -> Needed:
    """What the plans of all sweeps need, published ones and the user's own, at every scale.

    Of a sweep without a plan, such as a search, all runs of its group count.
    """
    found, expand = Needed(), _expand()
    for sweep in _names_of("sweeps"):
        plans, wrong = _plans(expand, sweep, store)
        for said, planned in plans.items():
            for item in planned:
                found.runs.setdefault(item.id, f"in the plan of {said}")
                _need_weights(found, entries, item.id, item.needs, said)
        if reason := wrong.get(f"sweep={sweep}"):
            group = _group_of(sweep)
            for entry in entries.values():
                if entry.setting("group") == group:
                    found.runs.setdefault(entry.id, f"of group={group}, and sweep={sweep} has no plan")
            found.unknown.append(f"sweep={sweep} has no plan, so all runs of group={group} are kept: {reason}")
        else:
            found.unknown += [f"{said} has no plan: {reason}" for said, reason in wrong.items()]
    return found


def _plans(
    expand: Callable[..., Sequence[Any]], sweep: str, store: RunStore
) -> tuple[dict[str, Sequence[Any]], dict[str, str]]:
    """The plan of a sweep at every scale; and where there is none, why. Without a scale only if one has no plan."""
    plans: dict[str, Sequence[Any]] = {}
    wrong: dict[str, str] = {}
    for words in [*([f"scale={scale}"] for scale in _names_of("scale")), []]:
        said = " ".join([f"sweep={sweep}", *words])
        if words or wrong:
            try:
                plans[said] = expand(sweep, [*words, f"runs={store.directory}"], prepare=False)
            except SettingError as error:
                wrong[said] = str(error).splitlines()[0]
    return plans, wrong


def _group_of(sweep: str) -> str:
    """The group of a sweep's runs: what its file says, or its own name."""
    from hydra import compose

    from diffmamba.configuration import composing

    words = [f"sweeps={sweep}"]
    try:
        with composing("train", words):
            return str(compose("train", overrides=words).get("group") or sweep)
    except SettingError:  # such as one for a sweeper that is not installed
        return sweep


def _need_weights(found: Needed, entries: Mapping[str, Entry], work: str, needs: Sequence[str], plan: str) -> None:
    """An unfinished work of a plan needs the checkpoints of the trainings that it starts from or measures."""
    if work not in entries or entries[work].status not in WELL:
        for training in needs:
            found.checkpoints.setdefault(training, f"{work} of {plan} needs its weights")


def _plans_under_way(store: RunStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """The works of the plans that sweeps have written into the store, each with the name of its folder."""
    for path in sorted(store.directory.glob(".sweep/*/plan.jsonl")):
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="utf-8").splitlines():
                item = json.loads(line)
                if isinstance(item, dict) and isinstance(item.get("id"), str):
                    yield path.parent.name, item


def _names_of(group: str) -> list[str]:
    """The files of a group of settings: ours, and those of the user's own directory."""
    from hydra.core.global_hydra import GlobalHydra

    from diffmamba.configuration import composing

    with composing("train"):
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))


def _expand() -> Callable[..., Sequence[Any]]:
    from diffmamba.command_line import importing

    with importing():  # here: it takes seconds
        from diffmamba.runs.plan import expand
    return expand
