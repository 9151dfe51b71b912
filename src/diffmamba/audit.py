"""`python -m diffmamba.audit`: is the published setting met, in everything that can be checked without training?"""

import sys
from dataclasses import replace
from typing import Any

from diffmamba import command_line
from diffmamba.configuration import composed
from diffmamba.errors import SettingError
from diffmamba.page_writing import saved
from diffmamba.terminal import terminal


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("audit", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0, whatever is found."""
    with command_line.importing():  # here: --help needs none of it
        from diffmamba import reports
        from diffmamba.paper.auditing import audit
        from diffmamba.paper.compute import Assumed

    assumed = Assumed(settings["device"], *(settings[f"utilisation_{name}"] for name in ("fp32", "tf32", "bf16")))
    listed = settings["seed"].split(",") if settings["seed"] else []
    if wrong := next((one for one in listed if not one.strip().isdecimal()), None):
        raise SettingError(
            f"seed={settings['seed']}: {wrong!r} is no seed; write whole numbers with commas, such as 0,42"
        )
    seeds = len(listed) or None
    scale = [] if any(word.startswith("scale=") for word in words) else ["scale=paper"]  # the published setting
    document, console = audit([*scale, *words], seeds, assumed), terminal()
    defaults = composed([], "audit")
    own = [f"{name}={value}" for name, value in settings.items() if name != "reports" and value != defaults[name]]
    told = reports.pages.telling(word for word in [*own, *words] if word != "scale=paper")
    if told:
        document = replace(document, title=f"{document.title} With {' '.join(told)}")
    reports.show(document, console)
    console.print()
    directory = reports.pages.directory(settings["reports"], "audit", told)
    return saved(lambda: reports.write_document(document, directory, "audit"), directory, console)


if __name__ == "__main__":
    main()
