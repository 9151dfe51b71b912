"""Creates or updates pages on W&B.

A page is known again, so that saving it twice makes no second one: the workspace by its name among the saved views, a
report by the beginning of its description. What was changed by hand on a page is replaced.
"""

import os

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from diffmamba.dashboard.pages import VIEW, marked, report, workspace
from diffmamba.dashboard.variants import Shown
from diffmamba.errors import one_line
from diffmamba.runs.wandb_reach import reach

ANSWER_SECONDS = 5
"""How long W&B may take to answer at all, before anything is sent."""
REQUEST_SECONDS, TRIES, WAIT_SECONDS = 20, 2, 1.0
"""How long one request may take, how often a failed one is made again, and after how long."""


class SendingError(Exception):
    """W&B cannot be reached, or refuses what is sent; the reason in one line."""


class Sender:
    """The pages of one project. Raises SendingError where W&B cannot be reached, or does not take the key."""

    def __init__(self, entity: str | None, project: str) -> None:
        try:
            reach(ANSWER_SECONDS)
            os.environ.setdefault("WANDB_SILENT", "true")
            wandb.setup(
                wandb.Settings(
                    x_graphql_retry_max=TRIES,
                    x_graphql_retry_wait_min_seconds=WAIT_SECONDS,
                    x_graphql_retry_wait_max_seconds=WAIT_SECONDS,
                    x_graphql_timeout_seconds=REQUEST_SECONDS,
                )
            )
            self._api = wandb.Api(timeout=REQUEST_SECONDS)
            of_variable = self._api.settings["entity"]
            self.entity, self.project = str(entity or of_variable or self._api.default_entity), project
            if project not in {one.name for one in self._api.projects(self.entity)}:
                self._api.create_project(project, self.entity)
            self._reports = {str(one.description): one.id for one in self._api.reports(f"{self.entity}/{project}")}
            self._view = self._found_view()
        except Exception as error:  # each part of the client raises errors of its own
            raise SendingError(one_line(error)) from error

    def send(self, made: ws.Workspace | wr.Report) -> str:
        """Creates or updates a page. Returns its address."""
        try:
            made.save()
            return str(made.url)
        except Exception as error:
            raise SendingError(one_line(error)) from error

    def made(self, page: Shown) -> ws.Workspace | wr.Report:
        """The object of a page, with the id of the one that there is."""
        if not page.description.group:
            made = workspace(page, self.entity, self.project)
            made._internal_id = self._view
            return made
        found = report(page, self.entity, self.project)
        found.id = next((name for told, name in self._reports.items() if told.startswith(marked(page))), "")
        return found

    def _found_view(self) -> str:
        """The id of our workspace; "" where there is none yet."""
        url = f"{self._api.settings['base_url']}/{self.entity}/{self.project}?nw={VIEW[3:-2]}"
        try:
            return ws.Workspace.from_url(url)._internal_id
        except ValueError as error:
            if "not found" not in str(error):
                raise
            return ""
