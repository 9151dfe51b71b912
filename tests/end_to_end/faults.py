"""Faults at random: a training is disturbed, called again, and must end as if nothing had happened, or say what to do.

    python -m tests.end_to_end.faults --runs 100 --seed 0 --image

Each run calls the same command one to three times with faults, and then up to three times without. A fault strikes
while the process is stopped (see `stopped_calls`), or at its start or end. With `--image` (as root) everything lies on
a small disk of its own, which can be full and can be made read-only. The faults are in `fault_kinds`, the judge in
`fault_judge`.
"""

import argparse
import collections
import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diffmamba.runs import execution, lease, recorder
from tests.end_to_end.fault_judge import Truth, followed, left, wrong_with
from tests.end_to_end.fault_kinds import FAULTS, KILLED, Blow, Place, gives_permission
from tests.end_to_end.stopped_calls import Call, Moment, Start

MOST_CALLS = 3  # without faults, until the result is there


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
            _strike(name, Blow(place, None, chance, truth.run_id))
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
        told |= followed(call)
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


def bound_by_permissions() -> None:
    """For root no file is read-only, until it gives up two capabilities: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""
    libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # the effective one comes first
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << 1 | 1 << 2)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--only", type=int, help="the number of one run, with all that it said")
    parser.add_argument("--image", action="store_true", help="on a disk of 24 MB; needs root")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a disk is to be unmounted
    bound_by_permissions()
    torch.set_num_threads(1)
    recorder.HEARTBEAT_SECONDS = 0.01
    execution.WAIT_SECONDS = 0.1
    os.environ[lease.BEAT] = "0.1"
    endings = []
    with a_place(asked.image) as place:
        truth = Truth(place)
        for number in range(asked.first, asked.first + asked.runs) if asked.only is None else [asked.only]:
            ending = disturbed(place, truth, random.Random(f"{asked.seed} {number}"))
            endings.append(ending)
            if ending.wrong or asked.only is not None:
                print(f"run {number}: {ending.wrong or ending.how}", *ending.story, sep="\n  ", flush=True)
    print(table(endings))
    wrong = sum(bool(ending.wrong) for ending in endings)
    print(f"{len(endings)} runs, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
