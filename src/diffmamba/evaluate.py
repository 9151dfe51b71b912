"""`python -m diffmamba.evaluate run=runs/3f2a9c01b7de stride=64`: PPL of a trained run, and its loss by position."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from lightning.fabric import Fabric
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from diffmamba import command_line, configuration
from diffmamba.allocator import keep_freed_memory
from diffmamba.data import Corpus
from diffmamba.data.sliding import SlidingWindows
from diffmamba.errors import SettingError
from diffmamba.ops import backend
from diffmamba.runs.provenance import git_state, hardware, versions
from diffmamba.runs.store import write_json
from diffmamba.tasks.evaluation import Evaluation, evaluate, perplexity
from diffmamba.trained import CHECKPOINTS, TrainedRun

USAGE = """usage: python -m diffmamba.evaluate run=DIR [data=NAME] [data.SETTING=VALUE ...] [split=test|val|train]
                                    [window=0] [stride=0] [limit=0] [batch=0] [checkpoint=last|best]
                                    [device=auto|cpu|cuda] [out=FILE]

PPL, nats and bits per symbol of a trained run, and its loss by position in the window, in windows that may overlap.
Every symbol of the split but the first counts once, in the first window that holds it: with a small stride, each is
predicted from nearly a whole window of symbols before it.

  run=DIR           a directory of the run store
  data=NAME         a corpus of conf/data with the run's own symbols, and its settings (data=text data.path=FILE);
                    without it the corpus that the run was trained on
  window=N          symbols per window; 0: as in training
  stride=N          symbols from the start of a window to that of the next; 0: the window, as in the run's evaluations
  limit=N           that many windows, spread evenly over the split, for a quick look; 0: all
  batch=N           windows at once; 0: as many symbols at once as in the run's evaluations
  out=FILE          the figures as JSON; without it
                    DIR/evaluations/CORPUS-SPLIT-wWINDOW-sSTRIDE-CHECKPOINT.json

It computes in the precision that the run was trained in."""

DEFAULTS = {
    "run": "",
    "data": "",
    "split": "test",
    "window": 0,
    "stride": 0,
    "limit": 0,
    "batch": 0,
    "checkpoint": "last",
    "device": "auto",
    "out": "",
}
CHOICES = {"split": ("test", "val", "train"), "checkpoint": CHECKPOINTS, "device": ("auto", "cpu", "cuda")}
COMPOSED = ("data.", "+data.", "scale=", "scale.")  # how words begin that are Hydra's, besides data=NAME
SCHEMA = 1


def main(words: list[str]) -> int:
    """The entry point."""
    settings, composed = _settings(words)
    trained = TrainedRun(Path(settings["run"]))
    corpus = _corpus(trained, settings["data"], composed)
    settings = _completed(settings, trained)
    windows = SlidingWindows(
        corpus.split(settings["split"]),
        settings["window"],
        settings["stride"],
        settings["batch"],
        settings["limit"] or None,
    )
    out = Path(settings["out"] or _default_out(settings, trained, corpus))
    _make_folder(out)
    fabric, started = _fabric(settings["device"], trained), time.monotonic()
    evaluation = _evaluate(fabric, trained, settings["checkpoint"], windows)
    _check_finite(evaluation, settings, corpus)
    facts = _facts(settings, trained, corpus, evaluation) | {
        "seconds": time.monotonic() - started,
        "hardware": hardware(fabric.device),
        "operators": {"backend": backend.describe(fabric.device)},
    }
    write_json(out, facts)
    show(facts, evaluation, Console())
    print(out)
    return 0


def _settings(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of this command, and the words that Hydra composes a corpus from."""
    settings, others = command_line.parse(words, DEFAULTS)
    unknown = [word for word in others if not word.startswith(COMPOSED) or "=" not in word]
    if unknown:
        raise SettingError(f"{unknown[0]} is not a setting; use {', '.join(DEFAULTS)}, or data.SETTING=VALUE")
    if not settings["run"]:
        raise SettingError("run=DIR is missing: which directory of the run store to take; --help says more")
    for name, choices in CHOICES.items():
        if settings[name] not in choices:
            raise SettingError(f"{name}={settings[name]} is not known; use one of {', '.join(choices)}")
    for name in ("window", "stride", "limit", "batch"):
        if settings[name] < 0:
            raise SettingError(f"{name}={settings[name]} must be at least 1, or 0 for the default")
    if settings["device"] == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda finds no CUDA device here; device=cpu or device=auto would do")
    return settings, others


