"""The first signal stops what is under way, a training after its step; the second stops everything at once."""

import os
import signal

import pytest

from diffmamba.runs import stopping


def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _one_press(monkeypatch):
    monkeypatch.setattr(stopping, "ONE_PRESS_SECONDS", 0.0)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_raises_at_once_unless_a_training_defers_it(number):
    before = signal.getsignal(number)
    with stopping.listening():
        with pytest.raises(KeyboardInterrupt):
            ask(number)
        assert stopping.requested() == number
    assert (signal.getsignal(number), stopping.requested()) == (before, None)
    with stopping.listening(), stopping.deferred():
        ask(number)
        assert stopping.requested() == number
        with pytest.raises(KeyboardInterrupt):
            ask(number)
    assert signal.getsignal(number) == before


def test_one_press_that_arrives_twice_is_one(monkeypatch, capfd):
    """A terminal sends Ctrl-C to a process and to the one that started it, which hands it on."""
    monkeypatch.setattr(stopping, "ONE_PRESS_SECONDS", 60.0)
    with stopping.listening(), stopping.deferred():
        ask(signal.SIGINT)
        ask(signal.SIGTERM)
    assert capfd.readouterr().err == "stopping after this step; once more stops at once\n"


def test_what_was_asked_during_a_training_ends_what_follows():
    with stopping.listening():
        stopping.check()
        with stopping.deferred():
            ask()
        with pytest.raises(KeyboardInterrupt):
            stopping.check()
    with stopping.listening():
        stopping.check()


def test_listening_within_listening_changes_nothing():
    with stopping.listening(), stopping.deferred():
        with stopping.listening():
            ask()
        assert stopping.requested() == signal.SIGTERM


def test_an_ignored_signal_stays_ignored():
    """As SIGHUP under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.listening():
            ask(signal.SIGHUP)
            assert stopping.requested() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_that_others_replace_are_put_back():
    with stopping.listening():
        own = signal.getsignal(signal.SIGINT)
        with stopping.deferred():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) == own


def test_an_orphan_ends_at_once():
    """Even where it would finish a step: another process may hold its run."""
    if (pid := os.fork()) == 0:
        with stopping.listening(orphaned=lambda: True), stopping.deferred():
            ask()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == stopping.INTERRUPTED
