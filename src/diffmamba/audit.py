"""`python -m diffmamba.audit`: is the published setting met, in everything that can be checked without training?"""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from diffmamba import command_line


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("audit", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0, whatever is found."""
    from diffmamba import reports  # here: --help needs none of it
    from diffmamba.paper.auditing import audit
    from diffmamba.paper.compute import Assumed

    assumed = Assumed(settings["device"], *(settings[f"utilisation_{name}"] for name in ("fp32", "tf32", "bf16")))
    seeds = len(settings["seed"].split(",")) if settings["seed"] else None
    scale = [] if any(word.startswith("scale=") for word in words) else ["scale=paper"]  # the published setting
    document, console = audit([*scale, *words], seeds, assumed), Console()
    reports.show(document, console)
    page = reports.write_document(document, Path(settings["reports"]) / "audit", "audit")[-1]
    console.print(f"\nwritten to {page}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    main()
