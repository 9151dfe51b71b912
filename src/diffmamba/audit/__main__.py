"""`python -m diffmamba.audit`: is the published setting met, in every figure that can be checked without training?"""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from diffmamba import command_line
from diffmamba.audit import Assumed, layout, run, write
from diffmamba.audit.compute import PRECISIONS, devices
from diffmamba.audit.console import show
from diffmamba.errors import SettingError

USAGE = """usage: python -m diffmamba.audit [scale=paper] [any setting of diffmamba.train]

Checks tables 1 and 2 without training, without a corpus and without a network: parameter counts, hyper-parameters,
steps, learning rates, operations and GPU-hours, the switches in force, and where the paper contradicts itself. Prints
it, and writes audit.json, audit.md and index.html to reports/audit/.

  scale=paper             the published setting; counts are compared at this scale only
  reports=reports         where pages go
  seed=0,42,77            how many seeds the totals are of; the scale's where not given
  device=l40s             of the hours of each cell: a100, h100, l40s or rtx4090
  utilisation_fp32=0.5    share of the peak that training is assumed to reach; also utilisation_tf32=0.35 and
                          utilisation_bf16=0.25. Nothing of it is measured.

Every other word is a setting for all cells, as in: optimizer.schedule=to_end model.lambda_index=mixers"""

UTILISATION = "utilisation_"
DEFAULTS = {"scale": "paper", "reports": "reports", "seed": "", "device": Assumed.device} | {
    UTILISATION + precision: getattr(Assumed, precision) for precision in PRECISIONS
}

LEAST_WIDTH = 100  # of the widest table


def main(words: list[str]) -> int:
    """The entry point: 0, whatever is found."""
    settings, overrides = command_line.parse(words, DEFAULTS)
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)  # a number is never cut off, a narrow terminal folds the line
    seeds = len(settings["seed"].split(",")) if settings["seed"] else None
    result = run([f"scale={settings['scale']}", *overrides], seeds, assumed(settings))
    document = layout(result)
    directory = Path(settings["reports"]) / "audit"
    show(document, console)
    path = write(result, document, directory)[-1]
    console.print(f"\nwritten to {path}", highlight=False, soft_wrap=True)
    return 0


def assumed(settings: dict) -> Assumed:
    """Device and utilisation from the settings, checked."""
    if settings["device"] not in devices():
        raise SettingError(f"device={settings['device']} is not known; use one of {', '.join(devices())}")
    shares = {precision: settings[UTILISATION + precision] for precision in PRECISIONS}
    for precision, share in shares.items():
        if not 0 < share <= 1:
            raise SettingError(f"{UTILISATION}{precision}={share} must be above 0 and at most 1")
    return Assumed(**asdict(Assumed()) | shares | {"device": settings["device"]})


if __name__ == "__main__":
    command_line.run(main, USAGE)
