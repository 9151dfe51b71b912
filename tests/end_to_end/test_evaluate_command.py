"""`python -m diffmamba.evaluate`: the figures of a trained run, in windows of any length and stride."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmamba import command_line, configuration, evaluate
from diffmamba.models import LanguageModel
from diffmamba.runs import Record
from diffmamba.runs.provenance import git_state
from diffmamba.trained import TrainedRun

Evaluated = Callable[..., dict[str, Any]]
WHOLE = ("scale.eval_windows=null",)  # evaluations during training are of whole splits then
ADAPTIVE = ("data.symbols=words", "model/embedding=adaptive", "model.embedding.cutoffs=[3,7]", "scale.batch_size=2")
ADAPTIVE += ("model.embedding.softmax_dropout=0.5", "scale.length=4")


@pytest.fixture(scope="module")
def runs(new_world: Callable[[str], Any]) -> dict[str, tuple[Any, Record]]:
    """A run of characters and a run of words with an adaptive softmax, with their worlds."""
    settings = {"characters": WHOLE, "words": (*WHOLE, *ADAPTIVE), "half": ("trainer.precision=bf16-mixed",)}
    trained = {}
    for name, words in settings.items():
        world = new_world(name)
        trained[name] = (world, world.train(*words))
    return trained


@pytest.fixture
def evaluated(runs: dict[str, tuple[Any, Record]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluated:
    def call(name: str, *words: str) -> dict[str, Any]:
        world, record = runs[name]
        out = tmp_path / "figures.json"
        assert evaluate.main([f"run={world.run(record).directory}", f"out={out}", "device=cpu", *words]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert captured.out.endswith(f"{out}\n")
        return json.loads(out.read_text()) | {"said": captured.out}

    return call


@pytest.mark.parametrize("name", ["characters", "words"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_by_default_it_is_what_the_run_recorded(
    runs: dict[str, tuple[Any, Record]], evaluated: Evaluated, name: str, split: str
) -> None:
    _, record = runs[name]
    found = evaluated(name, f"split={split}")
    last = record["evaluations"][-1]
    assert found["nats"] == pytest.approx(last[f"{split}/loss"], rel=1e-6)
    assert found["ppl"] == pytest.approx(last[f"{split}/ppl"], rel=1e-6)
    assert found["bits"] == pytest.approx(last[f"{split}/bpc"], rel=1e-6)
    assert found["predicted"] == record["corpus"]["sizes"][split] - 1
    assert found["checkpoint"] == {"name": "last", "step": 12}


def test_best_checkpoint_is_the_one_of_the_lowest_validation_loss(
    runs: dict[str, tuple[Any, Record]], evaluated: Evaluated
) -> None:
    best = min(runs["characters"][1]["evaluations"], key=lambda evaluation: evaluation["val/loss"])
    found = evaluated("characters", "checkpoint=best")
    assert found["checkpoint"] == {"name": "best", "step": best["step"]}
    assert found["nats"] == pytest.approx(best["test/loss"], rel=1e-6)


def test_a_few_windows_in_bfloat16_are_those_of_the_run(
    runs: dict[str, tuple[Any, Record]], evaluated: Evaluated
) -> None:
    """The run's precision, and the four windows that the run itself evaluates."""
    found = evaluated("half", "limit=4", "batch=3")
    assert found["settings"]["precision"] == "bf16-mixed"
    assert found["windows"] == 4
    assert found["nats"] == pytest.approx(runs["half"][1]["evaluations"][-1]["test/loss"], rel=1e-6)


def brute_force(network: LanguageModel, symbols: list[int], window: int, stride: int) -> tuple[float, list[float]]:
    """All windows one after the other, all logits, and each symbol where it is met first."""
    counted: dict[int, float] = {}
    positions: list[list[float]] = [[] for _ in range(window)]
    start = 0
    while len(counted) < len(symbols) - 1:
        inputs = symbols[start : start + window]
        logs = network(torch.tensor([inputs]))[0].log_softmax(-1)
        for position in range(min(window, len(symbols) - 1 - start)):
            cost = -logs[position, symbols[start + position + 1]].item()
            counted.setdefault(start + position + 1, cost)
            positions[position].append(cost)
        start += stride
    return sum(counted.values()) / len(counted), [sum(costs) / len(costs) for costs in positions]


