"""What can happen to a training: signals, a full disk, damaged and moved files, a closed terminal, a wrong clock.

A fault strikes while the process is stopped, or changes how it begins. What is still wrong after a call, `Place.mend`
takes away.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import SMALL, english
from tests.end_to_end.stopped_calls import Call, Start

RUN_FILES = ("result.json", "last.ckpt", "best.ckpt", "metrics.csv", "progress.json", "vocabulary.json", "lease")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
DATA_FILES = ("manifest.json", "symbols.bin")
SETTINGS = (*SMALL, "scale.steps=24", "scale.dropout=0.3", "trainer.log_every_n_steps=3")


@dataclass
class Place:
    """A folder with a text, its prepared corpus and a run store, and what is wrong with them at the moment."""

    folder: Path
    notes: Path
    on_image: bool
    store: str = "runs"
    mend: list[Callable[[], Any]] = field(default_factory=list)
    """What takes the faults away that are still there."""
    hurt: set[Path] = field(default_factory=set)
    """Files that a fault has damaged."""
    others: list[Call] = field(default_factory=list)

    def begin(self) -> None:
        """An empty store and a whole text."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.store, self.hurt = "runs", set()
        self.text.write_text(english(330))

    @property
    def text(self) -> Path:
        return self.folder / "story.txt"

    def start(self) -> Start:
        places = [f"data.path={self.text}", f"data.directory={self.folder}/data", f"runs={self.folder}/{self.store}"]
        return Start(["data=text", *places, "trainer=cpu", "logger=csv", "threads=1", *SETTINGS], folder=self.folder)

    def run(self, run_id: str) -> Path:
        return self.folder / self.store / run_id

    def file(self, name: str, run_id: str) -> Path:
        if name in DATA_FILES:
            return next((self.folder / "data").glob(f"story-????????????/{name}"), self.folder / "data" / name)
        if name == "lease":
            return self.folder / self.store / ".leases" / run_id
        inside = {".ckpt": "checkpoints", ".csv": "csv"}.get(Path(name).suffix, ".")
        return self.run(run_id) / inside / name


@dataclass
class Blow:
    """What a fault gets when it strikes."""

    place: Place
    call: Call | None
    """None before it begins."""
    chance: random.Random
    run_id: str


@dataclass(frozen=True)
class Fault:
    """Args: begin: changes how a call begins. strike: does harm while the call is stopped, or after its end."""

    begin: Callable[[Start, Place], Any] = lambda start, place: None
    strike: Callable[[Blow], Any] = lambda blow: None


def damage(name: str) -> Callable[[Blow], None]:
    """Cuts, empties, overwrites or removes a file, or puts a directory or other bytes in its place."""

    def strike(blow: Blow) -> None:
        path, chance = blow.place.file(name, blow.run_id), blow.chance
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else b""
        how = chance.choice(["cut", "empty", "bytes", "removed", "directory"])
        if path.is_dir():
            return
        if how == "cut" and content:
            os.truncate(path, chance.randrange(len(content)))
        else:
            path.unlink(missing_ok=True)
            if how == "directory":
                path.mkdir()
            elif how != "removed":
                path.write_bytes(b"" if how == "empty" else chance.randbytes(max(10, len(content))))
        blow.place.hurt.add(path)

    return strike


def sends(number: int) -> Callable[[Blow], None]:
    return lambda blow: blow.call and blow.call.send(number)


def fills_disk(blow: Blow) -> None:
    """All but some kilobytes of a small disk; elsewhere the process may write no longer files than that."""
    kilobytes = blow.chance.choice([0, 0, 4, 30, 100, 300])
    if not blow.place.on_image:
        if blow.call and blow.call.status is None:
            resource.prlimit(blow.call.pid, resource.RLIMIT_FSIZE, (kilobytes * 1024, resource.RLIM_INFINITY))
        return
    filler = blow.place.folder / "filler"
    with contextlib.suppress(OSError), filler.open("ab") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    with contextlib.suppress(OSError):
        os.truncate(filler, max(0, filler.stat().st_size - kilobytes * 1024))
    blow.place.mend.append(lambda: filler.unlink(missing_ok=True))


def moves(name: str) -> Callable[[Blow], None]:
    """Moves a folder away. It comes back unless something new is in its place by then."""

    def strike(blow: Blow) -> None:
        path = blow.place.folder / (blow.place.store if name == "store" else name)
        away = path.with_name(f"{path.name} moved")
        if path.exists() and not away.exists():
            path.rename(away)
            blow.place.mend.append(lambda: shutil.rmtree(away) if path.exists() else away.rename(path))

    return strike


def moves_store_for_good(blow: Blow) -> None:
    place = blow.place
    place.mend.append(lambda: (place.folder / place.store).exists() and _move_store(place))


def _move_store(place: Place) -> None:
    old, place.store = place.folder / place.store, f"{place.store}2"
    old.rename(place.folder / place.store)
    place.hurt = {place.folder / place.store / path.relative_to(old) for path in place.hurt if path.is_relative_to(old)}


