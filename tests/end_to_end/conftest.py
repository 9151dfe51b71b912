"""A small world for whole runs: a text, its prepared corpus, a run store, and a model that trains in a second."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed

from diffmamba.configuration import composed
from diffmamba.data import CorpusChoice
from diffmamba.ops import backend
from diffmamba.runs import Record, Run, RunStore, engine, processes, worker
from diffmamba.runs.execution import execute, work_of
from diffmamba.runs.work import Work
from diffmamba.tasks import LanguageModelling
from tests.outcome import Outcome, outcome_of

WORDS = "the quick brown fox jumps over a lazy dog and runs away from a wolf"
SMALL = (
    *("model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.d_model=32", "scale.headdim=32", "scale.d_state=8"),
    *("scale.batch_size=8", "scale.length=16", "scale.eval_batch_size=3", "scale.eval_windows=4"),
    *("scale.steps=12", "scale.evaluate_every=4", "scale.warmup_steps=2"),
)


def english(words: int) -> str:
    """A text of our few words in random order: the same text each time, and a shorter one is the start of a longer."""
    return " ".join(random.Random(0).choices(WORDS.split(), k=words))


@dataclass(frozen=True)
class World:
    """Everything below one folder; settings go as on the command line."""

    folder: Path

    @property
    def store(self) -> RunStore:
        return RunStore(self.folder / "runs")

    @property
    def text(self) -> Path:
        return self.folder / "story.txt"

    def words(self, *settings: str) -> list[str]:
        """The command line of a tiny run on this world's text; later settings win."""
        return [
            *("data=text", f"data.path={self.text}", "trainer=cpu", "logger=csv", "threads=1"),
            *(f"data.directory={self.folder / 'data'}", f"runs={self.store.directory}", *SMALL, *settings),
        ]

    def work(self, *settings: str, root: str = "train") -> Work:
        return work_of(composed(self.words(*settings), root))

    def train(self, *settings: str) -> Record:
        return execute(self.work(*settings), progress_bar=False)

    def measure(self, *settings: str) -> Record:
        return execute(self.work(*settings, root="measure"), progress_bar=False)

    def interrupted(self, step: int, *settings: str) -> Record:
        """A training that Ctrl-C strikes at the beginning of a step."""
        work, training_step = self.work(*settings), LanguageModelling.training_step

        def struck(task: LanguageModelling, batch: Any, index: int) -> torch.Tensor:
            if task.global_step == step:
                raise KeyboardInterrupt
            return training_step(task, batch, index)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(LanguageModelling, "training_step", struck)
            with pytest.raises(KeyboardInterrupt):
                execute(work, progress_bar=False)
        return RunStore(work.settings["runs"]).records()[work.identity()]

    def contents(self) -> dict[str, tuple[int, int]]:
        """Every file of the store, with its inode and the time of its last change."""
        files = [path for path in self.store.directory.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def run(self, record: Record) -> Run:
        return RunStore(record["config"]["runs"]).run(record["id"])

    def directory(self, record: Record) -> str:
        return str(self.run(record).directory)

    def write_text(self, text: str) -> None:
        self.text.write_text(text)
        CorpusChoice.forget()  # a process looks at its source once; this one pretends to be several


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reaches the network or the user's run store, or leaves behind what a run sets for its process."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("DIFFMAMBA_RUNS", "DIFFMAMBA_DATA", "DIFFMAMBA_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backend, "_requested", "auto")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    threads = torch.get_num_threads()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    if distributed.is_initialized():  # by a training with fsdp in this process
        distributed.destroy_process_group()


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    """Worlds that outlive a test, for what several tests look at."""

    def build(name: str) -> World:
        built = World(tmp_path_factory.mktemp(name))
        built.write_text(english(330))  # 10 steps an epoch
        return built

    return build


@pytest.fixture
def world(new_world: Callable[[str], World]) -> World:
    return new_world("world")


@pytest.fixture(scope="session")
def story(new_world: Callable[[str], World]) -> tuple[World, Record]:
    """A finished run on characters, for tests that only read it. Its evaluations are of whole splits."""
    world = new_world("story")
    return world, world.train("scale.eval_windows=null")


@pytest.fixture(scope="session")
def command() -> Callable[..., Outcome]:
    """Runs `diffmamba NAME WORDS...` in this process."""

    return lambda name, words: outcome_of(name, *words)


class _Here(engine.LocalWorkers):
    """One worker, in this process, which has done its works before the sweep looks on."""

    def __init__(self, plan: Path, shares: Any) -> None:
        self.plan, self.shares, self.processes, self._renewals = plan, shares[:1], [], 0
        with redirect_stdout(StringIO()):
            assert worker.work(plan) == 0


@pytest.fixture
def worker_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep starts no processes, whose imports take seconds: for tests of what it does otherwise."""
    monkeypatch.setattr(engine, "LocalWorkers", _Here)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The workers of a sweep are forked from this process: for tests of what they do, not of how they begin."""
    from tests.end_to_end.forked import ForkedWorkers

    monkeypatch.setattr(engine, "LocalWorkers", partial(ForkedWorkers, notes=tmp_path))


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks of a run are forked from this process."""
    from tests.end_to_end.forked import forked_ranks as started

    monkeypatch.setattr(processes, "multiprocessing", SimpleNamespace(start_processes=started))


@pytest.fixture
def forked(world: World, tmp_path: Path) -> Callable[..., Any]:
    """A command in a forked process, and its end: `status`, `said`, and `shown` on its terminal."""
    from tests.end_to_end.stopped_calls import Call, Start

    def ended(name: str, words: list[str], **settings: Any) -> Any:
        started = Call(Start(words, name, world.folder, **settings), [], tmp_path)
        started.wait()
        return started

    return ended


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of a page is drawn, which takes seconds: for tests of what else stands there."""
    monkeypatch.setattr("diffmamba.reports.pictures.drawn", lambda chart, kind: kind.encode())


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for something that another process does."""

    def wait(happened: Callable[[], Any], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    return wait
