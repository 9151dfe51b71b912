"""Whether a call, and a disturbed run as a whole, ended as it should."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.end_to_end.fault_kinds import KILLED, Place
from tests.end_to_end.stopped_calls import Call
from tests.end_to_end.whole_runs import TIMED

KILLS = {KILLED: -9, "SIGTERM sent": -15, "SIGHUP sent": -1, "terminal closed": -1, "symbols.bin damaged": -7}
"""The statuses of a process that a signal ends. A mapped file that is cut ends its reader with SIGBUS."""


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
        kept = [place for place, name in enumerate(lines[0]) if name not in TIMED]
        parts["metrics.csv"] = [[line[place] for place in kept] for line in lines]
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
    if status not in (0, 1, 2, 130) and status not in [KILLS.get(name) for name in struck]:
        return f"exit status {status}"
    if "Traceback" in said:
        return "a traceback"
    if status in (1, 2) and readable and len(errors) != 1:
        return f"{len(errors)} lines with an error"
    for path in (place.folder / place.store).rglob("*"):
        if path.suffix in (".json", ".ckpt") and path.is_file() and path not in place.hurt and not _whole(path):
            return f"half of {path.name}"
    return ""


def _whole(path: Path) -> bool:
    try:
        json.loads(path.read_text()) if path.suffix == ".json" else torch.load(path, weights_only=True)
    except Exception:
        return False
    return True


def followed(call: Call) -> bool:
    """Does what the line of an error says. Whether it says what this person understands."""
    damaged = re.search(r"error: (/[^;]+\.ckpt) .*move it away", call.said)
    in_the_way = re.search(r"Is a directory: '?(/[^';]+)", call.said)
    found = damaged or in_the_way
    if not found or not Path(found[1]).exists():
        return False
    Path(found[1]).rename(f"{found[1]}.away")
    return True
