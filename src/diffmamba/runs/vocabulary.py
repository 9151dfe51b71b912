"""What the symbols of a run mean, kept in the run's directory: its weights are of use without the text.

`vocabulary.json` is the `symbols` of the data that a training reads. Runs without it are older ones, and those on data
whose integers mean nothing beyond themselves.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from diffmamba import atomic
from diffmamba.data import Data
from diffmamba.runs.store import Run

NAME = "vocabulary.json"

log = logging.getLogger(__name__)


def keep(run: Run, data: Data) -> None:
    """Writes the vocabulary of a training's data into the directory of its run."""
    if data.symbols is not None:
        atomic.write_json(run.directory / NAME, {**data.symbols, "sha256": _digest(data.symbols)})


def _digest(symbols: Mapping[str, Any]) -> str:
    further = [symbols["tokenizer"]] if "tokenizer" in symbols else []
    return hashlib.sha256(json.dumps([symbols["system"], symbols["symbols"], *further]).encode()).hexdigest()


def kept(run: Run, size: int) -> Mapping[str, Any] | None:
    """The vocabulary of so many symbols that a run keeps; None if there is none, or a damaged one."""
    path = run.directory / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("sha256") == _digest(found) and len(found["symbols"]) == found["size"] == size:
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    log.warning("%s is damaged; the vocabulary is taken from the run's corpus", path)
    return None