def takes_permission(name: str) -> Callable[[Blow], None]:
    """Nothing below a folder may be written any more."""

    def strike(blow: Blow) -> None:
        folder = blow.place.folder / name
        for path in [folder, *folder.rglob("*")] if folder.exists() else []:
            path.chmod(0o555 if path.is_dir() else 0o444)
        blow.place.mend.append(lambda: gives_permission(blow.place.folder))

    return strike


def gives_permission(folder: Path) -> None:
    for _ in range(5):  # what a folder holds shows when it may be read
        for path in [folder, *folder.rglob("*")] if folder.exists() else []:
            path.chmod(0o755 if path.is_dir() else 0o644)


def read_only(start: Start, place: Place) -> None:
    if place.on_image:
        subprocess.run(["mount", "-o", "remount,ro", place.folder], check=True)
        place.mend.insert(0, lambda: subprocess.run(["mount", "-o", "remount,rw", place.folder], check=True))


def changes_text(blow: Blow) -> None:
    text = blow.place.text
    text.write_text(blow.chance.choice(["", "  ", "ABC " * 50, english(200), english(500)]))
    blow.place.mend.append(lambda: text.write_text(english(330)))


def removes_text(blow: Blow) -> None:
    blow.place.text.unlink(missing_ok=True)
    blow.place.mend.append(lambda: blow.place.text.write_text(english(330)))


def leaves_rubbish(blow: Blow) -> None:
    """What killed writers leave, locks of earlier versions, and leases that follow none."""
    run, data = blow.place.run(blow.run_id), blow.place.folder / "data"
    found = [run / "lock", run.parent / f".leases/{run.name}.after-{'0' * 32}"]
    found += [run / ".result.json.0a1b2c3d.new", run / "checkpoints/.last.ckpt.0a1b2c3d.new"]
    found += [data / "story-000000000000.lock", data / "story-000000000000.partial-0a1b2c3d/symbols.bin"]
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(b"half")


def removes_leases(blow: Blow) -> None:
    shutil.rmtree(blow.place.folder / blow.place.store / ".leases", ignore_errors=True)


def calls_another(blow: Blow) -> None:
    blow.place.others.append(Call(blow.place.start(), [], blow.place.notes))


def pipe_without_reader(start: Start, place: Place) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    start.streams[1] = writer


def into(path: str, flags: int = os.O_WRONLY) -> Callable[[Start, Place], None]:
    return lambda start, place: start.streams.update({1: os.open(path, flags)})


def closed(*numbers: int) -> Callable[[Start, Place], None]:
    return lambda start, place: start.streams.update(dict.fromkeys(numbers))


def environment(**given: str | None) -> Callable[[Start, Place], None]:
    return lambda start, place: start.environment.update(given)


def unwritable(*names: str) -> Callable[[Start, Place], None]:
    def begin(start: Start, place: Place) -> None:
        folder = place.notes / "unwritable"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o555)
        start.environment.update(dict.fromkeys(names, str(folder)))

    return begin


def masks(start: Start, place: Place) -> None:
    start.umask = 0o777
    place.mend.append(lambda: gives_permission(place.folder))


def sets(**values: Any) -> Callable[[Start, Place], None]:
    return lambda start, place: [setattr(start, name, value) for name, value in values.items()]  # type: ignore


KILLED = "SIGKILL sent"
DAY = 86400.0
FAULTS: dict[str, Fault] = {
    **{f"{name} sent": Fault(strike=sends(getattr(signal, name))) for name in SIGNALS},
    "disk full": Fault(strike=fills_disk),
    **{f"{name} damaged": Fault(strike=damage(name)) for name in (*RUN_FILES, *DATA_FILES)},
    "store moved away": Fault(strike=moves("store")),
    "store moved for good": Fault(strike=moves_store_for_good),
    "prepared data moved away": Fault(strike=moves("data")),
    "store not to be written": Fault(strike=takes_permission("runs")),
    "data not to be written": Fault(strike=takes_permission("data")),
    "disk read-only": Fault(read_only),
    "clock years back": Fault(sets(clock=-5000 * DAY)),
    "clock a day ahead": Fault(sets(clock=DAY)),
    "output closed": Fault(closed(1)),
    "output and error closed": Fault(closed(1, 2)),
    "input closed": Fault(closed(0)),
    "pipe without reader": Fault(pipe_without_reader),
    "output to a full disk": Fault(into("/dev/full")),
    "terminal closed": Fault(sets(terminal=True), lambda blow: blow.call and blow.call.close_terminal()),
    "terminal": Fault(sets(terminal=True)),
    "text changed": Fault(strike=changes_text),
    "text removed": Fault(strike=removes_text),
    "the same command at once": Fault(strike=calls_another),
    "leases removed": Fault(strike=removes_leases),
    "left-overs": Fault(strike=leaves_rubbish),
    "no HOME": Fault(environment(HOME=None)),
    "HOME not to be written": Fault(unwritable("HOME", "XDG_CACHE_HOME")),
    "TMPDIR missing": Fault(environment(TMPDIR="/nowhere")),
    "TMPDIR not to be written": Fault(unwritable("TMPDIR")),
    "umask 777": Fault(masks),
    "locale C": Fault(sets(encoding="ascii")),
}  # fmt: skip
