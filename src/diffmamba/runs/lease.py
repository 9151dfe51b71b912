"""Who works on a run: leases, which hold on a disk that several machines share, without locks and without their clocks.

    .leases/3f2a9c01b7de                 the lease of a run: a counter, and a line that says who holds it
    .leases/3f2a9c01b7de.after-TOKEN     the lease that follows the one with this token, whose owner has died

A lease is a file that one process alone can make (O_CREAT with O_EXCL). Each successor is named by the token of the
lease before it, so they form a chain, and who has the end of the chain holds the run. After it has made its file, a
process looks again: if its file is not the end, or the lease before has changed, it holds nothing. To release, the
first file of the chain goes first; what then remains is not reached from there, and means nothing.

The owner changes the counter every few seconds (a beat). Others look, and measure by their own clock for how long a
lease has not changed: after six beats its owner is dead. A process of the same machine is dead as soon as it is gone.
No time of day and no time of a file is compared.

An owner that was stopped for so long may have lost its lease without knowing. So it looks at the disk before it
replaces a file of the run (`Lease.require`).
"""

import errno
import json
import os
import platform
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.errors import SettingError

BEAT = "DIFFMAMBA_BEAT_SECONDS"
"""In the environment: seconds between two beats of the leases that this process takes."""
BEAT_SECONDS = 10.0
LONGEST_BEAT_SECONDS = 600.0  # of a lease that another process has written
BEATS_UNTIL_DEAD = 6
BEATS_KNOWN = 2  # for so long an owner need not look at the disk; others take over after three times as long
AFTER = ".after-"
TOKEN = re.compile("[0-9a-f]{32}")
TOLD = ("token", "host", "pid", "started", "where", "beat")
"""What a lease says after its counter. Later versions may say more."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)  # ESTALE: removed by another machine while it was read
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Of an owner: one that goes on while the machine is suspended."""


class RunTakenError(RuntimeError):
    """Another process works on this run."""

    undecided = False
    """Whether it is not known yet if that process lives: whoever asks again for six beats will know."""


class LostLeaseError(RunTakenError):
    """This process does not hold its run any more, and is to write nothing more for it."""


@dataclass(frozen=True)
class Holder:
    """A lease as somebody finds it. A file that is empty or damaged has no token, and nobody knows its owner.

    Args:
        path: the file.
        counter: the number of beats; of a damaged file its whole content.
        token: names this lease among all that ever were.
        host: name of the owner's machine.
        pid: the owner's process.
        started: when that process started, in clock ticks of its machine; None where it cannot be known.
        where: names the machine, since it was started, and the namespace of its processes; None where that is unknown.
        beat: seconds between two beats.
    """

    path: Path
    counter: str
    token: str = ""
    host: str = ""
    pid: int = 0
    started: int | None = None
    where: str | None = None
    beat: float = BEAT_SECONDS

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.token else "its lease is damaged and does not say which"


@dataclass(frozen=True)
class _Look:
    """What this process has seen of a lease: its state, when it looked last, how long that state has lasted since."""

    token: str
    counter: str
    at: float
    still: float
    beats: bool  # it has changed since the first look


_looks: dict[Path, _Look] = {}
_held: set[str] = set()
"""The tokens of the leases that this process holds."""


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
        _held.discard(self.token)
        with suppress(OSError):  # others then wait until it is dead
            successors = _successors(self.directory, self.name)
            if self.is_held():
                for path in (self.directory / self.name, *successors):
                    path.unlink(missing_ok=True)

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
                    os.pwrite(descriptor, _counted(count), 0)
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
    if chain and not _is_dead(chain[-1]):
        raise _taken(name, chain[-1])
    if not chain:
        for path in unreached:
            path.unlink(missing_ok=True)
    path = directory / (f"{name}{AFTER}{_mark(chain)}" if chain else name)
    lease = Lease(directory, name, secrets.token_hex(16), _own_beat())
    _held.add(lease.token)  # before others of this process see the file
    try:
        descriptor = _made(lease, path, chain)
    except BaseException:
        _held.discard(lease.token)
        raise
    lease.keep(descriptor)
    return lease


