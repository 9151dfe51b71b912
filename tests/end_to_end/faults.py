"""Faults at random: a training is disturbed, called again, and must end as if nothing had happened, or say what to do.

    python -m tests.end_to_end.faults --runs 100 --seed 0 --image

Each run calls the same command one to three times with faults, and then up to three times without. A fault strikes
while the process is stopped (see `stopped_calls`), or at its start or end. With `--image` (as root) everything lies on
a small disk of its own, which can be full and can be made read-only. The judge is `judged` and `Truth`.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from diffmamba.runs import recorder
from tests.end_to_end.conftest import SMALL, english
from tests.end_to_end.stopped_calls import Call, Moment, Start

RUN_FILES = ("result.json", "last.ckpt", "best.ckpt", "metrics.csv", "progress.json", "vocabulary.json", "lock")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
DATA_FILES = ("manifest.json", "symbols.bin")
MOST_CALLS = 3  # without faults, until the result is there
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
        inside = {".ckpt": "checkpoints", ".csv": "csv"}.get(Path(name).suffix, ".")
        return self.run(run_id) / inside / name


@dataclass
class Blow:
    """What a fault gets when it strikes."""

    place: Place
    call: Call
    chance: random.Random
    run_id: str


@dataclass(frozen=True)
class Fault:
    """Args: begin: changes how a call begins. strike: does harm while the call is stopped, or after its end."""

    begin: Callable[[Start, Place], Any] = lambda start, place: None
    strike: Callable[[Blow], Any] = lambda blow: None


# ---- faults


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
    return lambda blow: blow.call.send(number)


def fills_disk(blow: Blow) -> None:
    """All but some kilobytes of a small disk; elsewhere the process may write no longer files than that."""
    kilobytes = blow.chance.choice([0, 0, 4, 30, 100, 300])
    if not blow.place.on_image:
        if blow.call.status is None:
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
    """What killed writers leave, and lock files that nobody holds."""
    run, data = blow.place.run(blow.run_id), blow.place.folder / "data"
    found = [run / "lock", run / ".result.json.0a1b2c3d.new", run / "checkpoints/.last.ckpt.0a1b2c3d.new"]
    found += [data / "story-000000000000.lock", data / "story-000000000000.partial-0a1b2c3d/symbols.bin"]
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(b"half")


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
    "terminal closed": Fault(sets(terminal=True), lambda blow: blow.call.close_terminal()),
    "terminal": Fault(sets(terminal=True)),
    "text changed": Fault(strike=changes_text),
    "text removed": Fault(strike=removes_text),
    "the same command at once": Fault(strike=calls_another),
    "left-overs": Fault(strike=leaves_rubbish),
    "no HOME": Fault(environment(HOME=None)),
    "HOME not to be written": Fault(unwritable("HOME", "XDG_CACHE_HOME")),
    "TMPDIR missing": Fault(environment(TMPDIR="/nowhere")),
    "TMPDIR not to be written": Fault(unwritable("TMPDIR")),
    "umask 777": Fault(masks),
    "locale C": Fault(sets(encoding="ascii")),
}  # fmt: skip


# ---- judge


class Truth:
    """What an undisturbed run leaves, without times: the same to the last bit, or it is another result."""

    def __init__(self, place: Place) -> None:
        place.begin()
        call = Call(place.start(), [], place.notes)
        call.wait()
        assert call.status == 0, call.said
        (result,) = (place.folder / "runs").glob("*/result.json")
        self.run_id = result.parent.name
        self.touches = int((place.notes / "touches").read_text())
        self.copies = place.notes / "copies"
        shutil.copytree(place.folder, self.copies)
        self.left = left(result.parent)

    def differs(self, place: Place, without: set[str]) -> str:
        """The first part that is not as it should be; empty if all are."""
        found = left(place.run(self.run_id))
        return next((part for part in self.left if part not in without and found.get(part) != self.left[part]), "")


def left(run: Path) -> dict[str, Any]:
    """What a run has left, by part."""
    try:
        record = json.loads((run / "result.json").read_text())
        parts = {
            part: record[part] for part in ("status", "evaluations", "progress", "corpus", "stopped") if part in record
        }
    except (OSError, ValueError):
        return {}
    for name in ("last.ckpt", "best.ckpt"):
        with contextlib.suppress(Exception):
            content = torch.load(run / "checkpoints" / name, weights_only=True)
            parts[name] = {key: weight.numpy().tobytes() for key, weight in content["state_dict"].items()}
    with contextlib.suppress(OSError, ValueError):
        lines = [line.split(",") for line in (run / "csv/metrics.csv").read_text().splitlines()]
        timed = lines[0].index("train/tokens_per_second")
        parts["metrics.csv"] = [line[:timed] + line[timed + 1 :] for line in lines]
    with contextlib.suppress(OSError, ValueError):
        parts["vocabulary.json"] = json.loads((run / "vocabulary.json").read_text())
    return parts


def wrong_with(call: Call, place: Place, struck: set[str]) -> str:
    """What a call did that no call may do; empty if nothing."""
    said, status = call.said, call.status
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    lost = (
        {"terminal closed"} if place.on_image else {"terminal closed", "disk full"}
    )  # what the call says goes nowhere
    readable = not {1, 2} & set(call.start.streams) and not struck & lost
    if status not in (0, 1, 2, 130) and not (status is not None and status < 0 and struck & KILLS):
        return f"exit status {status}"
    if "Traceback" in said:
        return "a traceback"
    if status in (1, 2) and readable and len(errors) != 1:
        return f"{len(errors)} lines with an error"
    for path in (place.folder / place.store).rglob("*"):
        if path.suffix in (".json", ".ckpt") and path.is_file() and path not in place.hurt and not _whole(path):
            return f"half of {path.name}"
    return ""


KILLED = "SIGKILL sent"
KILLS = {KILLED, "SIGTERM sent", "SIGHUP sent", "terminal closed", "symbols.bin damaged"}


def _whole(path: Path) -> bool:
    try:
        json.loads(path.read_text()) if path.suffix == ".json" else torch.load(path, weights_only=True)
    except Exception:
        return False
    return True


def followed(call: Call, place: Place, truth: Truth) -> bool:
    """Does what the line of an error says. Whether it says what this person understands."""
    damaged = re.search(r"error: (/[^;]+\.ckpt) .*move it away", call.said)
    in_the_way = re.search(r"Is a directory: '?(/[^';]+)", call.said)
    for found in filter(None, (damaged, in_the_way)):
        Path(found[1]).rename(f"{found[1]}.away")
        return True
    return False


# ---- runs


@dataclass
class Ending:
    """How a disturbed run ended: `how` if well, else `wrong`; and all that was done and said."""

    faults: list[str]
    how: str = ""
    wrong: str = ""
    story: list[str] = field(default_factory=list)


def disturbed(place: Place, truth: Truth, chance: random.Random) -> Ending:
    """One run with one to three faults, in calls of the same command."""
    place.begin()
    names = chance.sample(sorted(FAULTS), chance.randint(1, 3))
    ending = Ending(names)
    calls = [[names[0]]]
    for name in names[1:]:
        if chance.random() < 0.6:
            calls[-1] += [KILLED] * (chance.random() < 0.7)  # or there is nothing left to disturb
            calls.append([])
        calls[-1].append(name)
    try:
        for together in calls:
            _struck(place, truth, chance, together, ending)
            if ending.wrong:
                return ending
        _called_again(place, truth, ending)
    finally:
        _mend(place)
    return ending


def _struck(place: Place, truth: Truth, chance: random.Random, names: list[str], ending: Ending) -> None:
    """One call with faults."""
    start = place.start()
    for name in names:
        FAULTS[name].begin(start, place)
    moments = sorted(
        (Moment(_touch(chance, truth), chance.choice([0, 0, 0.001, 0.004, 0.02, 0.1])), name) for name in names
    )
    for (touch, _), name in moments:
        if touch == 0:  # before it begins
            _strike(name, Blow(place, _nobody(start, place), chance, truth.run_id))
    moments = [moment for moment in moments if moment[0].touch]
    call = Call(start, [moment.touch for moment, _ in moments], place.notes)
    for file in start.streams.values():
        if file is not None:
            os.close(file)
    for (touch, seconds), name in moments:
        there = call.wait() and (not seconds or call.stop(seconds))
        _strike(name, Blow(place, call, chance, truth.run_id))
        ending.story.append(f"{name} at touch {touch} + {seconds} s{'' if there else ' (after its end)'}")
        if there:
            call.go_on()
    while call.wait():
        call.go_on()
    for other in place.others:
        other.wait()
    ending.story.append(f"[{', '.join(names)}] status {call.status}: {call.said}")
    _mend(place)
    for one in (call, *place.others):
        ending.wrong = ending.wrong or wrong_with(one, place, set(names))
    place.others.clear()


def _strike(name: str, blow: Blow) -> None:
    with contextlib.suppress(OSError):  # what another fault has made impossible
        FAULTS[name].strike(blow)


def _touch(chance: random.Random, truth: Truth) -> int:
    """0 is before the call begins; more than there are is after its end."""
    return chance.choice([0, truth.touches + 1, *[chance.randint(1, truth.touches) for _ in range(6)]])


def _nobody(start: Start, place: Place) -> Any:
    """A call that has not begun."""
    call = Call.__new__(Call)
    call.start, call.notes, call.status, call.master = start, place.notes, 0, None
    return call


def _mend(place: Place) -> None:
    for mend in place.mend:
        mend()
    place.mend.clear()


def _called_again(place: Place, truth: Truth, ending: Ending) -> None:
    """The same command without faults, until its result is there. What a line tells to do is done."""
    told = False
    for number in range(MOST_CALLS):
        call = Call(place.start(), [], place.notes)
        call.wait()
        ending.story.append(f"call {number + 1}: status {call.status}: {call.said}")
        ending.wrong = wrong_with(call, place, set())
        if ending.wrong:
            return
        if call.status == 0:
            break
        told |= followed(call, place, truth)
    lost = {path.name for path in place.hurt if path.name not in left(place.run(truth.run_id))}
    for name in sorted(lost & {"last.ckpt", "best.ckpt"}):  # the run had ended by then: told by who wants to use it
        words = [f"run={truth.run_id}", f"runs={place.folder}/{place.store}", f"checkpoint={name[:4]}", "length=1"]
        call = Call(Start(words, "generate", place.folder), [], place.notes)
        call.wait()
        ending.story.append(f"generate: status {call.status}: {call.said}")
        if call.status != 2 or name not in call.said or call.said.count("\n") != 1:
            ending.wrong = f"{name} is lost without a word"
            return
        path = place.file(name, truth.run_id)
        shutil.rmtree(path, ignore_errors=True)
        shutil.copy(truth.copies / "runs" / truth.run_id / "checkpoints" / name, path)
        told = True
    said = "".join(ending.story)
    without = {"metrics.csv"} if "csv/metrics.csv failed" in said or _was_hurt(place, "metrics.csv") else set()
    without |= {"vocabulary.json"} if _was_hurt(place, "vocabulary.json") else set()
    differs = truth.differs(place, without)
    ending.wrong = f"another {differs}" if differs else ""
    told |= "error: " in said
    ended_well = all("status 0" in line for line in ending.story if "status" in line)
    ending.how = "as a line said" if told else "by itself" if ended_well else "called again"


def _was_hurt(place: Place, name: str) -> bool:
    return any(path.name == name for path in place.hurt)


@contextlib.contextmanager
def a_place(on_image: bool) -> Iterator[Place]:
    """A temporary folder, or a small disk of its own."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as above:
        folder, notes = Path(above, "disk"), Path(above, "notes")
        folder.mkdir(), notes.mkdir()
        if on_image:
            image = Path(above, "image")
            subprocess.run(["truncate", "-s", "24M", image], check=True)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, folder], check=True)
            (folder / "lost+found").rmdir()
        try:
            yield Place(folder, notes, on_image)
        finally:
            if on_image:
                subprocess.run(["umount", folder], check=True)
            gives_permission(Path(above))


