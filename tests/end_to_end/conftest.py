"""A small world for whole runs: a text, its prepared corpus, a run store, and a model that trains in a second."""

import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from diffmamba import configuration
from diffmamba.run import run
from diffmamba.runs import Record, Run, RunStore
from diffmamba.tasks import LanguageModelling

WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "runs",
    "away",
    "from",
    "a",
    "wolf",
)
SMALL = (
    *("model.layer=[mixer,ffn]", "scale.n_layers=1", "scale.d_model=32", "scale.headdim=32", "scale.d_state=8"),
    *("scale.batch_size=8", "scale.length=16", "scale.eval_batch_size=3", "scale.eval_windows=4"),
    *("scale.steps=12", "scale.evaluate_every=4", "scale.warmup_steps=2"),
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def english(words: int) -> str:
    """A text of our few words in random order: the same text each time, and a shorter one is the start of a longer."""
    choice = random.Random(0)
    return " ".join(choice.choice(WORDS) for _ in range(words))


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

    def config(self, *settings: str) -> dict[str, Any]:
        with initialize_config_dir(configuration.CONF, version_base="1.3"):
            return configuration.resolved(compose("train", overrides=self.words(*settings)))

    def train(self, *settings: str) -> Record:
        return run(self.config(*settings), progress_bar=False)

    def run(self, record: Record) -> Run:
        return RunStore(record["config"]["runs"]).run(record["id"])

    def write_text(self, text: str) -> None:
        self.text.write_text(text)
        configuration._corpus.cache_clear()  # a process looks at its source once; this one pretends to be several


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reaches the network or the user's run store, or leaves a signal handler or thread count behind."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("DIFFMAMBA_RUNS", raising=False)
    handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    yield
    signal.signal(signal.SIGINT, handler)  # Lightning ignores SIGINT after an interruption
    torch.set_num_threads(threads)


@pytest.fixture
def world(tmp_path: Path) -> World:
    built = World(tmp_path)
    built.write_text(english(330))  # 10 steps an epoch
    return built


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    """Worlds that outlive a test, for what several tests look at."""

    def build(name: str) -> World:
        built = World(tmp_path_factory.mktemp(name))
        built.write_text(english(330))
        return built

    return build


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Lets Ctrl-C strike at the beginning of a training step; None lets training pass again."""
    training_step = LanguageModelling.training_step

    def arrange(step: int | None) -> None:
        def interrupted(task: LanguageModelling, batch: Any, index: int) -> torch.Tensor:
            if task.global_step == step:
                raise KeyboardInterrupt
            return training_step(task, batch, index)

        monkeypatch.setattr(LanguageModelling, "training_step", interrupted)

    return arrange


@pytest.fixture(scope="session")
def command() -> Callable[[Callable[[], Any], list[str]], Outcome]:
    """Runs an entry point in this process, as if these words stood on its command line."""

    def call(entry: Callable[[], Any], words: list[str]) -> Outcome:
        out, err, terminate = StringIO(), StringIO(), signal.getsignal(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.setattr(sys, "argv", ["diffmamba", *words])
            try:
                entry()
                status = 0
            except SystemExit as exit_:
                status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
            finally:
                signal.signal(signal.SIGTERM, terminate)
        return Outcome(status, out.getvalue(), err.getvalue())

    return call
