"""What the W&B server of the tests answers to the operations that a logged run and its artifacts take."""

import json
from collections.abc import Callable
from typing import Any

from tests.wandb_kept import ArtifactSent, Kept, RunSent

ENTITY = "tester"
"""Whose account the server says it is."""

Variables = dict[str, Any]
Data = dict[str, Any]
Operation = Callable[[Kept, Variables], Data]
"""Takes what was kept and the variables, and returns the `data` of the answer. KeyError: there is no such thing."""
OPERATIONS: dict[str, Operation] = {}


def answers(name: str) -> Callable[[Operation], Operation]:
    """Makes a function the answer to an operation of this name. Tests may add theirs."""

    def added(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return added


@answers("Viewer")
def viewer(kept: Kept, variables: Variables) -> Data:
    return {
        "viewer": {
            "id": "VXNlcjox",
            "entity": ENTITY,
            "username": ENTITY,
            "email": "tester@example.org",
            "flags": "{}",
            "teams": {"edges": []},
        }
    }


@answers("ServerFeaturesQuery")
def server_features_query(kept: Kept, variables: Variables) -> Data:
    return {"serverInfo": {"features": []}}


@answers("OrganizationCoreWeaveOrganizationID")
def organization(kept: Kept, variables: Variables) -> Data:
    return {"entity": {"organization": None}}


@answers("RunResumeStatus")
def run_resume_status(kept: Kept, variables: Variables) -> Data:
    project, name = variables["project"], variables["name"]
    run = kept.runs.get((project, name))
    return {"model": {"id": project, "name": project, "entity": _entity(), "bucket": run and _resumed(run)}}


def _resumed(run: RunSent) -> Data:
    """What a client needs to know to go on with a run."""
    counts = {f"{name}LineCount": len(run.lines.get(file, {})) for name, file in _STREAMED.items()}
    config = {name: {"value": value} for name, value in run.config.items()}
    return counts | {
        "id": run.id,
        "name": run.id,
        "displayName": run.display_name,
        "summaryMetrics": json.dumps(run.summary),
        "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
        "eventsTail": "[]",
        "config": json.dumps(config),
        "tags": run.tags,
        "notes": run.notes,
        "wandbConfig": json.dumps({"t": run.config.get("_wandb", {}).get("t", {})}),
    }


_STREAMED = {"log": "output.log", "history": "wandb-history.jsonl", "events": "wandb-events.jsonl"}


@answers("UpsertBucket")
def upsert_bucket(kept: Kept, variables: Variables) -> Data:
    project, name = variables["project"], variables["name"]
    is_new = (project, name) not in kept.runs
    run = kept.runs.setdefault((project, name), RunSent(variables.get("entity") or ENTITY, project, name))
    told = {"displayName": "display_name", "groupName": "group", "jobType": "job_type", "notes": "notes"}
    for key, attribute in (told | {"tags": "tags", "sweep": "sweep", "state": "state"}).items():
        if variables.get(key) is not None:
            setattr(run, attribute, variables[key])
    if variables.get("config"):
        run.config = {name: entry["value"] for name, entry in json.loads(variables["config"]).items()}
    bucket = {
        "id": run.id,
        "name": run.id,
        "displayName": run.display_name or run.id,
        "description": None,
        "config": variables.get("config"),
        "sweepName": run.sweep,
        "project": {"id": project, "name": project, "entity": _entity()},
        "historyLineCount": len(run.history),
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}


@answers("CreateRunFiles")
def create_run_files(kept: Kept, variables: Variables) -> Data:
    run = kept.runs[variables["project"], variables["run"]]
    places = {name: f"{run.project}/{run.id}/{name}" for name in variables["files"]}
    run.files |= places
    files = [{"name": name, "uploadUrl": _storage(kept, place)} for name, place in places.items()]
    return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}


