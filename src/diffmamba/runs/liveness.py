"""What a lease says of its owner, and whether that one lives: a judgement that trusts no clock of another machine.

A process of the same machine and namespace is dead as soon as it is gone. Any owner is dead when its lease has not
changed for six of its own beats, by the clock of the process that watches it. No time of day is compared, and no time
of a file.
"""

import errno
import json
import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BEAT_SECONDS = 10.0
LONGEST_BEAT_SECONDS = 600.0  # of a lease that another process has written
BEATS_UNTIL_DEAD = 6
TOKEN = re.compile("[0-9a-f]{32}")
TOLD = ("token", "host", "pid", "started", "where", "beat")
"""What a lease says after its counter. Later versions may say more."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)  # ESTALE: removed by another machine while it was read


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
held: set[str] = set()
"""The tokens of the leases that this process holds."""


def read(path: Path) -> Holder | None:
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


def content(token: str, beat: float) -> bytes:
    """The content of a new lease of this process."""
    status = status_of(os.getpid())
    values = (token, platform.node(), os.getpid(), status and status.started, where(), beat)
    return counted(0) + json.dumps(dict(zip(TOLD, values, strict=True))).encode() + b"\n"


def counted(beats: int) -> bytes:
    """The first line of a lease, which always has the same length."""
    return f"{beats:020d}\n".encode()


def forget(*paths: Path) -> None:
    """Files of these names that are seen from now on are other leases."""
    for path in paths:
        _looks.pop(path, None)


def is_dead(found: Holder) -> bool | None:
    """Whether the owner of a lease is dead; None if this process has not watched it for long enough to know."""
    here = where()
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
        return found.token in held
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    status = status_of(found.pid)
    return status is None or (status.started == found.started and not status.is_over)


class _Status(NamedTuple):
    """Of a process: when it started, in clock ticks, and whether it has ended and only waits to be asked how."""

    started: int
    is_over: bool


def status_of(pid: int) -> _Status | None:
    """From Linux's list of processes; None where there is no such list."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        threads_ended = int(fields[17]) <= 1  # a killed process may show as a zombie while its threads still end
        return _Status(int(fields[19]), fields[0] in (b"Z", b"X") and threads_ended)
    except (OSError, IndexError, ValueError):
        return None


def where() -> str | None:
    """Names this machine since it was started, and the namespace of its processes; None where it cannot be known."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # the list of another namespace
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
