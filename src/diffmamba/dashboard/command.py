"""`python -m diffmamba.dashboard what=table2`: the pages of W&B, created or brought up to date."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from diffmamba import atomic, command_line
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.terminal import say, terminal


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("dashboard", run))


def run(settings: dict[str, Any]) -> int:
    """0 if all pages are as the descriptions say, or if only their data were to be written; else 1."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise SettingError("dashboards need the library wandb-workspaces: pip install -e '.[dashboard]'")
    with command_line.importing():  # here: --help needs none of it
        from diffmamba.dashboard import choice, offline, pages, sending, variants
        from diffmamba.runs import index
        from diffmamba.runs.store import RunStore

    store, console, reports = RunStore(settings["runs"]), terminal(), Path(settings["reports"])
    entries = list(index.entries(store).values()) if store.directory.is_dir() else []
    groups = variants.groups(entries)
    wanted = choice.names(groups) if settings["what"] == "all" else [settings["what"]]
    told = {name: choice.find(name, groups) for name in wanted}
    shown = [variants.shown(name, one, entries, settings["scale"]["name"]) for name, one in told.items()]
    sender, trouble = None, ""
    without = settings["dry"] or offline.is_offline()
    if not without:
        try:
            sender = sending.Sender(settings["entity"], settings["project"])
        except sending.SendingError as error:
            trouble = str(error)
    entity = sender.entity if sender else settings["entity"] or ""
    for page in shown:
        make = pages.report if page.description.group else pages.workspace
        made = sender.made(page) if sender else make(page, entity, settings["project"])
        _write(reports, offline.name_of(page.name), page.scale, pages.sent(made), console)
        if sender and not trouble:
            try:
                say(console, f"{page.name}: {sender.send(page)}")
            except sending.SendingError as error:
                trouble = f"{page.name}: {error}"
    if trouble:
        tell(f"error: W&B: {trouble}; what was to be sent is in {reports / 'dashboard'}")
    if without or trouble:
        _look_now(shown, store, reports, console)
    return int(bool(trouble))


def _write(reports: Path, name: str, scale: str, data: dict[str, Any], console: Console) -> None:
    """Writes what saving a page sends."""
    path = reports / "dashboard" / f"{'-'.join(filter(None, [name, scale]))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, data)
    say(console, f"{name}: written to {path}")


def _look_now(shown: Any, store: Any, reports: Path, console: Console) -> None:
    """Says how to look at the runs on this machine, and how to send them later."""
    from diffmamba.dashboard import offline

    folders = {page.description.group: page.entries for page in shown if page.description.group and page.entries}
    made = [folder for group, runs in folders.items() if (folder := offline.link(reports, group, runs, store))]
    for folder in made:
        say(console, f"to see its runs now: wandb leet {folder}")
        say(console, f"to send them later, after wandb login: wandb sync {folder}/offline-run-*")
    if not made:
        say(console, "no run of these pages has a session of W&B, so there is nothing to look at yet")


if __name__ == "__main__":
    main()
