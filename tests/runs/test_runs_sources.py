"""The digest of the sources of a run: it follows what counts, and nothing else."""

import importlib
import sys
import time
from pathlib import Path

import pytest

from diffmamba.runs import sources

MIXER = '''
"""A mixer."""
import json
import torch
from mine.norm import scale
from . import shapes


class Mixer(torch.nn.Module):
    """Mixes."""
    width: int = 3

    def forward(self, x):
        return scale(x)  # a comment
'''
FILES = {
    "mine/__init__.py": "from .mixer import Mixer\nfrom .other import Other\n",
    "mine/mixer.py": MIXER,
    "mine/norm.py": "def scale(x):\n    from mine import late\n    return late.FACTOR * x\n",
    "mine/late.py": "FACTOR = 2\n",
    "mine/shapes.py": "from mine import mixer\n",  # a circle
    "mine/other.py": "class Other: ...\n",
}
PARTS = {"mine.mixer", "mine.norm", "mine.late", "mine.shapes"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for place, content in FILES.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    sources._installs.cache_clear()


def kept() -> dict:
    return {"sources": sources.of([sources.defining("mine.Mixer")])}


def test_a_package_passes_on_and_only_what_is_needed_counts(folder):
    assert sources.defining("mine.Mixer") == "mine.mixer"
    assert sources.defining("mine.mixer.Mixer.forward") == "mine.mixer"
    assert sources.defining("diffmamba.mixers.Mamba2") == "diffmamba.mixers.mamba2"
    assert sources.defining("diffmamba.data.LanguageModellingData") == "diffmamba.data.datamodule"  # imported late
    record = kept()
    assert record["sources"]["digests"].keys() == PARTS
    assert record["sources"]["files"] == {name: f"{folder}/{name.replace('.', '/')}.py" for name in PARTS}
    assert sources.changed(record) == []
    assert str(folder) not in str(sys.modules.get("mine"))  # nothing was imported


def test_no_installed_or_standard_module_counts():
    found = sources.of(["torch.nn.modules.linear", "json", "lightning", "diffmamba.mixers.mamba2", "nowhere.at_all"])
    assert {name.partition(".")[0] for name in found["digests"]} == {"diffmamba"}
    assert "diffmamba.mixers.mamba2" in found["digests"]
    assert not {"diffmamba.mixers", "diffmamba.mixers.mamba1", "diffmamba.mixers.attention"} & found["digests"].keys()
    assert {"diffmamba.ops.ssd_chunked", "diffmamba.mixers.combine"} <= found["digests"].keys()


def test_packages_that_were_installed_beside_the_users_files_do_not_count(folder):
    (folder / "other-1.0.dist-info").mkdir()
    assert kept()["sources"]["digests"] == {}
    assert sources.of(["torch.nn.functional"])["digests"] == {}


SAME = {
    "a comment": ("# a comment", "# another"),
    "a docstring": ('"""Mixes."""', '"""Mixes well."""'),
    "no docstring": ('    """Mixes."""\n', ""),
    "formatting": ("scale(x)", "scale(\n            x,\n        )"),
}
OTHER = {
    "a number": ("width: int = 3", "width: int = 4"),
    "a call": ("scale(x)", "scale(x) + x"),
    "an import": ("import json", "import math"),
}


@pytest.mark.parametrize(("old", "new", "names"), [
    *((*change, []) for change in SAME.values()),
    *((*change, ["mine.mixer"]) for change in OTHER.values()),
], ids=[*SAME, *OTHER])  # fmt: skip
def test_what_changes_a_result_changes_the_digest(folder, old, new, names):
    record = kept()
    assert old in MIXER
    (folder / "mine" / "mixer.py").write_text(MIXER.replace(old, new))
    assert sources.changed(record) == names
    assert sources.differing(record["sources"], kept()["sources"]) == names


def test_what_is_imported_counts_and_what_is_gone_is_told(folder):
    record = kept()
    (folder / "mine" / "late.py").write_text("FACTOR = 3\n")
    (folder / "mine" / "other.py").write_text("class Other: x = 1\n")
    assert sources.changed(record) == ["mine.late"]
    (folder / "mine" / "late.py").unlink()
    (folder / "mine" / "norm.py").write_text("def broken(:")
    assert sources.changed(record) == ["mine.late (gone)", "mine.norm (gone)"]
    assert sources.names(sources.changed(record)) == ["mine.late", "mine.norm"]


def test_a_project_that_moved_is_found_where_it_is_now(folder, monkeypatch):
    record = kept()
    moved = folder / "moved"
    moved.mkdir()
    (folder / "mine").rename(moved / "mine")
    assert sources.changed(record) == [f"{name} (gone)" for name in sorted(PARTS)]
    monkeypatch.syspath_prepend(str(moved))
    assert sources.changed(record) == []


def test_a_process_says_what_it_has_loaded(folder):
    """A long sweep records the mixer that it trains, not the one that was written to the file meanwhile."""
    importlib.import_module("mine.mixer")
    before = kept()
    (folder / "mine" / "mixer.py").write_text(MIXER.replace("scale(x)", "x"))
    assert kept() == before
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    assert sources.changed(before) == ["mine.mixer"]


def test_what_cannot_be_compared_differs_in_nothing(folder):
    record = kept()
    elsewhere = {**record["sources"], "python": "3.1", "digests": dict.fromkeys(PARTS, "0")}
    for other in (None, {}, elsewhere):
        assert sources.differing(record["sources"], other) == sources.differing(other, record["sources"]) == []
        assert sources.changed({"sources": other}) == []
        assert not sources.comparable({"sources": other})
    assert sources.changed({}) == []
    assert sources.comparable(record)


def test_a_run_of_two_sources_is_told(folder):
    record = kept()
    mixed = record["sources"] | {"mixed": ["mine.norm"]}
    assert sources.changed({"sources": mixed}) == ["mine.norm"]
    assert sources.differing(record["sources"], mixed) == ["mine.norm"]


def test_it_costs_nothing_the_second_time():
    record = {"sources": sources.of(["diffmamba.models.language_model", "diffmamba.mixers.mamba2"])}
    started = time.perf_counter()
    for _ in range(20):
        sources.of(["diffmamba.models.language_model", "diffmamba.mixers.mamba2"])
        sources.changed(record)
    assert (time.perf_counter() - started) / 20 < 0.1


def test_the_cpp_of_the_cpu_operators_counts_with_the_modules_that_call_it(tmp_path, monkeypatch):
    record = {"sources": sources.of(["diffmamba.mixers.mamba2"])}
    assert "diffmamba.ops.cpu.mamba2" in record["sources"]["digests"]
    monkeypatch.setattr(sources, "_native", lambda: "other C++")
    monkeypatch.setattr(sources, "_loaded", {})
    found = sources.changed(record)
    assert "diffmamba.ops.cpu.mamba2" in found
    assert all(name.startswith("diffmamba.ops.cpu.") for name in found)


def test_comments_and_formatting_of_cpp_do_not_count(tmp_path, monkeypatch):
    def digest(text: str) -> str:
        (tmp_path / "a.cpp").write_text(text)
        return sources._native.__wrapped__()

    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    before = digest("int a = 1;  // one\nint b;")
    assert digest("int a = 1;\n\n    int b;  // two") == before
    assert digest("int a = 2;\nint b;") != before
