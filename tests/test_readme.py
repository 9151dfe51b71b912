"""The README's example of a new mixer, run from the README's own text: one Python file, one YAML file, nothing else."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from diffmamba import configuration
from diffmamba.build import build_network

README = (configuration.CHECKOUT / "README.md").read_text()


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    name = "diffmamba.mixers.retention"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(block("python"), "README.md", "exec"), module.__dict__)
    monkeypatch.setattr(sys.modules["diffmamba.mixers"], "retention", module, raising=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "retention.yaml").write_text(block("yaml"))
    with initialize_config_dir(configuration.CONF, version_base="1.3"):
        words = ["model=retention", f"hydra.searchpath=[file://{tmp_path}]"]
        config = configuration.resolved(compose("train", overrides=words))
    torch.manual_seed(0)
    return build_network(config["model"], 27).double()


def test_example_mixer_decodes_as_it_trains(network: torch.nn.Module) -> None:
    symbols = torch.randint(27, (2, 37))
    logits = network(symbols)
    state = network.allocate_state(2)
    prefix, state = network.extend(symbols[:, :20], state)
    stepped = [prefix]
    for t in range(20, 37):
        one, state = network.extend(symbols[:, t : t + 1], state)
        stepped.append(one)
    torch.testing.assert_close(torch.cat(stepped, dim=1), logits, rtol=1e-9, atol=1e-9)


def test_example_mixer_trains(network: torch.nn.Module) -> None:
    symbols = torch.randint(27, (4, 33))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(network(symbols[:, :-1]).flatten(0, 1), symbols[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_commands_the_readme_names_exist() -> None:
    makefile = (configuration.CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= targets
    models = {path.stem for path in Path(configuration.CONF, "model").glob("*.yaml")}
    table = README.split("**Models**")[1].split("Switches")[0]
    assert models == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
