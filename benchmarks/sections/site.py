"""The site of a store of many runs: the first build, one after a run has changed, and pages in a browser."""

import copy
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.record import Found, Ratio
from benchmarks.sections.sweeps import TINY, WORDS
from benchmarks.timing import now
from diffmamba.configuration import composed
from diffmamba.runs.execution import execute, work_of

ASKED = {"site, first": 60.0, "site, one changed": 5.0, "longest task": 0.2}
"""Seconds that these may take at most."""
LOGGED = 200  # rows of a run
RATES = 40  # learning rates, so that runs differ in more than their seeds
PROBE = """<script>
const tasks = [0];
new PerformanceObserver((seen) => tasks.push(...seen.getEntries().map((one) => one.duration)))
  .observe({type: "longtask", buffered: true});
addEventListener("load", () => {
  const scrolling = setInterval(() => scrollBy(0, 300), 100);
  setTimeout(() => {
    clearInterval(scrolling);
    document.body.dataset.longest = Math.max(...tasks);
  }, 6000);
});
</script>"""
"""Goes through a page and leaves the milliseconds of the longest task in it. The browser tells of those above 50."""


def measure(bench: Bench) -> Found:
    """Whole commands on a store of copies of one record, each under an id, a seed and a learning rate of its own."""
    number = bench.sizes.sweep_records
    bench.tell(f"site: of {number} runs")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _fill(folder, number)
        yield _against(bench, "site, first", f"the site of {number:,} runs", _command(folder))
        changed = folder / "runs" / f"t{number // 2:011x}" / "result.json"
        changed.write_text(changed.read_text() + "\n")
        yield _against(bench, "site, one changed", "the site after a run has changed", _command(folder))
        if browser := shutil.which("chromium"):
            for page, what in (("index.html", "the overview"), (f"runs/t{0:011x}.html", "the page of a run")):
                bench.tell(f"site: {what} in a browser")
                longest = _longest_task(browser, folder / "reports" / page)
                yield _against(bench, "longest task", f"the longest task when {what} is opened", longest)
        else:
            yield "Pages were not opened: there is no Chromium here."


def _fill(folder: Path, number: int) -> None:
    """Trains one tiny run and makes a store of its copies."""
    (folder / "text.txt").write_text(WORDS * 30)
    words = [f"data.path={folder / 'text.txt'}", "data=text", f"data.directory={folder / 'data'}", *TINY]
    execute(work_of(composed([*words, f"runs={folder / 'cells'}"])), False)
    template = json.loads(next((folder / "cells").glob("*/result.json")).read_text())
    template.pop("seal", None)
    names = ("step", "train/loss", "train/learning_rate", "train/tokens_per_second", "gradient/total", "lambda/1")
    for index in range(number):
        record = copy.deepcopy(template) | {"id": f"t{index:011x}"}
        record["config"] |= {"seed": index // RATES, "runs": str(folder / "runs")}
        record["config"]["scale"]["learning_rate"] = record["config"]["optimizer"]["learning_rate"] = 0.001 * (
            1 + index % RATES
        )
        place = folder / "runs" / record["id"]
        (place / "csv").mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(record, indent=1))
        with (place / "csv" / "metrics.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(names)
            waves = (math.sin(step + index) for step in range(LOGGED))
            rows.writerows((step, 3 + wave, 0.001, 40_000 + wave, 1 + wave, wave) for step, wave in enumerate(waves))


def _command(folder: Path) -> float:
    began = now()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "diffmamba.report"], cwd=folder, env=environment, check=True)
    return now() - began


def _longest_task(browser: str, page: Path) -> float:
    """Seconds of the longest task in a page while it is opened and scrolled through. Only those above 50 ms count."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("<head>", f"<head>{PROBE}", 1))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000", "--dump-dom")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [browser, *options, f"--user-data-dir={profile}", probed.as_uri()]
        shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    probed.unlink()
    found = re.search(r'data-longest="([\d.]+)"', shown)
    assert found is not None
    return float(found[1]) / 1000


def _against(bench: Bench, what: str, row: str, seconds: float) -> tuple[dict[str, list[float]], Ratio]:
    """Seconds against those that are asked for."""
    taken = {"ours": [max(seconds, 1e-3)], "other": [ASKED[what]]}
    return taken, Ratio(f"{row}: against {ASKED[what]:g} s", target=bench.target(what))