def _made(lease: Lease, path: Path, chain: list[Holder]) -> int:
    """The open file of a lease that follows this chain. Raises RunTakenError where another process was faster."""
    try:
        descriptor = atomic.create(path, _content(lease))
    except FileExistsError:
        raise _taken(lease.name, next(reversed(_chain(lease.directory, lease.name)), None)) from None
    try:
        now = _chain(lease.directory, lease.name)
        if not now or now[:-1] != chain or now[-1].token != lease.token:
            raise _taken(lease.name, now[-1] if now else None)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def holder(directory: Path, name: str) -> Holder | None:
    """Who holds a name: None if nobody does, or an owner that is known to be dead. Writes nothing."""
    chain = _chain(directory, name)
    return chain[-1] if chain and not _is_dead(chain[-1]) else None


def names(directory: Path) -> list[str]:
    """The names that have a lease, of a process that lives or not: all of them by one look. Writes nothing."""
    try:
        return [name for name in os.listdir(directory) if AFTER not in name]
    except OSError:  # nobody ever held one, or they cannot be seen
        return []


def _taken(name: str, by: Holder | None) -> RunTakenError:
    who = f": {by}" if by else ""
    error = RunTakenError(f"run {name} is worked on by another process{who}")
    error.undecided = by is not None and _is_dead(by) is None
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
    found = _read(directory / name)
    while found is not None:
        chain.append(found)
        marks = dict.fromkeys((_mark(chain), _mark(chain, damaged=True)))  # it was taken over before it was whole
        successors = (_read(directory / f"{name}{AFTER}{mark}") for mark in marks)
        found = next((one for one in successors if one is not None), None)
    return chain


def _mark(chain: list[Holder], damaged: bool = False) -> str:
    """What the successor of a chain's end has in its name."""
    return chain[-1].token if chain[-1].token and not damaged else f"damaged-{len(chain)}"


def _successors(directory: Path, name: str) -> list[Path]:
    return list(directory.glob(f"{name}{AFTER}*"))


def _read(path: Path) -> Holder | None:
    """The lease in a file; None if there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    counter, _, rest = text.partition("\n")
    try:
        told = json.loads(rest) if rest.endswith("\n") else {}
        found = Holder(path, counter, **{key: told[key] for key in TOLD if key in told})
        is_whole = TOKEN.fullmatch(found.token) and 0 < found.pid < 2**31 and 0 < found.beat <= LONGEST_BEAT_SECONDS
    except (ValueError, TypeError, RecursionError):
        is_whole = False
    return found if is_whole else Holder(path, text)


def _content(lease: Lease) -> bytes:
    own = os.getpid()
    started = (_status(own) or (None, None))[1]
    told = dict(zip(TOLD, (lease.token, platform.node(), own, started, _where(), lease.beat), strict=True))
    return _counted(0) + json.dumps(told).encode() + b"\n"


def _counted(count: int) -> bytes:
    return f"{count:020d}\n".encode()


def _is_dead(found: Holder) -> bool | None:
    """Whether the owner of a lease is dead; None if this process has not watched it for long enough to know."""
    here = _where()
    is_near = bool(found.token) and here is not None and found.where == here
    if is_near and not _lives(found):
        return True
    now, before = time.monotonic(), _looks.get(found.path)
    if before is None or before.token != found.token:
        look = _Look(found.token, found.counter, now, 0.0, beats=False)
    elif before.counter != found.counter:
        look = _Look(found.token, found.counter, now, 0.0, beats=True)
    else:  # this process may have been stopped itself: between two looks it has watched for a beat at most
        still = before.still + min(now - before.at, found.beat)
        look = _Look(found.token, found.counter, now, still, before.beats)
    _looks[found.path] = look
    if look.still >= BEATS_UNTIL_DEAD * found.beat:
        return True
    return False if is_near or look.beats else None


def _lives(found: Holder) -> bool:
    """Whether the owner of a lease is a process of this machine that is still there."""
    if found.pid == os.getpid():
        return found.token in _held
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    status = _status(found.pid)
    return status is None or (status[0] not in "ZX" and status[1] == found.started)


def _status(pid: int) -> tuple[str, int] | None:
    """The state of a process and when it started, from Linux's list of processes; None where there is no such list."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _where() -> str | None:
    """Names this machine since it was started, and the namespace of its processes; None where it cannot be known."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # the list of another namespace
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _own_beat() -> float:
    text = os.environ.get(BEAT) or str(BEAT_SECONDS)
    with suppress(ValueError):
        if 0 < float(text) <= LONGEST_BEAT_SECONDS:
            return float(text)
    raise SettingError(f"{BEAT}={text} must be seconds, more than 0 and at most {LONGEST_BEAT_SECONDS:.0f}")
