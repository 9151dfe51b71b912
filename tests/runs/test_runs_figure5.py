"""The sweep of figure 5: both published grids, expanded, hold the settings and trainings that are published."""

from collections import Counter

import pytest

from diffmamba.runs.plan import configurations

TASKS = {
    "compression": {"vocabulary": 16, "length": 32, "examples": 12_800},
    "fuzzy_in_context_recall": {"vocabulary": 16, "length": 128, "examples": 12_800},
    "in_context_recall": {"vocabulary": 16, "length": 128, "examples": 12_800},
    "memorization": {"vocabulary": 256, "length": 32, "examples": 256},
    "noisy_in_context_recall": {"vocabulary": 32, "length": 128, "examples": 12_800, "noise": 0.2},
    "selective_copying": {"vocabulary": 16, "length": 256, "examples": 12_800, "copy": 16},
}
PAPER = {
    "compression": {"vocabulary": [32, 64], "length": [64, 128], "examples": [6400]},
    "fuzzy_in_context_recall": {"vocabulary": [32, 64], "length": [512], "examples": [6400]},
    "in_context_recall": {"vocabulary": [32, 64], "length": [256, 512], "examples": [6400]},
    "memorization": {"vocabulary": [512, 1024, 2048, 4096, 8192]},
    "noisy_in_context_recall": {"vocabulary": [48], "length": [512], "examples": [6400], "noise": [0.6]},
    "selective_copying": {"vocabulary": [32], "length": [512], "examples": [6400], "copy": [32]},
}
LENGTHS, EXAMPLES = [256, 512, 1024], [6400, 3200, 1600, 800]
MAD = {
    "compression": {"vocabulary": [32, 64, 128], "length": [64, 128, 256], "examples": EXAMPLES},
    "fuzzy_in_context_recall": {"vocabulary": [32, 64, 128], "length": LENGTHS, "examples": EXAMPLES},
    "in_context_recall": {"vocabulary": [32, 64, 128], "length": LENGTHS, "examples": EXAMPLES},
    "memorization": {"vocabulary": [512, 1024, 2048, 4096, 8192]},
    "noisy_in_context_recall": {
        "vocabulary": [48, 80, 144],
        "length": LENGTHS,
        "examples": EXAMPLES,
        "noise": [0.4, 0.6, 0.8],
    },
    "selective_copying": {
        "vocabulary": [32, 64, 128],
        "length": [512, 1024],
        "examples": EXAMPLES,
        "copy": [32, 64, 96],
    },
}


@pytest.mark.parametrize(("scale", "grid", "settings"), [("paper", PAPER, 33), ("mad", MAD, 66)])
def test_a_model_has_the_published_settings_each_with_six_of_the_optimiser(
    scale: str, grid: dict, settings: int
) -> None:
    expected = Counter(
        (task, *(baseline | change).items())
        for task, baseline in TASKS.items()
        for change in [{}, *({name: value} for name, values in grid[task].items() for value in values)]
    )
    assert sum(expected.values()) == len(expected) == settings
    found, optimisers = Counter(), Counter()
    for config in configurations("figure5", [f"scale={scale}", "model=mamba"]):
        data, optimizer = config["data"], config["optimizer"]
        found[data["name"], *((name, data[name]) for name in TASKS[data["name"]])] += 1
        optimisers[optimizer["learning_rate"], optimizer["weight_decay"]] += 1
        sizes = (1024, 4, ["mixer"], 128) if scale == "paper" else (128, 2, ["mixer", "swiglu"], 32)
        model = config["model"]
        assert (model["d_model"], model["n_layers"], model["layer"], model["headdim"]) == sizes
        assert (model["d_state"], model["residual"], model["dropout"]) == (64, "pre_norm", 0)
        assert (config["seed"], config["data"]["seed"], config["budget"]["epochs"]) == (12345, 12345, 200)
        assert (data["batch_size"], data["evaluated"], optimizer["final_learning_rate"]) == (128, 1280, 1e-6)
    assert found == Counter(dict.fromkeys(expected, 6))
    assert set(optimisers) == {(rate, decay) for rate in (1e-4, 5e-4, 1e-3) for decay in (0.0, 0.1)}
