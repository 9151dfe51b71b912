"""Leases: one process at a time holds a run, whatever is killed, stopped or late, and whatever the clocks say."""

import errno
import fcntl
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs import RunStore, RunTakenError, lease, liveness
from diffmamba.runs.liveness import BEAT_SECONDS
from diffmamba.runs.store import LostLeaseError
from tests.runs.test_runs_store import a_record

SOURCES = Path(__file__).parents[2] / "src"
ELSEWHERE = {"host": "node7", "pid": 4242, "started": 1, "where": "another machine", "beat": 2.0}
LOOP = """
import fcntl, os, random, sys, time
from diffmamba.runs import RunStore, RunTakenError
store, witness, seconds, names = RunStore(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]
print(os.getpid(), flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    name = random.choice(names)
    try:
        with store.run(name).claim(), open(f"{witness}/{name}", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                open(f"{witness}/two hold {name}", "w").close()
            file.write("held\\n")
            file.flush()
            time.sleep(random.random() / 500)
    except RunTakenError:
        time.sleep(random.random() / 1000)
"""
HOLD = """
import sys, time
from diffmamba.runs import RunStore
with RunStore(sys.argv[1]).run("a").claim():
    print("held", flush=True)
    time.sleep(100)
"""
WRITE = """
import json, sys, time
from diffmamba.runs import RunStore
from diffmamba.runs.store import LostLeaseError
run, record = RunStore(sys.argv[1]).run("a"), json.loads(sys.argv[2])
with run.claim():
    print("held", flush=True)
    try:
        while True:
            run.write(record)
            run.require(lately=True)
    except LostLeaseError as error:
        print(error, flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def child():
    """Starts a process on a script, by itself or by another command, and ends it with the test."""
    started = []

    def start(script, *words, before=(), **environment):
        path = os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [*before, sys.executable, "-c", script, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path} | environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def clock(monkeypatch):
    """The clock by which this process watches the leases of others; `clock(seconds)` lets so many pass."""
    now = [1000.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


@pytest.fixture
def by_hand(store):
    """Writes the lease of another owner."""

    def write(name="a", count=0, **changes):
        path = store.directory / ".leases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {"token": "0" * 32} | ELSEWHERE | changes
        path.write_text(f"{count:020d}\n{json.dumps(told)}\n")
        return path

    return write


def is_free(store, name="a"):
    """Whether a claim succeeds, which it then gives back."""
    try:
        with store.run(name).claim():
            return True
    except RunTakenError:
        return False


class Killed(BaseException):
    """What ends an actor at once: from then on it touches nothing."""


class Actors:
    """Threads that go on one at a time, from one touch of a file to the next, in an order that chance gives."""

    def __init__(self, chance, bodies: list[Callable[[], None]]):
        self.chance = chance
        self.turns = [threading.Semaphore(0) for _ in bodies]
        self.back = threading.Semaphore(0)
        self.over = [False] * len(bodies)
        self.killed = [False] * len(bodies)
        self.own = threading.local()
        self.threads = [threading.Thread(target=self._act, args=item) for item in enumerate(bodies)]

    def touch(self):
        number = getattr(self.own, "number", None)
        if number is None:
            return
        if not self.killed[number]:
            self.back.release()
            self.turns[number].acquire()
        if self.killed[number]:
            raise Killed

    def _act(self, number, body):
        self.turns[number].acquire()
        self.own.number = number
        try:
            with suppress(Killed):
                body()
        finally:
            self.over[number] = True
            self.back.release()

    def play(self, kills: int):
        for thread in self.threads:
            thread.start()
        while not all(self.over):
            number = self.chance.choice([n for n, over in enumerate(self.over) if not over])
            if kills and self.chance.random() < 0.02:
                self.killed[number], kills = True, kills - 1
            self.turns[number].release()
            self.back.acquire()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("stops", [False, True], ids=["some are killed", "some are also stopped"])
@pytest.mark.parametrize("seed", range(2))
def test_no_two_hold_a_lease_in_any_order_of_what_they_do(store, by_hand, clock, monkeypatch, seed, stops):
    """The first owner is dead. Three others claim and release, and are killed, between any two touches of the disk.

    Where some are also stopped, for longer than six beats, the end of the chain alone may write. Then nobody is kept
    from the run for good.
    """
    chance, holding, taken = random.Random(seed), set(), 0

    def claims(number, actors):
        for _ in range(3):
            with suppress(RunTakenError):
                held = lease.take(store.directory / ".leases", "a")
                nonlocal taken
                taken += 1
                alive = {one for one in holding if not actors[0].killed[one]}
                assert stops or not alive, "two hold it"
                holding.add(number)
                try:
                    actors[0].touch()
                finally:
                    holding.discard(number)
                    if actors[0].killed[number]:
                        liveness.held.discard(held.token)  # its process is gone
                held.release()

    def stopping(function):
        def touched(*arguments, **named):
            playing[0].touch()
            clock(stops * chance.choice([0.0, BEAT_SECONDS]))
            return function(*arguments, **named)

        return touched

    playing = [Actors(chance, [])]
    real = {(os, name): getattr(os, name) for name in ("open", "write", "unlink")} | {(lease, "read"): lease.read}
    for (owner, name), function in real.items():
        monkeypatch.setattr(owner, name, stopping(function))
    wrong = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: wrong.append(arguments.exc_value))
    for _ in range(60):
        holding.clear()
        liveness._looks.clear()
        shutil.rmtree(store.directory, ignore_errors=True)
        by_hand(where=liveness.where(), pid=os.getpid())  # a token that nobody of this process holds
        actors = playing[0] = Actors(chance, [lambda n=n: claims(n, playing) for n in range(3)])
        actors.play(kills=2)
        assert not wrong
        looks = 0
        while not is_free(store):  # the last one was killed before it had said who it is
            looks += 1
            clock(BEAT_SECONDS)
            assert looks <= 7
        assert not list((store.directory / ".leases").iterdir())  # nothing is left to be tidied up
    assert taken > 100


def test_no_two_processes_hold_a_run_though_they_are_killed_at_random(store, child, tmp_path):
    """Four processes claim three runs as fast as they can. The witness is a lock, which the system opens at a death."""
    witness, names, chance = tmp_path / "witness", ("a", "b", "c"), random.Random(0)
    witness.mkdir()
    processes = [child(LOOP, store.directory, witness, 600, *names) for _ in range(4)]
    for process in processes:
        process.stdout.readline()
    held = lambda: sum(path.read_text().count("held") for path in witness.iterdir())  # noqa: E731
    for _ in range(12):
        before, deadline = held(), time.monotonic() + 60
        while held() < before + 5:
            assert time.monotonic() < deadline
            time.sleep(chance.random() / 50)
        victim = processes.pop(chance.randrange(len(processes)))
        victim.kill()  # and it stays a zombie for a while
        processes.append(child(LOOP, store.directory, witness, 600, *names))
    for process in processes:
        process.kill()
        process.wait()
    assert sorted(path.name for path in witness.iterdir()) == [*names]
    for name in names:
        damaged = [path for path in (store.directory / ".leases").glob(f"{name}*") if not path.read_text()]
        assert is_free(store, name) or damaged  # at once, unless one was killed before it had said who it is


def test_a_dead_process_of_this_machine_holds_nothing(store, child, by_hand):
    process = child(HOLD, store.directory)
    process.stdout.readline()
    with pytest.raises(RunTakenError, match=f"process {process.pid} on ") as raised, store.run("a").claim():
        pass
    assert not raised.value.undecided  # it is seen to live
    assert store.taken() == {"a"}
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and its parent has not asked how: a zombie
    assert store.taken() == set()
    assert not store.run("a").is_taken()
    with store.run("a").claim():
        assert store.taken() == {"a"}
    by_hand("b", where=liveness.where(), pid=process.pid, started=1)  # another process had this number before
    assert is_free(store, "b")
    assert not list((store.directory / ".leases").iterdir())


def test_the_lease_of_another_machine_is_taken_over_after_six_beats_of_the_own_clock(store, by_hand, clock):
    path = by_hand()
    for _ in range(6):
        assert store.run("a").is_taken()
        with pytest.raises(RunTakenError, match="process 4242 on node7") as raised, store.run("a").claim():
            pass
        assert raised.value.undecided
        os.utime(path, (random.random() * 4e9,) * 2)  # whatever that machine's clock says
        clock(2.0)
    assert not store.run("a").is_taken()
    with store.run("a").claim():
        assert [found.name for found in path.parent.iterdir() if found != path] == [f"a.after-{'0' * 32}"]
    assert not list(path.parent.iterdir())


def test_who_was_stopped_itself_has_not_watched(store, by_hand, clock):
    """A look after a long time counts as one beat: owner and watcher may have been stopped together."""
    by_hand()
    for _ in range(6):
        assert not is_free(store)
        clock(1e6)
    assert is_free(store)


def test_a_lease_that_beats_is_never_taken_over(store, by_hand, clock, monkeypatch):
    for count in range(30):
        by_hand(count=count)
        monkeypatch.setattr(time, "time", lambda: random.random() * 4e9)
        for _ in range(5):
            with pytest.raises(RunTakenError) as raised, store.run("a").claim():
                pass
            assert raised.value.undecided == (count == 0)
            clock(1.9)


def test_an_owner_beats_and_another_sees_it(store, monkeypatch):
    monkeypatch.setenv("DIFFMAMBA_BEAT_SECONDS", "0.01")
    with store.run("a").claim():
        found = {lease.holder(store.directory / ".leases", "a").counter for _ in range(200) if not time.sleep(0.002)}
    assert len(found) > 5
    assert all(len(counter) == 20 for counter in found)


WHOLE = liveness.content("f" * 32, 2.0)


@pytest.mark.parametrize("length", [0, 1, 20, 21, 22, 60, len(WHOLE) - 2, len(WHOLE) - 1])
def test_a_lease_that_was_cut_is_somebodys_and_is_watched_like_any_other(store, clock, length):
    path = store.directory / ".leases" / "a"
    path.parent.mkdir(parents=True)
    path.write_bytes(WHOLE[:length])
    for _ in range(6):
        with pytest.raises(RunTakenError, match="damaged and does not say") as raised, store.run("a").claim():
            pass
        assert raised.value.undecided
        clock(BEAT_SECONDS)
    with store.run("a").claim():
        assert not is_free(store)
    assert not list(path.parent.iterdir())


RUBBISH = {
    "a list": "[]\n",
    "deep": "[" * 100_000 + "\n",
    "a path for a token": json.dumps(ELSEWHERE | {"token": "../../b"}) + "\n",
    "no beat": json.dumps(ELSEWHERE | {"token": "0" * 32, "beat": 0}) + "\n",
    "a beat that is none": '{"token": "%s", "pid": 1, "beat": NaN}\n' % ("0" * 32),
    "a text for a process": json.dumps(ELSEWHERE | {"token": "0" * 32, "pid": "1"}) + "\n",
    "bytes": "\udcff\udcfe\n",
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_in_the_place_of_a_lease_is_taken_over_too(store, clock, rubbish):
    path = store.directory / ".leases" / "a"
    path.parent.mkdir(parents=True)
    path.write_text("0" * 20 + "\n" + rubbish, errors="surrogateescape")
    for _ in range(6):
        assert not is_free(store)
        clock(BEAT_SECONDS)
    assert is_free(store)
    assert not list(path.parent.iterdir())


def test_a_later_version_may_say_more_in_a_lease(store, by_hand, clock):
    by_hand(colour="red")
    with pytest.raises(RunTakenError, match="process 4242 on node7"), store.run("a").claim():
        pass


def test_who_claims_with_an_old_view_gets_nothing(store, by_hand, monkeypatch):
    """Before its file is there, another process takes the dead lease over, works, and releases it."""
    by_hand(where=liveness.where(), pid=os.getpid())
    create = atomic.create

    def late(path, content):
        monkeypatch.setattr(atomic, "create", create)
        with store.run("a").claim():
            pass
        return create(path, content)

    monkeypatch.setattr(atomic, "create", late)
    with pytest.raises(RunTakenError), store.run("a").claim():
        pass
    assert not list((store.directory / ".leases").iterdir())
    assert is_free(store)


def test_an_owner_that_comes_back_keeps_its_lease_from_who_is_taking_it_over(store, by_hand, clock, monkeypatch):
    by_hand()
    for _ in range(6):
        assert not is_free(store)
        clock(2.0)
    create = atomic.create

    def late(path, content):
        by_hand(count=1)
        return create(path, content)

    monkeypatch.setattr(atomic, "create", late)
    assert not is_free(store)
    assert [path.name for path in (store.directory / ".leases").iterdir()] == ["a"]


def test_a_stopped_owner_writes_nothing_after_another_has_taken_over(store, child, monkeypatch):
    """SIGSTOP, takeover, SIGCONT: it finds out before it replaces a file, and the record of the other one stays."""
    theirs, ours = a_record("running", note="theirs"), a_record("running", note="ours")
    process = child(WRITE, store.directory, json.dumps(theirs), DIFFMAMBA_BEAT_SECONDS="0.05")
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    run = store.run("a")
    deadline = time.monotonic() + 30
    while not is_free_for(run, ours, process):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "is no longer held by this process, which leaves it" in process.stdout.read()
    assert process.wait() == 0
    assert run.load() == ours
    assert not list(store.directory.glob("a/.*.new"))
    assert not list((store.directory / ".leases").iterdir())


def is_free_for(run, record, other):
    """Claims the run, writes its record, and lets the other owner go on. Holds the run until that one has said so."""
    try:
        with run.claim():
            run.write(record)
            other.send_signal(signal.SIGCONT)
            other.wait()
            return True
    except RunTakenError:
        return False


def test_who_has_lost_a_lease_leaves_those_of_others_alone(store, clock, monkeypatch):
    """A lease that was taken over is neither beaten into nor released by who had it before."""
    monkeypatch.setenv("DIFFMAMBA_BEAT_SECONDS", "0.01")
    run, leases = store.run("a"), store.directory / ".leases"
    with run.claim():
        shutil.rmtree(leases)  # by a user
        with store.run("a").claim():
            other = run.lease
            before = lease.holder(leases, "a").token
            with pytest.raises(LostLeaseError, match=r"its lease was removed, and the run is held by process \d+"):
                other.require()
            time.sleep(0.05)
            with pytest.raises(LostLeaseError):
                other.require(lately=True)
            with pytest.raises(LostLeaseError):
                run.write(a_record())
            other.release()
            assert lease.holder(leases, "a").token == before
            assert not run.result.exists()


def test_a_lease_that_is_gone_is_lost(store):
    run = store.run("a")
    with run.claim():
        run.write(a_record("running"))
        (store.directory / ".leases" / "a").unlink()
        with pytest.raises(LostLeaseError, match=r"its lease .*/\.leases/a was removed"):
            run.write(a_record())
    assert run.load()["status"] == "running"


def test_a_disk_that_fails_for_a_while_costs_no_lease(store, monkeypatch):
    """As long as nobody else can have taken over. After that nothing is written."""
    now = [time.clock_gettime(time.CLOCK_MONOTONIC)]
    monkeypatch.setattr(lease.time, "clock_gettime", lambda clock: now[0])
    run = store.run("a")
    with run.claim():

        def fails(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

        with monkeypatch.context() as patched:
            patched.setattr(lease, "read", fails)
            now[0] += 1.9 * BEAT_SECONDS
            run.require()
            run.require(lately=True)
            now[0] += 0.2 * BEAT_SECONDS
            for lately in (True, False):
                with pytest.raises(OSError, match="Input/output error"):
                    run.require(lately)
        run.require(lately=True)  # by a look at the disk
        (store.directory / ".leases" / "a").unlink()
        with pytest.raises(LostLeaseError):  # which it does after so long a time
            run.require(lately=True)


def test_a_process_that_works_for_the_owner_checks_the_lease_by_itself(store, monkeypatch):
    run = store.run("a")
    with run.claim():
        rank = pickle.loads(pickle.dumps(run))
        rank.write(a_record("running"))
        rank.require(lately=True)
        rank.lease.release()  # which is not its own to release
        run.require()
        shutil.rmtree(store.directory / ".leases")
        rank.require(lately=True)  # for two beats it believes what it has seen
        with pytest.raises(LostLeaseError):
            rank.write(a_record())
        with pytest.raises(LostLeaseError):
            rank.require(lately=True)
    assert run.load()["status"] == "running"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_locks_makes_no_difference(store, monkeypatch, number):
    def without(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    monkeypatch.setattr(fcntl, "lockf", without)
    with store.run("a").claim():
        store.run("a").write(a_record("running"))
        assert store.records() == {"a": a_record("running")}
        assert not is_free(store)
    assert is_free(store)


def test_beats_are_seconds(store, monkeypatch):
    for wrong in ("0", "-1", "soon", "1e9", "nan"):
        monkeypatch.setenv("DIFFMAMBA_BEAT_SECONDS", wrong)
        with (
            pytest.raises(SettingError, match=f"DIFFMAMBA_BEAT_SECONDS={wrong} must be seconds"),
            store.run("a").claim(),
        ):
            pass


TRAIN = """
import os, sys, time
from diffmamba.runs import RunStore, RunTakenError
store, names, last, count = RunStore(sys.argv[1]), sys.argv[3:], int(sys.argv[2]), 0
while left := [name for name in names if not (store.directory / name / "done").exists()]:
    for name in left:
        try:
            with store.run(name).claim():
                directory = store.directory / name
                if (directory / "done").exists():
                    continue
                with open(directory / "begun", "a") as file:
                    file.write("begun\\n")
                count += 1
                if count == last:
                    os._exit(9)  # at once, and with its lease
                time.sleep(0.01)
                (directory / "done").touch()
        except RunTakenError:
            time.sleep(0.01)
"""


def test_two_machines_on_one_store_train_no_run_twice(store, child):
    """Two namespaces of processes, network and host name. One dies at its work, which the other then takes over."""
    alone = ["unshare", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*alone, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("namespaces need root")
    names = [f"t{number}" for number in range(20)]
    first, second = (
        child(TRAIN, store.directory, last, *names, before=alone, DIFFMAMBA_BEAT_SECONDS="0.05") for last in (3, 0)
    )
    assert second.wait(60) == 0
    assert first.wait() == 9
    begun = [(store.directory / name / "begun").read_text().count("begun") for name in names]
    assert all((store.directory / name / "done").exists() for name in names)
    assert sorted(begun) == [1] * 19 + [2]
