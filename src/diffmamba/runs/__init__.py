"""Works and their runs: parts, identity, store, claims, records, execution."""

from diffmamba.runs.store import Record, Run, RunStore, RunTakenError

__all__ = ["Record", "Run", "RunStore", "RunTakenError"]
