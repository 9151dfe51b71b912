"""`python -m diffmamba.audit`: is the published setting met, in everything that can be checked without training?"""

from pathlib import Path

from rich.console import Console

from diffmamba import command_line, reports
from diffmamba.paper import Assumed, audit
from diffmamba.paper.cases import PUBLISHED_SCALE

USAGE = """usage: python -m diffmamba.audit [scale=paper] [any setting of diffmamba.train]

Checks tables 1 and 2 without training and without a corpus: parameter counts, hyper-parameters, steps, learning rates,
operations and GPU-hours, the settings in force, and where the paper contradicts itself. Prints it, and writes
audit.json, audit.md and index.html to reports/audit/. docs/paper.md explains it.

  scale=paper             the published setting; counts are compared at this scale only
  reports=reports         the folder of all pages
  seed=0,42,77            the seeds that the totals are of; the scale's where not given
  device=l40s             the device that the hours are of: a100, h100, l40s or rtx4090
  utilisation_fp32=0.5    share of the peak that training is assumed to reach; also utilisation_tf32=0.35 and
                          utilisation_bf16=0.25. None of it is measured.

Every other word is a setting for all cells, as in: optimizer.schedule=to_end model.lambda_index=mixers"""

DEFAULTS = {
    "scale": PUBLISHED_SCALE,
    "reports": "reports",
    "seed": "",
    "device": Assumed.device,
    "utilisation_fp32": Assumed.fp32,
    "utilisation_tf32": Assumed.tf32,
    "utilisation_bf16": Assumed.bf16,
}


def main(words: list[str]) -> int:
    """The entry point: 0, whatever is found."""
    settings, overrides = command_line.parse(words, DEFAULTS)
    shares = (settings[f"utilisation_{precision}"] for precision in ("fp32", "tf32", "bf16"))
    seeds = len(settings["seed"].split(",")) if settings["seed"] else None
    document = audit([f"scale={settings['scale']}", *overrides], seeds, Assumed(settings["device"], *shares))
    reports.show(document, Console())
    reports.write_document(document, Path(settings["reports"]) / "audit", name="audit")
    return 0


if __name__ == "__main__":
    command_line.run(main, USAGE)