def _completed(settings: dict[str, Any], trained: TrainedRun) -> dict[str, Any]:
    """With the run's own values where none is given."""
    fed = trained.record["config"]["data"]
    window = settings["window"] or fed["length"]
    batch = settings["batch"] or max(1, fed["eval_batch_size"] * fed["length"] // window)
    return settings | {"window": window, "stride": settings["stride"] or window, "batch": batch}


def _corpus(trained: TrainedRun, name: str, words: Sequence[str]) -> Corpus:
    """The run's own corpus, or the one that is named."""
    if not name and not words:
        return trained.corpus()
    corpus = _compose_corpus(name or trained.record["config"]["data"]["name"], words)
    trained.check_symbols(corpus)
    return corpus


def _compose_corpus(name: str, words: Sequence[str]) -> Corpus:
    known = sorted(path.stem for path in Path(configuration.CONF, "data").glob("*.yaml"))
    if name not in known:
        raise SettingError(f"data={name} is not known; use one of {', '.join(known)}")
    try:
        with initialize_config_dir(configuration.CONF, version_base="1.3"):
            config = compose("train", overrides=[f"data={name}", *words])
        return configuration.corpus(configuration.resolved(config)["data"])
    except HydraException as error:
        raise SettingError(" ".join(str(error.__cause__ or error).split())) from error


def _default_out(settings: dict[str, Any], trained: TrainedRun, corpus: Corpus) -> Path:
    parts = [corpus.name, settings["split"], f"w{settings['window']}", f"s{settings['stride']}", settings["checkpoint"]]
    if settings["limit"]:
        parts.append(f"limit{settings['limit']}")
    return trained.directory / "evaluations" / f"{'-'.join(parts)}.json"


def _make_folder(out: Path) -> None:
    """Before the computation, lest its figures find no place."""
    if out.is_dir():
        raise SettingError(f"out={out} is a folder; name a file in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out={out} cannot be written: {error.strerror}") from None


def _fabric(device: str, trained: TrainedRun) -> Fabric:
    """Device and precision, the latter the run's."""
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return Fabric(accelerator=accelerator, devices=1, precision=trained.record["config"]["trainer"]["precision"])


def _evaluate(fabric: Fabric, trained: TrainedRun, checkpoint: str, windows: SlidingWindows) -> Evaluation:
    keep_freed_memory()
    network = fabric.setup_module(trained.network(checkpoint))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("windows", total=len(windows))
        return evaluate(
            lambda inputs, targets: network(*fabric.to_device((inputs, targets))),
            windows,
            lambda done: bar.advance(task, done),
        )


def _check_finite(evaluation: Evaluation, settings: dict[str, Any], corpus: Corpus) -> None:
    nats = [evaluation.nats, *evaluation.position_nats]
    if not all(perplexity(value) < float("inf") for value in nats):
        raise SettingError(
            f"run={settings['run']}: its checkpoint {settings['checkpoint']} has a loss of {evaluation.nats} on "
            f"{corpus.name}; it has diverged, or window={settings['window']} is more than it can read"
        )


def _facts(settings: dict[str, Any], trained: TrainedRun, corpus: Corpus, evaluation: Evaluation) -> dict[str, Any]:
    """What the JSON says."""
    chosen = {name: settings[name] for name in ("window", "stride", "limit", "batch")}
    return {
        "schema": SCHEMA,
        "run": trained.record["id"],
        "checkpoint": {"name": settings["checkpoint"], "step": trained.step(settings["checkpoint"])},
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "split": settings["split"],
            "size": corpus.sizes[settings["split"]],
        },
        "settings": chosen | {"precision": trained.record["config"]["trainer"]["precision"]},
        "ppl": evaluation.ppl,
        "bits": evaluation.bits,
        **asdict(evaluation),
        "git": git_state(configuration.ROOT),
        "versions": versions(),
    }


def show(facts: dict[str, Any], evaluation: Evaluation, console: Console) -> None:
    """Two tables: the figures of all symbols, and the loss by position in the window."""
    checkpoint, corpus, settings = facts["checkpoint"], facts["corpus"], facts["settings"]
    console.print(
        f"Run {facts['run']}, checkpoint {checkpoint['name']} (step {checkpoint['step']:,}), on the {corpus['split']} "
        f"split of {corpus['name']} ({corpus['size']:,} symbols): windows of {settings['window']:,}, "
        f"stride {settings['stride']:,}.",
        highlight=False,
    )
    overall = [*_figures(evaluation.nats), f"{evaluation.bits:.4f}"]
    counts = [f"{evaluation.predicted:,}", f"{evaluation.windows:,}"]
    _grid(console, ["PPL", "nats/symbol", "bits/symbol", "symbols", "windows"], [[*overall, *counts]])
    stretches = [
        [f"{first:,}" if first == last else f"{first:,} to {last:,}", *_figures(nats)]
        for first, last, nats in evaluation.buckets()
    ]
    _grid(console, ["position in the window", "PPL", "nats/symbol"], stretches)


def _figures(nats: float) -> list[str]:
    return [f"{perplexity(nats):.3f}", f"{nats:.4f}"]


def _grid(console: Console, headers: list[str], rows: list[list[str]]) -> None:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        grid.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


if __name__ == "__main__":
    command_line.run(main, USAGE)
