"""The token of a store, and the names in W&B that follow from it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from diffmamba import atomic
from diffmamba.runs import RunStore, store_token
from diffmamba.runs.wandb_run import wandb_id


def run_of(store, name="abc"):
    run = RunStore(store).run(name)
    run.directory.mkdir(parents=True, exist_ok=True)
    return run


def test_two_stores_have_two_names_for_one_run(tmp_path):
    names = {wandb_id(run_of(tmp_path / store)) for store in ("one", "other")}
    assert len(names) == 2
    assert all(name.startswith("abc-") for name in names)


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_store_that_is_moved_or_copied_keeps_its_names(tmp_path, move):
    before = wandb_id(run_of(tmp_path / "one"))
    move(tmp_path / "one", tmp_path / "other")
    assert wandb_id(run_of(tmp_path / "other")) == before
    assert wandb_id(run_of(tmp_path / "other", "def")) == before.replace("abc", "def")


def test_all_who_ask_at_once_get_one_token(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: store_token.store_token(tmp_path), range(64)))
    assert len(tokens) == 1
    assert store_token.TOKEN.fullmatch(tokens.pop())


def test_a_damaged_token_is_made_anew_and_all_who_saw_it_get_the_same(tmp_path, monkeypatch):
    (tmp_path / store_token.FILE).touch()
    write, together = atomic.write, Barrier(2)
    monkeypatch.setattr(atomic, "write", lambda *told: (together.wait(9), write(*told)))
    with ThreadPoolExecutor(2) as pool:
        tokens = set(pool.map(lambda _: store_token.store_token(tmp_path), range(2)))
    assert len(tokens) == 1
    assert store_token.TOKEN.fullmatch(token := tokens.pop())
    assert store_token.store_token(tmp_path) == token


def test_a_store_that_cannot_be_written_gives_its_token_or_an_error(tmp_path):
    token = store_token.store_token(tmp_path)
    (tmp_path / store_token.FILE).chmod(0o444)
    assert store_token.store_token(tmp_path) == token
    with pytest.raises(OSError, match="missing"):
        store_token.store_token(tmp_path / "missing")


@pytest.mark.parametrize("session", ["run-20260101_120000-abc", "offline-run-20260101_120000-abc-2"])
def test_a_run_that_wandb_knows_keeps_its_name(tmp_path, session):
    run = run_of(tmp_path)
    (run.directory / "wandb" / session).mkdir(parents=True)
    (run.directory / "wandb" / "latest-run").symlink_to(session)
    assert wandb_id(run) == session.partition("120000-")[2]


def test_a_run_trained_anew_has_another_name(tmp_path):
    run = run_of(tmp_path)
    name = wandb_id(run)
    aside = run.set_aside()
    assert wandb_id(run) != name
    assert wandb_id(run).startswith("abc-2-")
    assert aside.name == "abc.before-1"
