"""What W&B is sent, by the unmodified client to a server on this machine."""

import os
from collections.abc import Iterator

import pytest
import wandb
import yaml

from diffmamba import reports
from diffmamba.dashboard import description, offline, sending
from tests import wandb_views
from tests.dashboard.desks import Desk, panels_of
from tests.wandb_server import WandbServer

assert reports, wandb_views  # imported here, before the variables of a test say where a library keeps its files


@pytest.fixture
def server(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    monkeypatch.setattr(sending, "TRIES", 1)
    monkeypatch.setattr(sending, "WAIT_SECONDS", 0.01)
    with WandbServer() as started:
        for name, value in started.environment(desk.folder).items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # it keeps the settings of the tests before
        yield started
        wandb.teardown()


def test_a_page_is_made_once_and_then_brought_up_to_date(desk, server):
    desk.fill()
    first = desk.make()
    assert (first.status, server.kept.unknown) == (0, [])
    views = {view["displayName"]: view for view in server.kept.views.values()}
    written = list((desk.reports / "dashboard").iterdir())
    assert len(views) == len(server.kept.views) == len(written)
    assert {file.stem for file in written} >= {"workspace", "table1-smoke", "table2-smoke", "mine-smoke"}
    for file in written:
        told = desk.written(file.stem)
        view = views[told["displayName"]]
        assert {key: view[key] for key in told} == told  # all that was written is what was sent
    report = next(view for name, view in views.items() if name.startswith("Table 2"))
    panels = [
        one
        for section in yaml.safe_load(description.files()["table2"].read_text())["sections"]
        for one in section["panels"]
    ]
    assert {one["config"]["chartTitle"] for one in panels_of(report["spec"])} == {one["title"] for one in panels}

    own = desk.folder / "conf" / "dashboards" / "table2.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("title: New\nsections: [{title: A, panels: [{kind: runs}]}]\n")
    assert desk.make().status == 0
    assert len(server.kept.views) == len(views)
    assert server.kept.views[report["id"]]["displayName"] == "New, scale smoke"
    assert len(list(panels_of(server.kept.views[report["id"]]["spec"]))) == 1

    assert desk.make("what=table2", "scale=small").status == 0  # is a report of its own
    assert len(server.kept.views) == len(views) + 1
    assert [name for name, _ in server.kept.operations].count("CreateProject") == 1


@pytest.mark.parametrize(
    ("where", "how", "says"),
    [
        ("graphql", {"status": 401}, "verify credentials"),
        ("upsertView", {"status": 503}, "table2: "),
        ("View", {"closes": True}, "EOF"),
    ],
)
def test_what_goes_wrong_at_wandb_is_one_line_and_the_data_are_written(desk, server, where, how, says):
    desk.fill()
    server.misbehave(where, **how)
    outcome = desk.make("what=table2")
    assert outcome.status == 1
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("error: W&B: ")
    assert says in outcome.err
    assert desk.written("table2-smoke")["displayName"].startswith("Table 2")


def test_without_a_network_the_data_are_written(desk, server):
    server.stop()
    outcome = desk.make("what=workspace")
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)
    assert "Connection refused" in outcome.err
    assert desk.written("workspace")["displayName"] == "diffmamba"


@pytest.mark.parametrize(("words", "whose"), [([], "team"), (["entity=other"], "other")])
def test_a_page_goes_to_the_account_that_is_named(desk, server, monkeypatch, words, whose):
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert desk.make("what=workspace", *words).status == 0
    assert [view["entityName"] for view in server.kept.views.values()] == [whose]
    assert desk.written("workspace")["entityName"] == whose


def test_dry_sends_nothing(desk, server):
    assert desk.make("what=workspace", "dry=true").status == 0
    assert (server.kept.operations, server.kept.views) == ([], {})
    assert desk.written("workspace")["entityName"] == ""


def test_who_is_not_logged_in_is_offline(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    assert offline.is_offline()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert not offline.is_offline()
    assert os.environ["WANDB_API_KEY"]
