"""How far the encoding of a corpus has come, kept on disk so that an interrupted one goes on from there.

    provisional.bin   the provisional integers
    learnt.txt        what the symbol system has learnt, an entry to a line; both files only grow
    journal.json      whose they are, how much of them counts, where the source is to be read on, the system's state

The journal is replaced at once, after the two files have reached the disk. Whatever they hold beyond it was written by
a process that died before its next save, and is cut off.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffmamba.data.sources import Source
from diffmamba.data.systems import SymbolSystem

FORMAT = 1  # raise it when a source's pieces are cut elsewhere or a system's state has another meaning
SAVE_EVERY = 16 << 20  # bytes of input
FILES = ("provisional.bin", "learnt.txt", "journal.json")


@dataclass
class Position:
    """Where to go on."""

    part: int = 0
    """Parts that are done."""
    piece: int = 0
    """Pieces done of the next part."""
    read: int = 0
    """Bytes of input so far."""
    ends: list[int] = field(default_factory=list)
    """Symbols written when each of the parts was done."""
    written: int = 0
    """Bytes of provisional.bin."""
    learnt: int = 0
    """Bytes of learnt.txt."""


class Journal:
    """The encoding of one source by one symbol system in one folder.

    Args:
        folder: holds the three files, or will.
        owner: what the source and the system are, as JSON; the files of another owner are overwritten.
        system: fresh; takes up the state in the journal.
    """

    def __init__(self, folder: Path, owner: dict[str, Any], system: SymbolSystem) -> None:
        self._provisional, self._learnt, self._path = (folder / name for name in FILES)
        self._owner = json.loads(json.dumps({"journal": FORMAT, **owner}))
        self._system = system
        self.position, state = self._read()
        self._saved = self.position.read
        for path, length in ((self._provisional, self.position.written), (self._learnt, self.position.learnt)):
            path.touch()
            os.truncate(path, length)
        entries = self._learnt.read_bytes().decode().split("\n")[:-1]
        self._entries = len(entries)
        if state is not None:
            system.restore(state, entries)

    def encode(self, source: Source) -> Iterator[Position]:
        """Encodes what is not encoded yet; yields the position after each piece and at the end of each part."""
        position = self.position
        with self._provisional.open("ab") as integers, self._learnt.open("ab") as learnt:
            for part in source.parts[position.part :]:
                for piece in source.pieces(part, position.piece):
                    integers.write(self._system.encode(piece).data)
                    position.piece += 1
                    position.read += len(piece)
                    if position.read - self._saved >= SAVE_EVERY:
                        self._save(integers, learnt)
                    yield position
                integers.write(self._system.end().data)
                position.ends.append(integers.tell() // np.dtype(self._system.provisional_type).itemsize)
                position.part, position.piece = position.part + 1, 0
                yield position
            self._save(integers, learnt)

    def _read(self) -> tuple[Position, dict[str, Any] | None]:
        """Position and state of the symbol system in the journal; the start and None if there is none to go on from."""
        try:
            journal = json.loads(self._path.read_text(encoding="utf-8"))
            position = Position(**journal["position"])
            intact = (
                self._provisional.stat().st_size >= position.written and self._learnt.stat().st_size >= position.learnt
            )
            if intact and journal["owner"] == self._owner:
                return position, journal["state"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no journal, or none of ours
        return Position(), None

    def _save(self, integers: IO[bytes], learnt: IO[bytes]) -> None:
        entries = self._system.learnt(self._entries)
        learnt.write("".join(f"{entry}\n" for entry in entries).encode())
        self._entries += len(entries)
        for file in (integers, learnt):
            file.flush()
            os.fsync(file.fileno())
        self.position.written, self.position.learnt = integers.tell(), learnt.tell()
        self._saved = self.position.read
        record = {"owner": self._owner, "position": asdict(self.position), "state": self._system.state()}
        with replaced(self._path) as file:
            file.write(json.dumps(record).encode())


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` at the end, so that no reader sees half of it."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
