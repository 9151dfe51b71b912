"""`diffmamba runs prune`: what may be removed of a store, and its removal where `yes=true` asks for it.

What is removed first moves to `RUNS/.pruned/`, in one step and while this process holds the run. So an interrupted
removal leaves no half run that looks whole; the next one takes away what is left there.
"""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from diffmamba.browse import needed
from diffmamba.browse.aside import PRUNED, leftovers
from diffmamba.browse.fields import Names
from diffmamba.browse.files import bytes_below, size
from diffmamba.browse.screen import Column, Screen
from diffmamba.browse.words import COMMA, Words, choose
from diffmamba.errors import SettingError
from diffmamba.runs.index import Entry, Found
from diffmamba.runs.store import WELL, RunStore, RunTakenError

OPTIONS = ("runs", "what", "yes", "needed")
WHAT = ("checkpoints", "runs", "logs", "aside")
LOGS = ("csv", "wandb")
MOST_TOLD = 40  # paths and reasons


@dataclass(frozen=True)
class Removal:
    """A file or directory that may be removed, its size in bytes, and the run that it belongs to, if any."""

    path: Path
    bytes: int
    run: Entry | None = None


@dataclass(frozen=True)
class Plan:
    """What may be removed, what is kept back with its reason, and what could not be found out."""

    removals: list[Removal]
    kept: dict[str, str]
    unknown: list[str]


def run(words: Words, store: RunStore, found: Found) -> int:
    """Prints what may be removed, and removes it where that is asked for. Returns the exit status."""
    what = [one for one in COMMA.split(words.options.get("what", "")) if one]
    if not what or set(what) - set(WHAT):
        raise SettingError(f"what={','.join(what)} must be one or more of {', '.join(WHAT)}")
    if "runs" in what and not words.chosen:
        raise SettingError("what=runs needs a word that chooses runs, such as status=failed or older=30d")
    chosen = choose(found.entries.values(), words.conditions(Names(found.entries.values())))
    plan = _plan(what, chosen, store, found, words.flag("needed"))
    screen = Screen()
    if words.flag("yes"):
        failed = _remove(plan, store)
        _show(screen, plan, "removed", failed)
        screen.print()
        return int(bool(failed))
    _show(screen, plan, "would be removed", {})
    if plan.removals:
        screen.line("nothing was removed; yes=true does it")
    screen.print()
    return 0


def _plan(what: Sequence[str], chosen: Sequence[Entry], store: RunStore, found: Found, all_of_it: bool) -> Plan:
    """What may be removed of the chosen runs. `all_of_it`: also what a table needs."""
    guards = [needed.by_works(store, found.entries, all_of_it)]
    if not all_of_it and {"runs", "checkpoints"} & set(what) and chosen:
        guards.append(needed.by_tables(store, found.entries))
    plan = Plan([], {}, [line for guard in guards for line in guard.unknown])
    for entry in chosen:
        whole = next((guard.runs[entry.id] for guard in guards if entry.id in guard.runs), "")
        weights = next((guard.checkpoints[entry.id] for guard in guards if entry.id in guard.checkpoints), "")
        directory = store.run(entry.id).directory
        if "runs" in what and not (whole or weights):
            plan.removals.append(_removal(directory, entry))
            continue
        if "runs" in what:
            plan.kept[entry.id] = whole or weights
        if "checkpoints" in what and (directory / "checkpoints").is_dir():
            reason = weights or _goes_on(entry, all_of_it)
            _add(plan, directory / "checkpoints", entry, reason)
        if "logs" in what:
            for name in LOGS:
                if (directory / name).is_dir():
                    _add(plan, directory / name, entry, _goes_on(entry, False))
    if "aside" in what:
        plan.removals.extend(_removal(path) for path in leftovers(store, found))
    return plan


def _goes_on(entry: Entry, all_of_it: bool) -> str:
    """Why the files of a run that has not ended well are kept; "" if they are not."""
    if entry.status in WELL or (all_of_it and entry.status != "running"):
        return ""
    return f"it is {entry.status}, and goes on from them"


def _add(plan: Plan, path: Path, entry: Entry, reason: str) -> None:
    if reason:
        plan.kept[f"{entry.id}/{path.name}"] = reason
    else:
        plan.removals.append(_removal(path, entry))


def _removal(path: Path, entry: Entry | None = None) -> Removal:
    return Removal(path, bytes_below(path), entry)


def _remove(plan: Plan, store: RunStore) -> dict[Path, str]:
    """Removes what is planned. Returns what could not be removed, with the reason."""
    failed: dict[Path, str] = {}
    pruned = store.directory / PRUNED
    for removal in plan.removals:
        try:
            _gone(removal.path if removal.path.parent == pruned else _out_of_the_store(removal, store))
        except (RunTakenError, ChangedError) as error:
            failed[removal.path] = str(error)
        except FileNotFoundError:  # removed by another one
            continue
        except OSError as error:
            failed[removal.path] = error.strerror or str(error)
    with suppress(OSError):  # not empty, or not there
        pruned.rmdir()
    return failed


class ChangedError(RuntimeError):
    """A run is not the one any more that was looked at."""


def _out_of_the_store(removal: Removal, store: RunStore) -> Path:
    """Moves what is to be removed to where it belongs to no run. Raises RunTakenError, ChangedError and OSError."""
    entry, name = removal.run, removal.run.id if removal.run else removal.path.name
    aside = store.directory / PRUNED / f"{name}-{secrets.token_hex(4)}"
    aside.parent.mkdir(exist_ok=True)
    with store.run(entry.id).claim() if entry else nullcontext():
        if entry and store.run(entry.id).result.stat().st_mtime_ns / 1e9 != entry.changed:
            raise ChangedError(f"run {entry.id} has changed in the meantime")
        return removal.path.rename(aside)


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _show(screen: Screen, plan: Plan, done: str, failed: Mapping[Path, str]) -> None:
    removals = [removal for removal in plan.removals if removal.path not in failed]
    if removals:
        some = sorted(removals, key=lambda one: -one.bytes)[:MOST_TOLD]
        paths = [str(removal.path) for removal in some]
        screen.table([Column("size", [size(one.bytes) for one in some], False), Column(done, paths)])
        if len(removals) > MOST_TOLD:
            screen.line(f"and {len(removals) - MOST_TOLD:,} smaller ones", "note")
    total = sum(removal.bytes for removal in removals)
    screen.line(f"{len(removals):,} {done}: {size(total)} ({total:,} bytes)")
    _show_reasons(screen, "kept", plan.kept)
    _show_reasons(screen, "not removed", {str(path): reason for path, reason in failed.items()})
    for line in plan.unknown:
        screen.line(line, "note")


def _show_reasons(screen: Screen, heading: str, reasons: Mapping[str, str]) -> None:
    """The first reasons one by one, and how many more there are."""
    if not reasons:
        return
    screen.heading(f"{heading}: {len(reasons):,}")
    some = list(reasons.items())[:MOST_TOLD]
    screen.table([Column("", [name for name, _ in some]), Column("", [reason for _, reason in some], rank=1)])
    if len(reasons) > MOST_TOLD:
        screen.line(f"and {len(reasons) - MOST_TOLD:,} more", "note")