@pytest.mark.parametrize("name", ["characters", "words"])
@pytest.mark.parametrize(("window", "stride"), [(9, 2), (7, 7), (13, 1)])
@torch.no_grad()
def test_sliding_windows_are_the_loop_over_them(
    runs: dict[str, tuple[Any, Record]], evaluated: Evaluated, name: str, window: int, stride: int
) -> None:
    world, record = runs[name]
    trained = TrainedRun(world.run(record).directory)
    symbols = trained.corpus().split("test").tolist()
    nats, positions = brute_force(trained.network(), symbols, window, stride)
    found = evaluated(name, f"window={window}", f"stride={stride}", "batch=3")
    assert found["nats"] == pytest.approx(nats, rel=1e-5)
    assert found["position_nats"] == pytest.approx(positions, rel=1e-5)
    assert found["predicted"] == len(symbols) - 1
    assert sum(found["position_counts"]) >= found["predicted"]


def test_the_figures_say_what_they_are_of(runs: dict[str, tuple[Any, Record]], evaluated: Evaluated) -> None:
    _, record = runs["characters"]
    found = evaluated("characters", "window=12", "stride=5")
    assert found["run"] == record["id"]
    assert found["corpus"] == {
        "name": "story",
        "fingerprint": record["corpus"]["fingerprint"],
        "split": "test",
        "size": record["corpus"]["sizes"]["test"],
    }
    expected = {"window": 12, "stride": 5, "limit": 0, "batch": 3 * 16 // 12, "precision": "32-true"}
    assert found["settings"] == expected
    assert found["git"] == git_state(configuration.ROOT)
    assert found["hardware"]["device"] == "cpu"
    assert found["versions"]["torch"] == torch.__version__
    assert found["ppl"] == pytest.approx(math.exp(found["nats"]))
    assert len(found["position_nats"]) == len(found["position_counts"]) == 12
    for text in (record["id"], "story", f"{found['ppl']:.3f}", f"{found['bits']:.4f}", "9 to 12"):
        assert text in found["said"]


def test_figures_lie_with_the_run_unless_told_otherwise(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory = world.run(world.train()).directory
    for words, name in (
        ((), "story-test-w16-s16-last"),
        (("split=val", "window=8", "stride=2", "checkpoint=best"), "story-val-w8-s2-best"),
        (("limit=2",), "story-test-w16-s16-last-limit2"),
    ):
        evaluate.main([f"run={directory}", "device=cpu", *words])
        assert (directory / "evaluations" / f"{name}.json").is_file()
        assert capsys.readouterr().out.endswith(f"{name}.json\n")
    assert not [path for path in (directory / "evaluations").iterdir() if path.suffix != ".json"]


def test_another_text_of_the_same_symbols(
    runs: dict[str, tuple[Any, Record]], evaluated: Evaluated, tmp_path: Path
) -> None:
    world, record = runs["characters"]
    (tmp_path / "other.txt").write_text("a wolf jumps over the moon " * 20)
    words = ("data=text", f"data.path={tmp_path / 'other.txt'}", f"data.directory={tmp_path}", "scale=smoke")
    found = evaluated("characters", *words, "split=train", "window=8")
    assert found["corpus"]["name"] == "other"
    assert found["corpus"]["fingerprint"] != record["corpus"]["fingerprint"]
    trained = TrainedRun(world.run(record).directory)
    symbols = trained.corpus().vocabulary.encode("a wolf jumps over the moon " * 20)[: found["corpus"]["size"]]
    nats, _ = brute_force(trained.network(), symbols, 8, 8)
    assert found["nats"] == pytest.approx(nats, rel=1e-5)


def test_the_runs_own_text_at_another_place(world: Any, tmp_path: Path) -> None:
    """Its symbols are the same, so the run's own corpus need not be where it was."""
    directory = world.run(world.train()).directory
    moved = world.text.rename(tmp_path / "moved.txt")
    configuration._corpus.cache_clear()
    words = [f"run={directory}", "device=cpu", f"data.path={moved}", f"data.directory={tmp_path}"]
    assert evaluate.main(words) == 0
    assert (directory / "evaluations" / "moved-test-w16-s16-last.json").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["run=DIR is missing"]),
        (["run=nowhere"], ["run=nowhere", "result.json"]),
        (["run=RUN", "split=dev"], ["split=dev", "test, val, train"]),
        (["run=RUN", "checkpoint=first"], ["checkpoint=first", "last, best"]),
        (["run=RUN", "device=tpu"], ["device=tpu", "auto, cpu, cuda"]),
        (["run=RUN", "window=-1"], ["window=-1", "at least 1"]),
        (["run=RUN", "window=long"], ["window=long", "number"]),
        (["run=RUN", "stride=17"], ["stride=17", "window=16"]),
        (["run=RUN", "limit=-2"], ["limit=-2"]),
        (["run=RUN", "batch=-2"], ["batch=-2"]),
        (["run=RUN", "windw=9"], ["windw=9", "window"]),
        (["run=RUN", "model=mamba"], ["model=mamba", "data.SETTING"]),
        (["run=RUN", "data.path"], ["data.path is not a setting"]),
        (["run=RUN", "data=nosuch"], ["data=nosuch", "pydoc8", "text8"]),
        (["run=RUN", "data=text"], ["data.path"]),
        (["run=RUN", "data=text", "data.path=nowhere.txt"], ["data.path", "nowhere.txt"]),
        (["run=RUN", "data=text", "data.path=STORY", "data.colour=1"], ["data.colour"]),
        (["run=RUN", "data=text", "data.path=STORY", "+data.source.colour=1"], ["colour"]),
        (["run=RUN", "data=text", "data.path=STORY", "data.symbols=bytes"], ["symbols", "number 0 is 32", "' '"]),
        (["run=RUN", "data=text", "data.path=SHORT", "data.symbols=bytes"], ["short: there are 3 of them", "27"]),
        (["run=RUN", "data=text", "data.path=STORY", "scale=huge"], ["scale/huge", "smoke"]),
        (["run=RUN", "out=STORY/figures.json"], ["out=", "figures.json"]),
        (["run=RUN", "out=FOLDER"], ["out=", "is a folder"]),
    ],
)
def test_what_cannot_be_is_one_line(
    runs: dict[str, tuple[Any, Record]], command: Callable[..., Any], words: list[str], says: list[str]
) -> None:
    world, record = runs["characters"]
    (world.folder / "short.txt").write_text("a b" * 40)
    places = {"RUN": world.run(record).directory, "STORY": world.text, "FOLDER": world.folder}
    places["SHORT"] = world.folder / "short.txt"
    for name, place in places.items():
        words = [word.replace(f"={name}", f"={place}") for word in words]
    if any(word.startswith("data.path=") for word in words):
        words = [*words, f"data.directory={world.folder / 'data'}"]
    outcome = command(lambda: command_line.run(evaluate.main, evaluate.USAGE), words)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert all(text in outcome.err for text in says), outcome.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(runs: dict[str, tuple[Any, Record]], command: Callable[..., Any]) -> None:
    world, record = runs["characters"]
    words = [f"run={world.run(record).directory}", "device=cuda"]
    outcome = command(lambda: command_line.run(evaluate.main, evaluate.USAGE), words)
    assert (outcome.status, outcome.err.splitlines()) == (
        2,
        ["error: device=cuda finds no CUDA device here; device=cpu or device=auto would do"],
    )