@answers("MarkRunFilesUploaded")
def mark_run_files_uploaded(kept: Kept, variables: Variables) -> Data:
    return {"markRunFilesUploaded": {"success": True}}


@answers("FetchArtifactDigestAlgorithm")
def fetch_artifact_digest_algorithm(kept: Kept, variables: Variables) -> Data:
    return {"project": {"artifactType": None}}


@answers("ArtifactType")
def artifact_type(kept: Kept, variables: Variables) -> Data:
    """Whether there is an artifact of this name already, and of which type."""
    found = [artifact for artifact in kept.artifacts if artifact.name == variables["name"].partition(":")[0]]
    return {"project": {"artifact": {"artifactType": {"name": found[-1].type}} if found else None}}


@answers("CreateArtifact")
def create_artifact(kept: Kept, variables: Variables) -> Data:
    told = variables["input"]
    aliases = [entry["alias"] for entry in told.get("aliases") or []]
    artifact = ArtifactSent(
        id=f"artifact{len(kept.artifacts)}",
        type=told["artifactTypeName"],
        name=(told.get("artifactCollectionNames") or [told.get("artifactCollectionName")])[0],
        run=told["runName"],
        metadata=json.loads(told.get("metadata") or "{}"),
        aliases=aliases,
        description=told.get("description"),
    )
    kept.artifacts.append(artifact)
    made = {"id": artifact.id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
    return {"createArtifact": {"artifact": made}}


@answers("CreateArtifactManifest")
def create_artifact_manifest(kept: Kept, variables: Variables) -> Data:
    return {"createArtifactManifest": {"artifactManifest": _manifest(kept, variables["artifactID"])}}


@answers("UpdateArtifactManifest")
def update_artifact_manifest(kept: Kept, variables: Variables) -> Data:
    return {"updateArtifactManifest": {"artifactManifest": _manifest(kept, variables["artifactManifestID"])}}


def _manifest(kept: Kept, artifact: str) -> Data:
    place = f"{artifact}/manifest.json"
    return {"id": artifact, "file": {"id": place, "uploadUrl": _storage(kept, place), "uploadHeaders": []}}


@answers("CreateArtifactFiles")
def create_artifact_files(kept: Kept, variables: Variables) -> Data:
    edges = []
    for told in variables["input"]["artifactFiles"]:
        artifact = _artifact(kept, told["artifactID"])
        place = artifact.files[told["name"]] = f"{artifact.id}/{told['name']}"
        node = {"storagePath": place, "uploadUrl": _storage(kept, place), "uploadHeaders": []}
        edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": artifact.id}}})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


@answers("CommitArtifact")
def commit_artifact(kept: Kept, variables: Variables) -> Data:
    artifact = _artifact(kept, variables["artifactID"])
    artifact.committed = True
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": ""}}}


@answers("ArtifactByID")
def artifact_by_id(kept: Kept, variables: Variables) -> Data:
    artifact = _artifact(kept, variables["id"])
    run = next(run for run in kept.runs.values() if run.id == artifact.run)
    project = {"id": run.project, "internalId": run.project, "name": run.project, "entity": {"name": run.entity}}
    versions = [one for one in kept.artifacts if one.name == artifact.name]
    return {
        "artifact": {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": {"__typename": "ArtifactSequence", "name": artifact.name, "project": project},
            "versionIndex": versions.index(artifact),
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED" if artifact.committed else "PENDING",
            "size": sum(len(kept.storage[place]) for place in artifact.files.values()),
            "digest": "",
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "",
            "fileCount": len(artifact.files),
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "aliases": [],
        }
    }


def _artifact(kept: Kept, artifact_id: str) -> ArtifactSent:
    return {artifact.id: artifact for artifact in kept.artifacts}[artifact_id]


def _entity() -> Data:
    return {"id": ENTITY, "name": ENTITY}


def _storage(kept: Kept, place: str) -> str:
    return f"{kept.address}/storage/{place}"
