"""The project's workspace and its reports, as objects of wandb-workspaces and as the data that these send."""

import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from diffmamba.dashboard.panels import backend, columns, name_of, panels
from diffmamba.dashboard.variants import Shown

VIEW = "nw-diffmamba-v"
"""The name of our workspace among the saved views of a project: the one with this name is brought up to date."""
ENDED = ("status", "wall_seconds", "tokens_per_second")
"""The last columns of the table of runs, behind the settings that tell variants apart and the figures that count."""
LONGEST = 128  # characters that W&B takes in the title of a report


def workspace(page: Shown, entity: str, project: str) -> ws.Workspace:
    """The project's workspace, with runs grouped by variant."""
    settings = page.settings
    colours: dict[object, object] = {ws.GroupPath(*variant): colour for variant, colour in page.colours.items()}
    made = ws.Workspace(
        entity=entity,
        project=project,
        name=title(page),
        sections=[
            ws.Section(name=section.title, panels=panels(section, page.name), is_open=True)
            for section in page.description.sections
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", smoothing_type="none", max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config(name) for name in settings],
            group_colors=colours,
            pinned_columns=columns(settings, [*page.results, *ENDED]),
        ),
    )
    made._internal_name, made._internal_runset_id = VIEW, name_of(page.name, "runs")
    made._stashed_filters_v2, made._stashed_filter_string = filter_of(page), ""
    return made


def report(page: Shown, entity: str, project: str) -> wr.Report:
    """The report of a table, figure, sweep or group."""
    told, parts = page.description, page.parts
    blocks: list[Any] = [wr.P(told.text)] if told.text else []
    for section in told.sections:
        blocks.append(wr.H2(section.title))
        blocks += [wr.P(section.text)] if section.text else []
        for part in parts:
            value = part.description.where.get(told.each, "") if told.each else ""
            blocks += [wr.H3(f"{told.each}: {value}")] if value != "" else []
            blocks.append(_grid(part, section, str(value)))
    whose = f"runs of the sweep {page.name}" if page.runs else f"group {told.group} of runs"
    text = f"{marked(page)} Made by `make dashboard` from the {whose}."
    return wr.Report(entity=entity, project=project, title=title(page), description=text, blocks=blocks, width="fluid")


def _grid(page: Shown, section: Any, value: str) -> wr.PanelGrid:
    """The panels of a section, with the runs that they show."""
    settings, name = page.settings, " ".join(filter(None, [page.description.group, page.scale, value]))
    runs = wr.Runset(
        name=name,
        groupby=[f"config.{setting}" for setting in settings],
        pinned_columns=["run:displayName", *columns(settings, [*page.results, *ENDED])],
    )
    runs._id = name_of(page.name, section.title, value, "runs")
    runs._stashed_filters_v2, runs._stashed_filter_string = filter_of(page), ""
    colours: dict[Any, Any] = {
        wr.RunsetGroup(
            runset_name=name,
            keys=tuple(wr.RunsetGroupKey(wr.Config(key), one) for key, one in zip(settings, variant, strict=True)),
        ): colour
        for variant, colour in page.colours.items()
    }
    place = "/".join(filter(None, [page.name, page.scale, value]))
    return wr.PanelGrid(runsets=[runs], panels=panels(section, place), custom_run_colors=colours)


def title(page: Shown) -> str:
    """The title of a page, with its scale."""
    return ", ".join(filter(None, [page.description.title, page.scale and f"scale {page.scale}"]))[:LONGEST]


def marked(page: Shown) -> str:
    """How the line below a report's title begins. It tells this report from all others, whatever its title is."""
    return f"[diffmamba {page.name} {page.scale}]"


def filter_of(page: Shown) -> dict[str, Any]:
    """Which runs a page shows, in W&B's own form: the library's language for it cannot say every text.

    Runs of several groups are told by our ids of them, which W&B has as their setting `run`.
    """
    asked: list[tuple[str, str, Any]] = [
        ("config", backend(name), value) for name, value in page.description.where.items()
    ]
    if page.description.group:
        of_group = ("run", "group", page.description.group)
        of_sweep = ("config", backend("run"), list(page.runs))
        asked = [of_sweep if page.runs else of_group, ("config", backend("scale.name"), page.scale), *asked]
    filters = [
        {"key": {"section": section, "name": name}, "op": "IN" if isinstance(value, list) else "=", "value": value}
        | {"disabled": False}
        | ({"connector": "AND"} if number else {})
        for number, (section, name, value) in enumerate(asked)
    ]
    return {"filterFormat": "filterV2", "filters": filters}


def sent(made: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What saving a page sends: where it goes, its name, and its `spec`, which W&B draws."""
    model: Any = made._to_model()
    told = {"entityName": made.entity, "projectName": made.project, "displayName": model.display_name}
    told |= {"name": model.name} if isinstance(made, ws.Workspace) else {"description": model.description}
    kind = "project-view" if isinstance(made, ws.Workspace) else "runs"
    return {"type": kind, **told, "spec": json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))}
