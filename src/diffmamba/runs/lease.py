"""Who works on a run: leases, which hold on a disk that several machines share, without locks and without their clocks.

    .leases/3f2a9c01b7de                 the lease of a run: a counter, and a line that says who holds it
    .leases/3f2a9c01b7de.after-TOKEN     the lease that follows the one with this token, whose owner has died

A lease is a file that one process alone can make (O_CREAT with O_EXCL). Each successor is named by the token of the
lease before it, so they form a chain, and who has the end of the chain holds the run. After it has made its file, a
process looks again: if its file is not the end, or the lease before has changed, it holds nothing. To release, the
first file of the chain goes first; what then remains is not reached from there, and means nothing.

The owner changes the counter every few seconds (a beat). Others see by that whether it lives: see `liveness`. An owner
that was stopped for long may have lost its lease without knowing. So it looks at the disk before it replaces a file of
the run (`Lease.require`).
"""

import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs.liveness import (
    BEAT_SECONDS,
    GONE,
    LONGEST_BEAT_SECONDS,
    Holder,
    content,
    counted,
    forget,
    held,
    is_dead,
    read,
)

BEAT = "DIFFMAMBA_BEAT_SECONDS"
"""In the environment: seconds between two beats of the leases that this process takes."""
BEATS_KNOWN = 2  # for so long an owner need not look at the disk; others take over after three times as long
AFTER = ".after-"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Of an owner: one that goes on while the machine is suspended."""


class RunTakenError(RuntimeError):
    """Another process works on this run."""

    undecided = False
    """Whether it is not known yet if that process lives: whoever asks again for six beats will know."""


class LostLeaseError(RunTakenError):
    """This process does not hold its run any more, and is to write nothing more for it."""


class Lease:
    """A run that this process holds, or, where it was pickled, that the process holds which this one works for."""

    def __init__(self, directory: Path, name: str, token: str, beat: float):
        self.directory = directory
        self.name = name
        self.token = token
        self.beat = beat
        self._is_lost = False
        self._known = -float("inf")  # when it was last known that this is the end of the chain
        self._over = threading.Event()
        self._owner = 0  # the process that beats

    def __reduce__(self) -> tuple[Any, ...]:
        return Lease, (self.directory, self.name, self.token, self.beat)

    def is_held(self) -> bool:
        """Whether the disk says so. Raises OSError where it says nothing."""
        chain = _chain(self.directory, self.name)
        return bool(chain) and chain[-1].token == self.token

    def require(self, lately: bool = False) -> None:
        """Raises LostLeaseError where the lease was lost.

        It looks at the disk; or, with `lately`, only if the last beat, or the last look, is two beats ago. Raises
        OSError where the disk cannot be read, and so much time has passed that another process may have taken over.
        """
        now, owner = time.clock_gettime(_CLOCK), self._owner == os.getpid()
        is_known = now - self._known < BEATS_KNOWN * self.beat and not self._is_lost
        if lately and is_known:
            return
        try:
            self._is_lost = self._is_lost or not self.is_held()
        except OSError:
            if owner and is_known:
                return
            raise
        if self._is_lost:
            raise LostLeaseError(f"run {self.name} is no longer held by this process, which leaves it: {self._why()}")
        if not owner:
            self._known = now

    def release(self) -> None:
        """Lets go of the run. Does nothing in a copy of the process that took it."""
        if self._owner != os.getpid():
            return
        self._over.set()
        try:
            successors = _successors(self.directory, self.name)
            if self.is_held():
                for path in (self.directory / self.name, *successors):
                    path.unlink(missing_ok=True)
        except OSError:  # the lease is dead when this process takes it again, or does not beat for long enough
            pass
        finally:
            held.discard(self.token)  # not before: others of this process would take over a lease that then goes

    def keep(self, descriptor: int) -> None:
        """Beats from now on, into this open file: so it never writes into the lease of another process."""
        self._owner = os.getpid()
        self._known = time.clock_gettime(_CLOCK)
        threading.Thread(target=self._beat, args=(descriptor,), name=f"lease {self.name}", daemon=True).start()

    def _beat(self, descriptor: int) -> None:
        count = 0
        try:
            while not self._over.wait(self.beat):
                began, count = time.clock_gettime(_CLOCK), count + 1
                with suppress(OSError):  # tried again with the next beat
                    os.pwrite(descriptor, counted(count), 0)
                    os.fsync(descriptor)
                    if not self.is_held():  # after the counter: who takes over looks at that last
                        self._is_lost = True
                        return
                    self._known = began
        finally:
            os.close(descriptor)

    def _why(self) -> str:
        with suppress(OSError):
            chain = _chain(self.directory, self.name)
            if any(holder.token == self.token for holder in chain):
                return f"it showed no sign of life, and {chain[-1]} has taken over"
            if chain:
                return f"its lease was removed, and the run is held by {chain[-1]}"
        return f"its lease {self.directory / self.name} was removed"


def take(directory: Path, name: str) -> Lease:
    """The lease of a name, if nobody else has it or its owner is dead. Looks once, and does not wait.

    Raises RunTakenError where another process has it, and OSError where the disk cannot be written.
    """
    unreached = _successors(directory, name)  # before the chain: without a first lease they mean nothing
    chain = _chain(directory, name)
    if chain and not is_dead(chain[-1]):
        raise _taken(name, chain[-1])
    path = _after(directory, name, _mark(chain[-1])) if chain else directory / name
    lease = Lease(directory, name, secrets.token_hex(16), _own_beat())
    held.add(lease.token)  # before others of this process see the file
    try:
        void = [_after(directory, name, _mark_of_damaged(path))] if chain else unreached
        descriptor = _made(lease, path, chain, void)
    except BaseException:
        held.discard(lease.token)
        raise
    forget(path, *(one.path for one in chain))
    lease.keep(descriptor)
    return lease


def _made(lease: Lease, path: Path, chain: list[Holder], void: list[Path]) -> int:
    """The open file of a lease that follows this chain. Raises RunTakenError where another process was faster.

    `void` are files that were left over: they were reached from nowhere before this file was there.
    """
    try:
        descriptor = atomic.create(path, content(lease.token, lease.beat))
    except FileExistsError:
        raise _taken(lease.name, next(reversed(_chain(lease.directory, lease.name)), None)) from None
    now: list[Holder] = []
    try:
        for leftover in void:
            leftover.unlink(missing_ok=True)
        now = _chain(lease.directory, lease.name)
        if not now or now[:-1] != chain or now[-1].token != lease.token:
            raise _taken(lease.name, now[-1] if now else None)
    except BaseException:
        os.close(descriptor)
        if all(one.token != lease.token for one in now[:-1]):  # or another lease follows it already
            path.unlink(missing_ok=True)
        raise
    return descriptor


def holder(directory: Path, name: str) -> Holder | None:
    """Who holds a name: None if nobody does, or an owner that is known to be dead. Writes nothing."""
    chain = _chain(directory, name)
    return chain[-1] if chain and not is_dead(chain[-1]) else None


def names(directory: Path) -> list[str]:
    """The names that have a lease, of a process that lives or not: all of them by one look. Writes nothing."""
    try:
        return [name for name in os.listdir(directory) if AFTER not in name]
    except OSError:  # nobody ever held one, or they cannot be seen
        return []


def _taken(name: str, by: Holder | None) -> RunTakenError:
    who = f": {by}" if by else ""
    error = RunTakenError(f"run {name} is worked on by another process{who}")
    error.undecided = by is not None and is_dead(by) is None
    return error


def _chain(directory: Path, name: str) -> list[Holder]:
    """The leases of a name, from the first to the end. None of them if the first is not there."""
    try:
        os.close(os.open(directory, os.O_RDONLY))  # a network disk then asks its server which files there are
    except OSError as error:
        if error.errno in GONE:
            return []
        raise
    chain: list[Holder] = []
    found = read(directory / name)
    while found is not None:
        chain.append(found)
        marks = dict.fromkeys((_mark(found), _mark_of_damaged(found.path)))  # it was taken over before it was whole
        successors = (read(_after(directory, name, mark)) for mark in marks)
        found = next((one for one in successors if one is not None), None)
    return chain


def _mark(before: Holder) -> str:
    """What a lease has in its name that follows this one."""
    return before.token or _mark_of_damaged(before.path)


def _mark_of_damaged(path: Path) -> str:
    """What a lease has in its name that follows this one, where it was damaged."""
    return f"{path.name.partition(AFTER)[2]}-damaged"


def _after(directory: Path, name: str, mark: str) -> Path:
    return directory / f"{name}{AFTER}{mark}"


def _successors(directory: Path, name: str) -> list[Path]:
    """All leases that followed another one, reached or not."""
    return [directory / found for found in os.listdir(directory) if found.startswith(f"{name}{AFTER}")]


def _own_beat() -> float:
    text = os.environ.get(BEAT) or str(BEAT_SECONDS)
    with suppress(ValueError):
        if 0 < float(text) <= LONGEST_BEAT_SECONDS:
            return float(text)
    raise SettingError(f"{BEAT}={text} must be seconds, more than 0 and at most {LONGEST_BEAT_SECONDS:.0f}")
