"""What the W&B server of the tests answers where workspaces and reports are saved and looked up, and projects."""

import json

from tests.wandb_kept import Kept
from tests.wandb_operations import ENTITY, Data, Variables, answers

UNUSED = {"createdAt": "2026-11-27T00:00:00Z", "isBenchmark": False, "user": None}
"""What the client wants to be told of a project and does not use."""


def projects_of(kept: Kept) -> list[str]:
    made = [variables["input"]["name"] for variables in kept.asked("CreateProject")]
    views = [view["projectName"] for view in kept.views.values()]
    return list(dict.fromkeys([*(project for project, _ in kept.runs), *views, *made]))


def _node(kept: Kept, view: Data) -> Data:
    told = {name: view.get(name) for name in ("id", "name", "displayName", "description", "type")}
    project = {"id": view["projectName"], "name": view["projectName"], "entityName": ENTITY}
    times = {"createdAt": "2026-11-27T00:00:00Z", "updatedAt": "2026-11-27T00:00:00Z"}
    return told | times | {"spec": json.dumps(view["spec"]), "project": project, "user": None}


def _upsert(kept: Kept, variables: Variables) -> Data:
    """Makes a view, or replaces the one with this id. Like W&B's, it takes the same name twice."""
    is_new = variables.get("id") is None
    place = f"view{len(kept.views)}" if is_new else variables["id"]
    if not is_new and place not in kept.views:
        raise KeyError(place)
    kept.views[place] = {**variables, "id": place, "spec": json.loads(variables["spec"])}
    return {"upsertView": {"view": _node(kept, kept.views[place]), "inserted": is_new}}


answers("UpsertView2")(_upsert)  # of a workspace
answers("upsertView")(_upsert)  # of a report


def _views(kept: Kept, variables: Variables) -> Data:
    """The views of a project of one type, or of one name."""
    project = variables.get("project") or variables["name"]
    if project not in projects_of(kept):
        return {"project": None}
    wanted, name = variables.get("viewType", "runs"), variables.get("viewName")
    found = [
        view
        for view in kept.views.values()
        if view["projectName"] == project and view["type"] == wanted and name in (None, view["name"])
    ]
    edges = [{"node": _node(kept, view), "cursor": view["id"]} for view in found]
    end = edges[-1]["cursor"] if edges else None
    return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": end, "hasNextPage": False}}}}


answers("View")(_views)
answers("ProjectViews")(_views)


@answers("GetProjects")
def get_projects(kept: Kept, variables: Variables) -> Data:
    edges = [
        {"node": {"id": name, "name": name, "entityName": ENTITY, **UNUSED}, "cursor": name}
        for name in projects_of(kept)
    ]
    page = {"endCursor": None, "hasNextPage": False}
    return {"models": {"edges": edges, "pageInfo": page}}


@answers("CreateProject")
def create_project(kept: Kept, variables: Variables) -> Data:
    name = variables["input"]["name"]
    made = {"id": name, "name": name, "entityName": ENTITY, "description": "", "access": "PRIVATE", "views": "{}"}
    return {"result": {"project": made, "model": made, "inserted": True}}


@answers("GetDefaultEntity")
def get_default_entity(kept: Kept, variables: Variables) -> Data:
    return {"viewer": {"id": "VXNlcjox", "entity": ENTITY}}
