"""The token of a run store: a few characters that no other store has.

Two stores may hold a run of one id. Outside of them, in W&B, the token tells these apart. It lies in the store, so it
stays where the store is moved or copied as a whole.
"""

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from diffmamba import atomic

FILE = ".token"
TOKEN = re.compile(r"[0-9a-f]{6}")
WAIT_SECONDS = 1.0  # for the process that made the file an instant ago to write its content


def store_token(store: Path) -> str:
    """The token of a store, which gets one now if it has none. Of several processes one makes it.

    Raises OSError where there is none and none can be written.
    """
    path = store / FILE
    with suppress(FileExistsError):
        if not path.exists():
            os.close(atomic.create(path, _new()))
    for _ in range(100):
        if TOKEN.fullmatch(found := path.read_text(encoding="ascii", errors="replace")):
            return found
        time.sleep(WAIT_SECONDS / 100)
    atomic.write(path, _new())  # its writer was killed
    return path.read_text(encoding="ascii")


def _new() -> bytes:
    return secrets.token_hex(3).encode()
