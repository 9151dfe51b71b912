"""What the W&B server of the tests answers to `wandb sweep` and `wandb agent`: a grid, or random values."""

import itertools
import json
import random

import yaml

from tests.wandb_kept import Kept, RunSent, SweepSent
from tests.wandb_operations import ENTITY, Data, Variables, answers


@answers("UpsertSweep")
def upsert_sweep(kept: Kept, variables: Variables) -> Data:
    config = yaml.safe_load(variables["config"])
    name = f"sweep{len(kept.sweeps)}"
    kept.sweeps[name] = SweepSent(name, variables["projectName"], config, _waiting(config))
    project = {"id": "p", "name": variables["projectName"], "entity": {"id": ENTITY, "name": ENTITY}}
    return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}


def _waiting(config: Data) -> list[Data]:
    """The settings of all runs: a grid in its order, or as many random ones as the sweep may have."""
    parameters = config["parameters"]
    if config["method"] == "grid":
        return [
            dict(zip(parameters, values, strict=True))
            for values in itertools.product(*map(_values, parameters.values()))
        ]
    drawn = random.Random(0)
    return [{name: _drawn(told, drawn) for name, told in parameters.items()} for _ in range(config["run_cap"])]


def _values(parameter: Data) -> list[object]:
    return parameter["values"]


def _drawn(parameter: Data, drawn: random.Random) -> object:
    return (
        drawn.choice(parameter["values"])
        if "values" in parameter
        else drawn.uniform(parameter["min"], parameter["max"])
    )


@answers("SweepWithRuns")
def sweep_with_runs(kept: Kept, variables: Variables) -> Data:
    sweep = kept.sweeps[variables["sweep"]]
    told = {"id": sweep.id, "name": sweep.id, "method": sweep.config["method"], "state": "RUNNING"}
    unused = dict.fromkeys(("description", "heartbeatAt", "updatedAt", "earlyStopJobRunning", "bestLoss"))
    more = {"config": yaml.safe_dump(sweep.config), "createdAt": "2026-11-27T00:00:00Z", "runs": {"edges": []}}
    return {"project": {"sweep": {**told, **unused, **more, "controller": None, "scheduler": None}}}


@answers("CreateAgent")
def create_agent(kept: Kept, variables: Variables) -> Data:
    return {"createAgent": {"agent": {"id": f"agent/{variables['sweep']}"}}}


@answers("Heartbeat")
def heartbeat(kept: Kept, variables: Variables) -> Data:
    """One run at a time, which the server makes before the agent starts it; then the end."""
    sweep = kept.sweeps[variables["id"].removeprefix("agent/")]
    commands: list[Data] = []
    if not json.loads(variables["runState"]):
        commands = [_next(kept, sweep)] if sweep.waiting else [{"type": "exit"}]
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}


def _next(kept: Kept, sweep: SweepSent) -> Data:
    settings, name = sweep.waiting.pop(0), f"{sweep.id}-run{len(sweep.given)}"
    sweep.given[name] = settings
    kept.runs[sweep.project, name] = RunSent(ENTITY, sweep.project, name, sweep=sweep.id, config=dict(settings))
    arguments = {key: {"value": value} for key, value in settings.items()}
    return {"type": "run", "run_id": name, "program": sweep.config["program"], "args": arguments}
