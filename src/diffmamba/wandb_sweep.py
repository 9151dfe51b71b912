"""`python -m diffmamba.wandb_sweep sweep=table2`: a file of sweeps/ as a sweep of W&B."""

import sys
from pathlib import Path
from typing import Any

import yaml

from diffmamba import atomic, command_line
from diffmamba.errors import SettingError
from diffmamba.terminal import say, terminal

HEADER = """# A sweep of W&B, for `wandb sweep`. `make wandb-sweep` made it of the file of sweeps/ with this name.
# Its store and its Python are those of the machine that wrote it.
"""


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("wandb_sweep", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0; the file is written."""
    with command_line.importing():  # here: --help needs none of it
        from diffmamba.dashboard.specification import specification
        from diffmamba.reports.pages import directory, telling, writing

    name, console = settings["sweep"], terminal()
    if not name:
        raise SettingError("which grid or search? sweep=NAME is a file of sweeps/, such as sweep=table2")
    try:
        told = specification(name, words)
    except SettingError as error:
        raise SettingError(str(error).replace(f"sweeps={name} is", f"sweep={name} is")) from None
    told |= {key: settings[key] for key in ("project", "entity") if settings[key]}
    place = directory(Path(settings["reports"]) / "sweeps", name, telling(words))
    path = place.with_name(f"{place.name}.yaml")
    with writing(Path(settings["reports"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, HEADER + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=10_000))
    cells = told["parameters"].get("cell", {}).get("values")
    what = f"{len(cells)} runs" if cells else f"a search for {', '.join(told['parameters'])}"
    say(console, f"written to {path}: {what}")
    project = "/".join(filter(None, [settings["entity"] or "ENTITY", settings["project"]]))
    say(console, f"next: wandb sweep {path}")
    say(console, f"then, here and on every machine with this store: wandb agent {project}/SWEEP_ID")
    return 0


if __name__ == "__main__":
    main()
