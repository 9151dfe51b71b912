"""Configurations at random: each trains to its end, or is refused in one line before anything is written.

Settings are drawn from all groups, with values that fit and values that do not, of every type. `make test` tries ten;
`DIFFMAMBA_EXAMPLES=500 pytest tests/end_to_end/test_random_configurations.py` tries as many as one likes.
"""

import re
from typing import Any

from hypothesis import Phase, example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from diffmamba.configuration import composed
from diffmamba.validation import names_in
from tests.examples import few

BASE = ("scale.steps=2", "scale.evaluate_every=1", "scale.eval_windows=2", "scale.warmup_steps=1")
CHOICES = {
    "model": ["mamba", "diff_mamba", "diff_s6", "naive_diff", "transformer", "diff_transformer", "diff_mamba_hybrid"],
    "model/embedding": ["auto", "full", "adaptive"],
    "trainer": ["cpu", "auto", "gpu"],
    "weights": ["fresh", "file", "run", "trained"],
    "logger": ["csv"],
    "experiments": ["table1", "table2"],
    "measure": ["perplexity"],
}
PLACES = ("runs", "data.directory", "data.path", "data.source", "data.module.corpus", "hydra", "published", "sweeps")
"""Settings that say where things lie, which this test sets itself, and those that a grid needs."""
ODD = [
    *(
        "abc",
        "''",
        "λ",
        "null",
        "true",
        "false",
        "1e3",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "0.0",
        "0.5",
        "1",
        "1.0",
        "8.0",
    ),
    *("2", "3", "16", "1.5", "-0.1", "4294967296", "99999999999999999999", "2147483647", "[]", "[0.9]", "[0.9,0.99]"),
    *("[1,2,3]", "{a:1}", "{}", "auto", "cuda", "mamba1", "-5", "64", "10"),
]


def settings_of(config: Any) -> list[str]:
    """All settings and groups of the composed configuration."""
    return [name for name in names_in(config) if not name.startswith(PLACES) and not name.endswith("_partial_")]


DEFAULT = OmegaConf.create(composed([]))
NAMES = sorted({name for model in CHOICES["model"] for name in settings_of(composed([f"model={model}", "logger=csv"]))})
KNOWN = re.compile(
    "|".join(sorted(map(re.escape, {*NAMES, *CHOICES, "data", "checkpoint", "run="}), key=len, reverse=True))
)


@st.composite
def words(draw: st.DrawFn) -> list[str]:
    """Some choices of groups, and up to four settings; in one of two of these the value is like the default."""
    chosen = draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=2, unique=True))
    found = [f"{group}={draw(st.sampled_from(CHOICES[group]))}" for group in chosen]
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        value = OmegaConf.select(DEFAULT, name)
        if draw(st.booleans()) and isinstance(value, int | float) and not isinstance(value, bool):
            near = (
                [value, value * 2, value / 2, value + 1] if isinstance(value, float) else [value, value * 2, value + 1]
            )
            found.append(f"{name}={draw(st.sampled_from(near))}")
        else:
            found.append(f"{draw(st.sampled_from(['', '', '', '+', '~']))}{name}={draw(st.sampled_from(ODD))}")
    return found


@given(words())
@example(["optimizer.betas=[0.9]"])
@example(["model.n_layers=2147483647"])
@example(["scale.d_model=2147483647"])
@few(10, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
def test_a_random_configuration_trains_or_is_refused_in_one_line(story: Any, command: Any, drawn: list[str]) -> None:
    world = story[0]
    store = world.folder / "random"
    before = set(store.rglob("*.json")) if store.exists() else set()
    outcome = command("train", world.words(*BASE, f"runs={store}", *drawn))
    said = (drawn, outcome)
    assert "Traceback" not in outcome.out + outcome.err, said
    written = set(store.rglob("*.json")) - before if store.exists() else set()
    if outcome.status == 2:
        lines = outcome.err.splitlines()
        assert len(lines) == 1, said
        assert lines[0].startswith("error: "), said
        assert KNOWN.search(lines[0]), said
        assert not written, said
    elif outcome.status == 1:  # with these numbers it diverges, and the record says so
        assert re.search("loss is (nan|inf)", outcome.err), said
    else:
        assert outcome.status == 0, said
        assert "PPL" in outcome.out or "not trained again" in outcome.out, said
