"""What the W&B server of the tests was sent, in plain Python for tests to look at."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunSent:
    """A run as the client sent it."""

    entity: str
    project: str
    id: str
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    sweep: str | None = None
    state: str = "running"
    config: dict[str, Any] = field(default_factory=dict)
    """Values by their name; the client's own entry is under `_wandb`."""
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    """Of each streamed file, what each line says. The client says which line it is."""
    sent_lines: int = 0
    """Rows of its history that were sent, also where a line took the place of an earlier one."""
    exit_code: int | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Where each uploaded file is in the storage."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its rows in their order."""
        return [json.loads(line) for _, line in sorted(self.lines.get("wandb-history.jsonl", {}).items())]

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.lines.get("wandb-summary.json", {}).get(0, "{}"))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What `define_metric` said, each as the numbered fields of the client's own message."""
        return self.config.get("_wandb", {}).get("m", [])


@dataclass
class ArtifactSent:
    """An artifact as the client sent it."""

    id: str
    type: str
    name: str
    run: str
    metadata: dict[str, Any]
    aliases: list[str]
    description: str | None = None
    committed: bool = False
    files: dict[str, str] = field(default_factory=dict)
    """Where each of its files is in the storage."""


@dataclass
class SweepSent:
    """A sweep as the client sent it, and what its agents were told to run."""

    id: str
    project: str
    config: dict[str, Any]
    waiting: list[dict[str, Any]]
    """The settings of the runs that no agent was given yet."""
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The settings of the runs that an agent was given, by their id."""


@dataclass
class Kept:
    """All that the server was sent."""

    runs: dict[tuple[str, str], RunSent] = field(default_factory=dict)
    """By project and id."""
    artifacts: list[ArtifactSent] = field(default_factory=list)
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """The name and the variables of every operation asked for, in order."""
    unknown: list[str] = field(default_factory=list)
    """The text of every operation that nothing answers, and the address of every other request that does not."""
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Workspaces and reports by their id, each as it was last saved, with its `spec` as data."""
    sweeps: dict[str, "SweepSent"] = field(default_factory=dict)
    """By their id."""
    storage: dict[str, bytes] = field(default_factory=dict)
    """Uploads, by their place."""
    address: str = ""
    """The server's own, below which the uploads go."""

    def asked(self, name: str) -> list[dict[str, Any]]:
        """The variables of each request for an operation."""
        return [variables for asked, variables in self.operations if asked == name]

    def file(self, run: RunSent, name: str) -> bytes:
        return self.storage[run.files[name]]
