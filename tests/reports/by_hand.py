"""Sweeps and records made by hand, as the run store would hold them."""

import math
from itertools import product

from rich.console import Console

from diffmamba import reports
from diffmamba.reports import designs

SEEDS = (0, 42)
STAND_INS = {"wikitext103": "pydoc_words", "text8": "pydoc8", "enwik8": "pysrc8"}
LAYERS = {6: 1, 12: 2}
SIZES = {"wikitext103": 300, "text8": 8, "enwik8": 12}  # of the PPL
VARIANTS = [("mamba", False, None), ("mamba", True, None)]
VARIANTS += [
    (m, norm, form) for m, form, norm in product(("diff_s6", "diff_mamba"), ("scalar", "reparam"), (False, True))
]


def make_record(final, epoch=0.1, **changes):
    """A finished run whose test PPL falls to `final`, evaluated each `epoch`."""
    corpus = {"name": "pydoc8", "fingerprint": "9c1d", "sizes": {"train": 3000, "test": 100}, "vocabulary": 27}
    return {
        "status": "finished",
        "git": {"revision": "7df0" * 10, "dirty": False},
        "versions": {"torch": "2.13.0"},
        "hardware": {"device": "cpu", "cores": 2},
        "parameters": {"total": 201234},
        "corpus": corpus,
        "progress": {"step": 150, "steps": 150},
        "evaluations": [
            {"step": 50 * k, "epoch": epoch * k, "tokens": 4096 * k, "val/ppl": 1.0, "test/ppl": final + 3.0 / k - 1.0}
            for k in (1, 2, 3)
        ],
        "wall_seconds": 40.0,
        "tokens_per_second": 25000.0,
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


def failed(message="loss is not finite", step=120):
    """The changes that turn a record into that of a failed run."""
    return {"status": "failed", "error": {"type": "FloatingPointError", "message": message, "step": step}}


def variant(model, outer_norm, lambda_form, seed):
    """What table 2 reads of a resolved configuration. A model of one branch ignores its form of λ."""
    mixers = [{"combine": {"lambda_form": lambda_form}} if lambda_form else {}]
    settings = {"name": model, "outer_norm": outer_norm, "lambda_form": lambda_form or "scalar", "mixers": mixers}
    return {"model": settings, "data": {"name": "pydoc8"}, "seed": seed}


def setting(data, layers, model, seed, embedded=True):
    """What table 1 reads of a resolved configuration."""
    return {
        "published": {"data": data, "layers": layers},
        "data": {"name": STAND_INS[data] if embedded else data},
        "model": {"name": model, "n_layers": LAYERS[layers] if embedded else layers},
        "seed": seed,
    }


def shown(document, width=80):
    """What the terminal shows of a document."""
    console = Console(width=width)
    with console.capture() as captured:
        reports.show(document, console)
    return captured.get()


class Sweep:
    """The planned runs and the records of a sweep; run ids are `CELL-SEED`, such as `03-42`."""

    def __init__(self, kind, name):
        self.design, self.planned, self.records = designs.find(kind, name), [], {}

    def add(self, run_id, config, final, **changes):
        self.planned.append((run_id, config))
        self.records[run_id] = make_record(final, **changes)

    def results(self, scale="smoke", settings=()):
        return reports.results(self.design, self.planned, self.records, scale, settings)

    def document(self):
        return reports.document(self.design, self.results())

    def printed(self, width=80):
        return shown(self.document(), width)

    def write(self, directory):
        return [path.name for path in reports.write(self.design, self.results(), directory)]

    def final(self, cell):
        """The last test PPL of each run of a cell, in order of seeds."""
        return [self.records[f"{cell:02d}-{seed}"]["evaluations"][-1]["test/ppl"] for seed in SEEDS]

    def lose(self, *run_ids):
        for run_id in run_ids or tuple(self.records):
            del self.records[run_id]


def table2(variants=VARIANTS, seeds=SEEDS):
    """All runs of table 2, finished; PPL differ by cell and by seed."""
    sweep = Sweep("table", "table2")
    for (place, cell), seed in product(enumerate(variants), seeds):
        sweep.add(f"{place:02d}-{seed}", variant(*cell, seed), 6.0 - 0.05 * place + 0.01 * math.sin(7 * place + seed))
    return sweep


def table1(kind="table", name="table1", embedded=True, epoch=0.1):
    """All runs of table 1, finished; PPL differ by cell and by seed, and are of another size for each corpus."""
    sweep = Sweep(kind, name)
    for (place, cell), seed in product(enumerate(product(STAND_INS, LAYERS, ("mamba", "diff_mamba"))), SEEDS):
        config = setting(*cell, seed, embedded)
        corpus = {"name": config["data"]["name"], "fingerprint": f"of {config['data']['name']}"}
        final = SIZES[cell[0]] * (1 - 0.01 * place + 0.003 * math.sin(7 * place + seed))
        sweep.add(f"{place:02d}-{seed}", config, final, epoch=epoch, corpus=corpus)
    return sweep


def figure2():
    """All runs of figure 2, which are those of table 1."""
    return table1("figure", "figure2")