def test_symbols_in_another_order_are_named(world: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    """As many words, but the most frequent ones are others."""
    world.write_text("one two two three three three\n" * 60)
    record = world.train("data.symbols=words", "scale.batch_size=2", "scale.length=4")
    (tmp_path / "other.txt").write_text("one one one two three three\n" * 60)
    path = f"data.path={tmp_path / 'other.txt'}"
    words = [
        f"run={world.run(record).directory}",
        "data=text",
        path,
        "data.symbols=words",
        f"data.directory={tmp_path}",
    ]
    outcome = command(lambda: command_line.run(evaluate.main, evaluate.USAGE), words)
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "other symbols than those of other: number" in outcome.err
    assert "'one', where the run's own story has 'three'" in outcome.err


def test_weights_that_are_not_finite_are_told(world: Any, command: Callable[..., Any]) -> None:
    run = world.run(world.train())
    checkpoint = torch.load(run.last_checkpoint, weights_only=True)
    checkpoint["state_dict"]["network.embedding.weight"].fill_(math.nan)
    torch.save(checkpoint, run.last_checkpoint)
    outcome = command(lambda: command_line.run(evaluate.main, evaluate.USAGE), [f"run={run.directory}", "device=cpu"])
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "loss of nan" in outcome.err
    assert not list((run.directory / "evaluations").iterdir())


def test_help_names_every_setting(command: Callable[..., Any]) -> None:
    outcome = command(lambda: command_line.run(evaluate.main, evaluate.USAGE), ["--help"])
    assert (outcome.status, outcome.err) == (0, "")
    assert all(f"{name}=" in outcome.out for name in evaluate.DEFAULTS)
