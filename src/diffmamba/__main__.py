"""`diffmamba COMMAND ...`, the same as `python -m diffmamba.COMMAND ...`."""

import os
import sys
from importlib import import_module

from diffmamba.spelling import did_you_mean

COMMANDS = {
    "train": "train one run, or a grid with -m",
    "sweep": "do every work of a file of sweeps/",
    "reproduce": "a published table or figure, from its sweep to its page",
    "report": "the same from the runs there are",
    "measure": "take a measure of given weights",
    "evaluate": "PPL of a trained run, and its loss by position",
    "generate": "text from a trained run",
    "runs": "list, show, compare, draw, remove and export runs",
    "dashboard": "the workspace and the reports of W&B, from files",
    "wandb-sweep": "a grid or search as a sweep of W&B",
    "audit": "what of the published setting can be checked without training",
}
MODULES = {
    "runs": "diffmamba.browse.command",
    "dashboard": "diffmamba.dashboard.command",
    "wandb-sweep": "diffmamba.wandb_sweep",
}
"""The modules of commands that are not called like them."""


def main() -> None:
    """The entry point."""
    sys.path.append(os.getcwd())  # for a user's own models and tasks; no file there hides a library
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in COMMANDS:
        asked = command in ("", "-h", "--help", "help")
        if not asked:
            hint = did_you_mean(command, COMMANDS)
            print(f"error: {command} is not a command; use one of {', '.join(COMMANDS)}{hint}", file=sys.stderr)
            sys.exit(2)
        print("diffmamba COMMAND [setting=value ...], or diffmamba COMMAND --help\n")
        print("\n".join(f"  {name:11} {what}" for name, what in COMMANDS.items()))
        sys.exit(0)
    sys.argv = [f"diffmamba {command}", *sys.argv[2:]]
    import_module(MODULES.get(command, f"diffmamba.{command}")).main()


if __name__ == "__main__":
    main()
