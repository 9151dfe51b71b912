"""A store of records that were never trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmamba.runs.store import RunStore

METRICS = {"ppl": {"label": "PPL", "better": "lower", "digits": 3}, "loss": {"label": "nats", "digits": 4}}
ENDED = "2026-11-26T10:00:00+00:00"


@dataclass(frozen=True)
class Shelf:
    """A store, and what is put into it."""

    directory: Path

    @property
    def store(self) -> RunStore:
        return RunStore(self.directory)

    def put(self, name: str, /, ppl: float | None = 5.0, settings: dict[str, Any] | None = None, **record: Any) -> Path:
        """A training, finished unless told otherwise. `settings` are dotted names. Returns its record's file."""
        config: dict[str, Any] = {
            **{"model": {"name": "mamba", "dropout": 0.0}, "data": {"name": "pydoc8"}, "scale": {"name": "smoke"}},
            **{"optimizer": {"learning_rate": 0.001}, "seed": 0, "runs": str(self.directory)},
        }
        for dotted, value in (settings or {}).items():
            node, *path = config, *dotted.split(".")
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value
        evaluations = [{"step": 4, "test/ppl": ppl + 1, "test/loss": 2.0}, {"step": 8, "test/ppl": ppl}] if ppl else []
        content = {
            **{"schema": 2, "kind": "training", "id": name, "status": "finished", "config": config, "error": None},
            **{"started": ENDED, "finished": ENDED, "wall_seconds": 12.0, "evaluations": evaluations},
            **{"task": {"name": "Task", "headline": "test/ppl", "metrics": METRICS}},
            **{"progress": {"step": 8, "steps": 8}, "hardware": {"host": "here"}, "versions": {"torch": "2"}},
            **record,
        }
        path = self.directory / name / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    def checkpoint(self, name: str, size: int = 1000) -> Path:
        path = self.directory / name / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        return path

    def names(self) -> list[str]:
        """Every file and directory in it, but the index and what belongs to the claims."""
        found = (str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))
        return sorted(name for name in found if "index" not in name and "lock" not in name and "lease" not in name)
