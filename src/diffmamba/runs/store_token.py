"""The token of a run store: a few characters that no other store has.

Two stores may hold a run of one id. Outside of them, in W&B, the token tells these apart. It lies in the store, so it
stays where the store is moved or copied as a whole.
"""

import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from diffmamba import atomic

FILE = ".token"
TOKEN = re.compile(r"[0-9a-f]{6}")


def store_token(store: Path) -> str:
    """The token of a store, which gets one now if it has none. Of several processes one makes it.

    Raises OSError where there is none and none can be written.
    """
    path = store / FILE
    with suppress(FileExistsError):
        if not path.exists():
            atomic.create_whole(path, secrets.token_hex(3).encode())
    with path.open(encoding="ascii", errors="replace") as file:
        found, told = file.read(), os.fstat(file.fileno())
    if not TOKEN.fullmatch(found):  # damaged: all who see this file make the same of it
        found = hashlib.sha256(f"{told.st_ino} {told.st_mtime_ns}".encode()).hexdigest()[:6]
        atomic.write(path, found)
    return found
