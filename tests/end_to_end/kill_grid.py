"""A user's folder for the kill test: a sweep of tiny cells, and a callback that keeps a diary of every step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.conftest import SMALL, english

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "plain": {"scale": {"steps": 6}},
    "longer": {"scale": {"steps": 8}},
    "vanilla": {"defaults": [{"override /model": "mamba"}], "scale": {"steps": 6}},
    "measured": {
        "defaults": [{"override /measure": "perplexity"}, {"override /weights": "trained"}],
        "scale": {"steps": 6},
    },
}
"""What the cells of one seed are. The measurement needs the training of `plain`."""
DIARY = '''"""A diary of every training: who does which step of which run, and when."""

import os
import time

import lightning as L


class Diary(L.Callback):
    def write(self, trainer, what):
        run = next(callback.run for callback in trainer.callbacks if hasattr(callback, "run"))
        line = f"{run.id} {os.getpid()} {time.monotonic()} {what}\\n"
        with open(f"{run.directory.parent}.diary", "ab", buffering=0) as file:
            file.write(line.encode())

    def on_train_start(self, trainer, pl_module):
        self.write(trainer, "start")

    def on_train_batch_end(self, trainer, *_):
        self.write(trainer, "step")
        time.sleep(0.05)  # so that there is time to be killed

    def on_train_end(self, trainer, pl_module):
        self.write(trainer, "end")
'''


@dataclass(frozen=True)
class Grid:
    """A user's folder with a text, a configuration directory, and a sweep of tiny cells."""

    folder: Path
    cells: int
    workers: int

    def write(self) -> None:
        each = len(EXPERIMENTS)
        assert self.cells % each == 0, f"cells={self.cells} must be a multiple of {each}"
        (self.folder / "story.txt").write_text(english(330))
        (self.folder / "diary.py").write_text(DIARY)
        seeds = ",".join(map(str, range(self.cells // each)))
        params = {"seed": seeds, "experiments": ",".join(EXPERIMENTS)}  # measurements come all along
        sweep = {"group": "killed", "hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}
        files = {"sweeps/killed": sweep, "callbacks/diary": {"diary": {"_target_": "diary.Diary"}}}
        files |= {f"experiments/{name}": content for name, content in EXPERIMENTS.items()}
        for name, content in files.items():
            path = self.folder / "conf" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            header = "" if name.startswith("callbacks/") else "# @package _global_\n"
            path.write_text(header + yaml.safe_dump(content, sort_keys=False))

    def words(self, store: str) -> list[str]:
        """The words of the sweep into one of the stores."""
        small = [word for word in SMALL if not word.startswith(("scale.steps", "scale.evaluate_every"))]
        return [
            *("sweep=killed", f"workers={self.workers}", f"runs={self.folder / store}", "callbacks=diary"),
            *("data=text", f"data.path={self.folder / 'story.txt'}", f"data.directory={self.folder / 'data'}"),
            *("trainer=cpu", "logger=csv", "threads=1", *small, "scale.evaluate_every=2"),
        ]