def table(endings: list[Ending]) -> str:
    """How often each fault was drawn, and how the runs with it ended."""
    count: dict[str, collections.Counter[str]] = {}
    for ending in endings:
        for name in ending.faults:
            count.setdefault(name.strip(), collections.Counter())[ending.how if not ending.wrong else "WRONG"] += 1
    rows = [f"{'fault':28} times  how the runs with it ended"]
    for name, ways in sorted(count.items()):
        rows.append(f"{name:28} {ways.total():5}  {', '.join(f'{n} {way}' for way, n in ways.most_common())}")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one run, with all that it said")
    parser.add_argument("--image", action="store_true", help="on a disk of 24 MB; needs root")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recorder.HEARTBEAT_SECONDS = 0.01
    endings = []
    with a_place(asked.image) as place:
        truth = Truth(place)
        for number in range(asked.runs) if asked.only is None else [asked.only]:
            ending = disturbed(place, truth, random.Random(f"{asked.seed} {number}"))
            endings.append(ending)
            if ending.wrong or asked.only is not None:
                print(f"run {number}: {ending.wrong or ending.how}", *ending.story, sep="\n  ", flush=True)
    print(table(endings))
    wrong = sum(bool(ending.wrong) for ending in endings)
    print(f"{len(endings)} runs, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    if os.geteuid() == 0 and "FAULTS_BOUND" not in os.environ:  # for root no file is read-only, unless told otherwise
        os.environ["FAULTS_BOUND"] = "1"
        bound = "--bounding-set=-dac_override,-dac_read_search"
        os.execvp("setpriv", ["setpriv", bound, sys.executable, "-m", "tests.end_to_end.faults", *sys.argv[1:]])
    sys.exit(main())
